"""The coordinator of sealed updates, with envelopes from right and wrong hands."""

import os
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel._hazmat import x25519_public
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.seal import Context, seal
from fedmodel.job import Aggregation, Job, SecAgg
from fedmodel.secagg import messages
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.peers import Peers
from fedmodel.seeds import Entropy
from fedmodel.update import Update
from fedmodel.wire import Content
from server.answers import Check, nothing
from server.coordinator import Coordinator
from server.exchange.protocol import Invitation
from server.exchange.sealed import Sealed
from tests.jobs import make_job
from tests.server.exchange.replies import channel_of, reply

SIZE = 9
NODES = (2, 3, 4)
KEYS = {n: SigningKey(bytes([n]) * 32) for n in NODES}
SIGNER, PRIVATE = SigningKey(b"\1" * 32), b"\5" * 32
ROSTER = Roster(
    coordinator=SIGNER.public.hex(),
    seal=x25519_public(PRIVATE).hex(),
    members=tuple(Member(name=f"s{n}", key=key.public.hex()) for n, key in KEYS.items()),
)
JOB = make_job(secagg=SecAgg(mode="seal"))
WEIGHTED = make_job(secagg=SecAgg(mode="seal"), aggregation=Aggregation(weights="examples"))
COORDINATOR_KEYS = CoordinatorKeys(roster=ROSTER, signer=SIGNER, seal=PRIVATE)


def coordinator(**parts: Any) -> Coordinator:
    known: dict[str, Any] = {
        "job": JOB, "folder": None, "initial": np.zeros(SIZE, np.float32),
        "keys": COORDINATOR_KEYS,
    }  # fmt: skip
    return Coordinator(**(known | parts))


def advert(sealed: Sealed, node: int, member: int | None = None, **terms: Any) -> RecordDict:
    known: dict[str, Any] = {
        "session": sealed.joining,
        "job": sealed._job.sha256,
        "roster": ROSTER.sha256,
        "rounds": JOB.train.rounds,
    }
    agreement = Agreement.of_keys(**(known | terms))
    peers = Peers(member or node - 1, agreement, ROSTER.keys, Entropy())
    data = messages.encode(peers.advert(KEYS[node].sign))
    return wire.add_parcel(wire.encode_reply(), "secagg", data)


def joined(job: Job) -> Sealed:
    made = Sealed(coordinator(job=job))
    for node in NODES:
        made.admit(node, advert(made, node))
    return made


@pytest.fixture
def sealed() -> Sealed:
    return joined(JOB)


def update(node: int, weight: float = 1.0, size: int = SIZE) -> Update:
    change = np.random.default_rng(node).standard_normal(size).astype(np.float32)
    return Update.of(change, weight, {"train_loss": float(node)})


def envelope(sealed: Sealed, node: int, data: bytes | None = None, **context: Any) -> bytes:
    ids: dict[str, Any] = {
        "session": sealed.joining,
        "job": sealed._job.sha256,
        "roster": ROSTER.sha256,
        "member": node - 1,
        "round": 1,
    }
    plain = wire.update_to_bytes(update(node)) if data is None else data
    return seal(
        plain,
        to=x25519_public(PRIVATE),
        sign=KEYS[node].sign,
        context=Context(**(ids | context)),
    )


def sent(data: bytes | None) -> RecordDict:
    content = wire.encode_reply()
    return content if data is None else wire.add_parcel(content, "sealed", data)


def collected(
    sealed: Sealed, changed: dict[int, bytes | None], check: Check = nothing, round_: int = 1
) -> Any:
    vector = np.zeros(SIZE, np.float32)
    envelopes = {n: envelope(sealed, n, round=round_) for n in NODES} | changed
    invitation = Invitation(
        round=round_,
        nodes=list(NODES),
        vector=vector,
        order=lambda node: wire.encode_order("test", round_, sealed._job.sha256, wire.pack(vector)),
        check=check,
    )
    replies = [reply(n, sent(data), group=str(round_)) for n, data in envelopes.items()]
    return sealed.collect(channel_of(replies), invitation)


def test_envelopes_are_opened_and_averaged(sealed: Sealed) -> None:
    got = collected(sealed, {})
    expected = Update.total([update(n) for n in NODES]).mean()
    assert got.mean.vector.tobytes() == expected.vector.tobytes()
    assert got.mean.metrics == expected.metrics
    assert (got.givers, got.failures) == (NODES, {})


def test_an_envelope_is_opened_in_its_own_round_and_in_no_later_one(sealed: Sealed) -> None:
    got = collected(sealed, {3: envelope(sealed, 3, round=1)}, round_=2)
    assert got.givers == (2, 4)
    assert set(got.failures) == {3}


def heavy(sealed: Sealed) -> dict[int, bytes | None]:
    return {n: envelope(sealed, n, wire.update_to_bytes(update(n, float(n)))) for n in NODES}


def test_weights_are_in_the_envelope(sealed: Sealed) -> None:
    weighted = joined(WEIGHTED)
    got = collected(weighted, heavy(weighted))
    expected = Update.total([update(n, float(n)) for n in NODES]).mean()
    np.testing.assert_array_equal(got.mean.vector, expected.vector)
    got = collected(sealed, heavy(sealed))
    assert got.mean is None
    assert "expected weight 1" in got.failures[2].reason


def test_bad_envelopes_are_their_senders_failures(sealed: Sealed) -> None:
    good = envelope(sealed, 3)
    nan = np.full(SIZE, np.nan, np.float32)
    bad: dict[str, bytes | None] = {
        "another site's": envelope(sealed, 2),
        "signed by another": envelope(sealed, 2, member=2),
        "another round": envelope(sealed, 3, round=2),
        "another session": envelope(sealed, 3, session="0" * 64),
        "another job": envelope(sealed, 3, job="0" * 64),
        "another purpose": envelope(sealed, 3, purpose="share"),
        "cut": good[:-1],
        "longer": good + b"\0",
        "no signature": good[:20],
        "random": os.urandom(len(good)),
        "nothing": None,
        "no update": envelope(sealed, 3, b"hello"),
        "another size": envelope(sealed, 3, wire.update_to_bytes(update(3, size=SIZE + 1))),
        "not finite": envelope(sealed, 3, wire.update_to_bytes(Update(vector=nan, weight=1.0))),
    }
    for at in range(0, len(good), 11):
        bad[f"flipped at {at}"] = good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]
    expected = Update.total([update(2), update(4)]).mean()
    for name, data in bad.items():
        got = collected(sealed, {3: data})
        assert set(got.failures) == {3}, name
        assert got.failures[3].reason.startswith("malformed update: "), name
        assert got.mean.vector.tobytes() == expected.vector.tobytes()


def test_what_else_the_answers_must_pass_is_checked_before_an_envelope_is_opened(
    sealed: Sealed,
) -> None:
    def check(node: int, content: Content) -> None:
        if node == 3:
            raise ProtocolError("no head")

    got = collected(sealed, {3: b"rubbish"}, check)
    assert got.failures == {3: wire.Failure(reason="malformed update: no head")}
    assert got.givers == (2, 4)


def test_without_keys_there_is_no_joining() -> None:
    with pytest.raises(ConfigError, match="provision"):
        Sealed(coordinator(keys=None))


@pytest.mark.parametrize("missing", ["roster", "signer", "seal"])
def test_keys_are_whole_or_not_there(missing: str) -> None:
    parts: dict[str, Any] = {"roster": ROSTER, "signer": SIGNER, "seal": PRIVATE}
    del parts[missing]
    with pytest.raises(TypeError, match=missing):
        CoordinatorKeys(**parts)


def test_joinings_have_names_of_their_own_and_sites_repeat_any_round(sealed: Sealed) -> None:
    other = Sealed(coordinator())
    assert sealed.joining != other.joining
    assert len(bytes.fromhex(sealed.joining)) == 32
    assert not sealed.lost(1)


def test_joining_as_another_site_is_refused() -> None:
    sealed = Sealed(coordinator())
    with pytest.raises(ProtocolError, match="signature"):
        sealed.admit(2, advert(sealed, 3, member=1))
    sealed.admit(2, advert(sealed, 2))
    with pytest.raises(ProtocolError, match="joined already"):
        sealed.admit(4, first(sealed))
    others: list[dict[str, Any]] = [{"session": "0" * 64}, {"job": "0" * 64}, {"roster": "0" * 64}]
    for terms in others:
        with pytest.raises(ProtocolError, match="another session or job"):
            sealed.admit(3, advert(sealed, 3, **terms))
    assert sealed._roll.numbers == {2: 1}


def first(sealed: Sealed) -> RecordDict:
    """Return the very advert that node 2 has joined with."""
    known = sealed._roll._aggregator._adverts[1]
    return wire.add_parcel(wire.encode_reply(), "secagg", messages.encode(known))


def test_the_key_does_not_show() -> None:
    shown = repr(coordinator())
    for secret in (PRIVATE, b"\1" * 32):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
