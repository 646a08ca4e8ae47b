import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmodel.errors import ProtocolError
from fedmodel.identity import SigningKey
from fedmodel.ledger.merkle import Tree, leaf_hash
from fedmodel.ledger.tree_head import TreeHead
from tests.examples import examples

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
TREE = Tree(leaf_hash(str(i).encode()) for i in range(9))


def head(size: int = 5, key: SigningKey = KEY, **changes: object) -> TreeHead:
    fields: dict[str, object] = {
        "ledger": "x/main",
        "key": key.public.hex(),
        "size": size,
        "root": TREE.root(size).hex(),
        "last": "ab" * 32,
        "time": "2026-01-31T12:00:00Z",
    }
    return TreeHead(**(fields | changes)).signed(key)  # type: ignore[arg-type]


def proof(old: int, new: int) -> list[str]:
    return [node.hex() for node in TREE.proof(old, new)]


def test_round_trip() -> None:
    assert TreeHead.from_json(head().to_json()) == head()
    head().verify(KEY.public.hex())
    with pytest.raises(ProtocolError, match="signed by key"):
        head().verify(OTHER.public.hex())


@pytest.mark.parametrize(
    "change",
    [
        {"size": 6},
        {"root": "00" * 32},
        {"last": "00" * 32},
        {"ledger": "y/main"},
        {"time": "2027-01-31T12:00:00Z"},
        {"key": OTHER.public.hex()},
        {"signature": "00" * 64},
    ],
)
def test_no_field_can_be_changed(change: dict[str, object]) -> None:
    mapping = json.loads(head().to_json()) | change
    with pytest.raises(ProtocolError, match="doesn't verify"):
        TreeHead.from_json(json.dumps(mapping))


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"root": "AB" * 32},
        {"time": "now"},
        {"more": 1},
        {"schema": "fedmodel.head/2"},
        # These have a form, and no canonical one that could have been signed.
        {"size": 2**53},
        {"size": 10**400},
        {"ledger": "\ud800/main"},
    ],
)
def test_no_field_can_be_nonsense(change: dict[str, object]) -> None:
    mapping = json.loads(head().to_json()) | change
    with pytest.raises(ProtocolError, match="not a ledger head"):
        TreeHead.from_json(json.dumps(mapping))


def test_a_head_follows_only_what_it_has_grown_from() -> None:
    for old in range(10):
        for new in range(old, 10):
            head(new).check_follows(head(old), proof(old, new))
    with pytest.raises(ProtocolError, match="rolled back"):
        head(4).check_follows(head(5), [])
    with pytest.raises(ProtocolError, match="different ledgers"):
        head(5, OTHER).check_follows(head(4), proof(4, 5))
    with pytest.raises(ProtocolError, match="different ledgers"):
        head(5, ledger="x/other").check_follows(head(4), proof(4, 5))
    forked = head(5, root="ab" * 32)
    with pytest.raises(ProtocolError, match="don't prove"):
        forked.check_follows(head(4), proof(4, 5))
    with pytest.raises(ProtocolError, match="don't prove"):
        forked.check_follows(head(5), [])
    with pytest.raises(ProtocolError, match="hex"):
        head(5).check_follows(head(4), ["xyz"])


def test_a_signature_is_over_a_head_and_nothing_else() -> None:
    bare = json.loads(head().to_json())
    text = json.dumps({k: v for k, v in bare.items() if k != "signature"}, sort_keys=True)
    signed = replace(head(), signature=KEY.sign(text.encode()).hex())
    with pytest.raises(ProtocolError):
        signed.verify()


@pytest.mark.long
@settings(max_examples=examples(200), deadline=None)
@given(text=st.one_of(st.binary(max_size=300), st.text(max_size=300)))
@example(text=b"[" * 4000)
@example(text=b"[" * 5000)
@example(text="null")
def test_whatever_comes_is_a_head_or_an_error(text: bytes | str) -> None:
    with pytest.raises(ProtocolError):
        TreeHead.from_json(text)
