"""Instructions and greetings on the wire: what is signed, and that nothing else passes for it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel import _hazmat, config, wire
from fedmodel.errors import ProtocolError, UnsignedError
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.wire import Hello, Instruction, Leave

COORDINATOR, SITE, OTHER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
ROSTER = Roster(
    coordinator=COORDINATOR.public.hex(),
    seal="77" * 32,
    members=(
        Member(name="north", key=SITE.public.hex()),
        Member(name="south", key=OTHER.public.hex()),
    ),
)
MEANT = Instruction(
    kind="train",
    run="demo-0123abcd",
    job="ab" * 32,
    roster="cd" * 32,
    joining="ef" * 32,
    member=2,
    round=3,
    attempt=1,
)
HELLO = Hello(run="demo-0123abcd", joining="ef" * 32, roster=ROSTER.sha256)


def order(**changed: Any) -> RecordDict:
    vector = wire.pack(np.arange(5, dtype=np.float32))
    content = wire.encode_order("demo-0123abcd", 3, "ab" * 32, vector, 7)
    wire.add_parcel(content, "secagg", b"shares")
    return wire.sign_content(content, replace(MEANT, **changed), COORDINATOR.sign)


def test_what_is_signed_is_told_again() -> None:
    content = order()
    told = wire.signed_by(content, "train", COORDINATOR.public)
    assert told == replace(MEANT, content=told.content)
    assert wire.decode_order(content).entries == 7
    # Signed anew, for another member: the old signature is gone.
    wire.sign_content(content, replace(MEANT, member=1), COORDINATOR.sign)
    assert wire.signed_by(content, "train", COORDINATOR.public).member == 1


def test_the_signed_bytes_stay_what_they_are() -> None:
    """Other versions verify them: this text, after the domain and a zero byte."""
    record = order()["signed"]
    content = "a16fccb3f6b2145e7b421a10677e78efe3f94861"
    text = str(record["instruction"])
    assert text.startswith('{"attempt":1,"content":"')
    assert text.endswith(
        f'","job":"{"ab" * 32}","joining":"{"ef" * 32}","kind":"train","member":2,'
        f'"roster":"{"cd" * 32}","round":3,"run":"demo-0123abcd"}}'
    )
    assert record["signature"] == COORDINATOR.sign(b"fedmodel.instruction/1\0" + text.encode())
    assert text[24 : 24 + len(content)] == content


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["config"].update({"round": 4}),
        lambda c: c["config"].update({"run": "other"}),
        lambda c: c["config"].update({"entries": 7.0}),
        lambda c: c["config"].update({"entries": "7"}),
        lambda c: c["config"].update({"more": 1}),
        lambda c: c["config"].pop("model"),
        lambda c: c.update({"metrics": MetricRecord({"weight": 1})}),
        lambda c: c.pop("parcels"),
        lambda c: wire.add_parcel(c, "secagg", b"other"),
        lambda c: wire.add_parcel(c, "more", b""),
        lambda c: c["arrays"].update({"second": wire.pack(np.zeros(1, np.float32))}),
        lambda c: c.update({"renamed": c.pop("parcels")}),
    ],
)
def test_whatever_is_changed_shows(change: Any) -> None:
    content = order()
    change(content)
    with pytest.raises(UnsignedError, match=r"isn't what the coordinator signed .*Nothing is"):
        wire.signed_by(content, "train", COORDINATOR.public)


def test_other_parameters_show_when_they_are_read() -> None:
    content = order()
    content["arrays"] = ArrayRecord({"vector": wire.pack(np.ones(5, np.float32))})
    wire.signed_by(content, "train", COORDINATOR.public)
    with pytest.raises(ProtocolError, match="they were changed on the way"):
        wire.decode_order(content)
    # Nor can their name be changed with them: it is in what is signed.
    content.config_records["config"]["model"] = "00" * 32
    with pytest.raises(UnsignedError, match="isn't what the coordinator signed"):
        wire.signed_by(content, "train", COORDINATOR.public)


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", "evaluate"), ("run", "x"), ("member", 1), ("round", 2), ("attempt", 2)]
    + [(name, "00" * 32) for name in ("job", "roster", "joining")],
)
def test_an_instruction_that_was_changed_has_no_signature(name: str, value: Any) -> None:
    content = order()
    record = content["signed"]
    assert isinstance(record, ConfigRecord)
    told = replace(wire.signed_by(content, "train", COORDINATOR.public), **{name: value})
    record["instruction"] = config.canonical(told).decode()
    with pytest.raises(UnsignedError, match="or its instruction was changed on the way"):
        wire.signed_by(content, "train", COORDINATOR.public)


def test_what_is_signed_for_one_kind_of_message_is_no_other() -> None:
    with pytest.raises(UnsignedError, match=r"expected 'evaluate' .* signed as 'train'"):
        wire.signed_by(order(), "evaluate", COORDINATOR.public)


def test_another_key_or_another_domain_is_nobodys() -> None:
    content = order()
    with pytest.raises(UnsignedError, match="isn't that of the key"):
        wire.signed_by(content, "train", SITE.public)
    record = content["signed"]
    assert isinstance(record, ConfigRecord)
    text = str(record["instruction"]).encode()
    for domain in (b"", b"fedmodel.hello/1\0", b"fedmodel.seal/1\0"):
        record["signature"] = COORDINATOR.sign(domain + text)
        with pytest.raises(UnsignedError, match="isn't that of the key"):
            wire.signed_by(content, "train", COORDINATOR.public)


def test_what_is_not_signed_says_what_was_expected_and_what_to_do() -> None:
    content = wire.encode_leave(Leave(run="demo", job_sha256="ab" * 32, failed=False))
    with pytest.raises(UnsignedError, match=r"'query.leave' with the signature of the key"):
        wire.signed_by(content, "query.leave", COORDINATOR.public)


VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=50), st.binary(max_size=80)
)


@pytest.mark.long
@given(st.dictionaries(st.sampled_from(["instruction", "signature", "else"]), VALUES))
def test_whatever_comes_as_a_signature_is_a_typed_error(fields: dict[str, Any]) -> None:
    content = order()
    content["signed"] = ConfigRecord(fields)
    with pytest.raises(UnsignedError):
        wire.signed_by(content, "train", COORDINATOR.public)


@pytest.mark.long
@given(st.one_of(st.text(max_size=80), st.from_regex(r'\{"[a-z]+":[0-9]+\}', fullmatch=True)))
def test_whatever_the_coordinator_signs_is_an_instruction_or_a_typed_error(text: str) -> None:
    content, record = order(), ConfigRecord({"instruction": text})
    record["signature"] = COORDINATOR.sign(b"fedmodel.instruction/1\0" + text.encode())
    content["signed"] = record
    with pytest.raises(UnsignedError):
        wire.signed_by(content, "train", COORDINATOR.public)


def test_an_instruction_without_end_is_refused_before_its_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = order()
    content["signed"] = ConfigRecord({"instruction": "x" * 4097, "signature": b"y"})
    monkeypatch.setattr(_hazmat, "ed25519_verify", None)
    with pytest.raises(UnsignedError, match="at most 4096"):
        wire.signed_by(content, "train", COORDINATOR.public)


# -- greetings -----------------------------------------------------------------------------------


def answer(hello: Hello = HELLO, member: int = 1, node: int = 5, key: SigningKey = SITE) -> Any:
    return wire.answer_hello(hello, member, node, key.sign)


def test_a_site_that_signs_is_who_it_says() -> None:
    assert wire.decode_hello(wire.encode_hello(HELLO)) == HELLO
    assert wire.answered_hello(answer(), HELLO, ROSTER, 5) == 1
    assert wire.answered_hello(answer(member=2, key=OTHER), HELLO, ROSTER, 5) == 2
    large = 2**63 + 1  # Flower's node ids are that large
    assert wire.answered_hello(answer(node=large), HELLO, ROSTER, large) == 1


@pytest.mark.parametrize(
    "said",
    [
        answer(key=OTHER),
        answer(key=COORDINATOR),
        answer(member=2),
        answer(node=6),
        answer(replace(HELLO, joining="00" * 32)),
        answer(replace(HELLO, run="other")),
    ],
)
def test_no_answer_passes_for_another(said: RecordDict) -> None:
    """Of another site, by another node, in another joining or run."""
    with pytest.raises(ProtocolError, match="hasn't signed this joining as that site at this node"):
        wire.answered_hello(said, HELLO, ROSTER, 5)


def test_an_answer_under_another_roster_is_none() -> None:
    other = replace(HELLO, roster=replace(ROSTER, name="another").sha256)
    with pytest.raises(ProtocolError, match="compare the parties' rosters"):
        wire.answered_hello(answer(), other, ROSTER, 5)


@pytest.mark.long
@given(st.dictionaries(st.sampled_from(["version", "member", "signature"]), VALUES))
def test_whatever_comes_as_an_answer_is_a_typed_error(fields: dict[str, Any]) -> None:
    good = dict(answer().config_records["config"])
    content = RecordDict({"config": ConfigRecord(good | fields)})
    if fields:
        with pytest.raises(ProtocolError):
            wire.answered_hello(content, HELLO, ROSTER, 5)


@pytest.mark.parametrize(
    "much",
    [
        {"more": MetricRecord({"values": list(range(1000))})},
        {"more": ConfigRecord({f"v{n}": n for n in range(1000)})},
        {f"more{n}": ConfigRecord() for n in range(1000)},
    ],
)
def test_what_a_carrier_hangs_on_a_message_is_counted_before_it_is_hashed(
    much: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two million whole numbers took a site half a minute."""
    content = order()
    for name, record in much.items():
        content[name] = record
    monkeypatch.setattr("fedmodel.wire.signed._told", None)
    with pytest.raises(UnsignedError, match="has at most 1000 values"):
        wire.signed_by(content, "train", COORDINATOR.public)
