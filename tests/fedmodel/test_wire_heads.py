"""What travels of a site's ledger: heads, proofs, and the end of a run."""

from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.identity import SigningKey
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.wire import Leave, Offer
from tests.examples import examples
from tests.jobs import make_job

KEY = SigningKey(b"k" * 32)
HEAD = TreeHead(
    ledger="x/main",
    key=KEY.public.hex(),
    size=3,
    root="ab" * 32,
    last="cd" * 32,
    time="2026-01-31T12:00:00Z",
).signed(KEY)
STANDING = Standing(head=HEAD, proof=("01" * 32, "02" * 32))


def changed(content: RecordDict, **fields: Any) -> RecordDict:
    record = content.config_records["config"]
    return RecordDict({"config": ConfigRecord({**record, **fields})})


def test_round_trips() -> None:
    for heads in ((), (HEAD,), (HEAD, HEAD), (HEAD,) * 1000):
        offer = Offer(run="test", job=make_job(), tree_heads=heads)
        assert wire.decode_offer(wire.encode_offer(offer)) == offer
    for standing in (None, Standing(head=HEAD), STANDING):
        assert wire.decode_standing(wire.encode_reply(standing)) == standing
    for leave in (
        Leave(run="test", job_sha256="ab" * 32, failed=False),
        Leave(run="test", job_sha256="", failed=True),
    ):
        assert wire.decode_leave(wire.encode_leave(leave)) == leave
    assert wire.decode_leave(
        wire.encode_leave(Leave(run="test", job_sha256="", failed=True, entries=7))
    ) == (Leave(run="test", job_sha256="", failed=True, entries=7))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"head": ""}, "not a ledger head"),
        ({"head": 5}, "expected str"),
        ({"head": HEAD.to_json().decode().replace('"size":3', '"size":4')}, "doesn't verify"),
        ({"head": "x" * 5000}, "at most 4096"),
        ({"proof": 5}, "expected str"),
        ({"proof": "0" * 5000}, "at most"),
        ({"version": "fedmodel.wire/0"}, "expected version"),
    ],
)
def test_a_wrong_standing_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        wire.decode_standing(changed(wire.encode_reply(STANDING), **fields))


def test_wrong_offers_and_ends_are_refused() -> None:
    offer = wire.encode_offer(Offer(run="test", job=make_job(), tree_heads=(HEAD,)))
    forged = HEAD.to_json().decode().replace('"size":3', '"size":4')
    for heads, says in (
        (5, "expected str"),
        ("{}", "not a ledger head"),
        ("{}\n" * 2000, "1000"),
        (forged, "doesn't verify"),
    ):
        with pytest.raises(ProtocolError, match=says):
            wire.decode_offer(changed(offer, heads=heads))
    end = wire.encode_leave(Leave(run="test", job_sha256="", failed=True))
    for field, value in (("failed", 1), ("entries", -1), ("entries", True), ("job", 3)):
        with pytest.raises(ProtocolError, match=field):
            wire.decode_leave(changed(end, **{field: value}))


@settings(max_examples=examples(100), deadline=None)
@given(
    head=st.one_of(st.text(max_size=100), st.just(HEAD.to_json().decode())),
    proof=st.text(max_size=100),
)
def test_whatever_a_site_says_of_its_ledger_is_read_or_refused(head: str, proof: str) -> None:
    content = RecordDict(
        {"config": ConfigRecord({"version": wire.VERSION, "head": head, "proof": proof})}
    )
    try:
        standing = wire.decode_standing(content)
        assert standing is not None
        standing.head.check_follows(HEAD, standing.proof)
    except ProtocolError:
        pass
