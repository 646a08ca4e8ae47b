"""The coordinator of secure sums with made-up sites, some of which send rubbish."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedmodel import wire
from fedmodel.errors import (
    BudgetError,
    ConfigError,
    ProtocolError,
    QuorumError,
    RefusedError,
)
from fedmodel.job import Federation, Privacy, SecAgg, Train
from fedmodel.secagg import messages
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.sums import PlainSum, plain_step
from fedmodel.update import Update
from server.exchange.summed import Summed
from server.ledger_memory import LedgerMemory
from simulations.loopback import LoopbackGrid
from tests.jobs import make_job, summed
from tests.server.exchange.masked import (
    COUNT,
    INITIAL,
    NODES,
    SIZE,
    Meddle,
    Rows,
    Sites,
    change,
    coordinator,
    job_of,
    mean_of,
    play,
)


@pytest.mark.long
def test_a_run_is_the_mean_of_its_sites() -> None:
    result, rows = play(Sites(job_of(rounds=3)))
    np.testing.assert_allclose(result.vector, mean_of(*NODES, rounds=3), atol=2e-5)
    assert [row["updates"] for row in rows] == [COUNT] * 3
    loss = np.mean([1 / n for n in NODES])
    assert rows[0]["train_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.long
def test_the_step_of_rounding_stands_beside_the_size_of_the_update(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, rows = play(Sites(job_of()))
    found = mean_of(*NODES)
    assert rows[0]["update"] == pytest.approx(np.sqrt(np.mean(found**2)), abs=1e-5)
    assert rows[0]["step"] == plain_step(job_of())
    assert not caplog.records
    job = job_of(rounds=3, secagg={"range": 2.0**20})
    _, rows = play(Sites(job))
    assert [row["step"] for row in rows] == [plain_step(job)] * 3
    (said,) = caplog.records  # once a run
    assert "the model may hardly move. Use more secagg.bits" in said.getMessage()


# -- what is missing -----------------------------------------------------------------------------


def test_without_roster_and_key_there_is_no_joining() -> None:
    with pytest.raises(ConfigError, match="provision"):
        Summed(coordinator(job_of(), keys=None))


def test_shared_steps_need_rates() -> None:
    privacy = Privacy(mechanism="distributed", rate=0.5, delta=1e-4)
    train = Train(steps=1, rounds=2)
    job = make_job(
        privacy=privacy, secagg=summed(COUNT), train=train, federation=Federation(sites=COUNT)
    )
    with pytest.raises(ConfigError, match="learning rates"):
        Summed(coordinator(job))
    Summed(coordinator(job, rates=INITIAL))


def test_a_job_without_sums_is_none_and_has_no_joining() -> None:
    with pytest.raises(ConfigError, match=r"secagg\.sums go together"):
        SecAgg(mode="on")
    for mode in ("off", "seal"):
        with pytest.raises(ConfigError, match=f"secagg={mode} has no masked sums"):
            Summed(coordinator(make_job(secagg=SecAgg(mode=mode))))


def test_two_joinings_have_two_names() -> None:
    one, other = (Summed(coordinator(job_of())) for _ in range(2))
    assert one.joining != other.joining
    assert len(bytes.fromhex(one.joining)) == 32


# -- rubbish -------------------------------------------------------------------------------------


def with_parcel(name: str, change: Callable[[bytes], bytes]) -> Meddle:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        return wire.add_parcel(reply, name, change(wire.parcel(reply, name).tobytes()))

    return meddle


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


RUBBISH: dict[str, Meddle] = {
    "no parcel": lambda kind, node, reply: wire.encode_reply(),
    "nothing": lambda kind, node, reply: RecordDict(),
    "floats": lambda kind, node, reply: RecordDict(
        {**reply, "parcels": ArrayRecord({"secagg": wire.pack(INITIAL)})}
    ),
    "empty": with_parcel("secagg", lambda data: b""),
    "random": with_parcel("secagg", lambda data: os.urandom(len(data))),
    "cut": with_parcel("secagg", lambda data: data[:-1]),
    "longer": with_parcel("secagg", lambda data: data + b" "),
    "flipped": with_parcel("secagg", flipped),
    "no json": with_parcel("secagg", lambda data: data.partition(b"\n")[0] + b"\n{"),
    "deep": with_parcel("secagg", lambda data: data.partition(b"\n")[0] + b"\n" + b"[" * 99999),
    "binary": with_parcel("secagg", lambda data: data.partition(b"\n")[0] + b"\n\xff\xfe"),
    "a number": with_parcel("secagg", lambda data: data.partition(b"\n")[0] + b"\n" + b"9" * 9999),
}
LEGS = ("query.join", "query.open", "train", "query.consent", "query.reveal")


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_rubbish_is_its_senders_failure_only(rubbish: str, leg: str) -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        return RUBBISH[rubbish](kind, node, reply) if (kind, node) == (leg, 4) else reply

    result, rows = play(Sites(job_of(), meddle))
    left = NODES if leg in ("query.consent", "query.reveal") else (2, 3, 5, 6)
    np.testing.assert_allclose(result.vector, mean_of(*left), atol=1e-5)
    if leg == "query.join":
        assert result.refused[4].startswith("malformed answer: ")
        return
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    if rubbish == "flipped" and leg == "query.reveal":
        # A share that was changed: the others' are enough, and it isn't told from a right one.
        assert set(rows[0]["failures"]) <= {"4"}
        return
    assert set(rows[0]["failures"]) == {"4"}
    assert rows[0]["failures"]["4"].startswith(f"{name}: malformed answer in leg '{name}'")


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_masked_vector_of_another_size_is_its_senders_failure(size: int) -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("train", 4):
            data = wire.parcel(reply, "masked").tobytes()
            wire.add_parcel(reply, "masked", (data + b"\0")[: len(data) + size] if size else b"")
        return reply

    result, rows = play(Sites(job_of(), meddle))
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=1e-5)
    assert "must have" in rows[0]["failures"]["4"]


@pytest.mark.parametrize("leg", LEGS[1:])
def test_another_sites_message_is_not_taken_for_ones_own(leg: str) -> None:
    heard: dict[int, RecordDict] = {}

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if kind == leg:
            heard[node] = reply
            return heard[3] if node == 4 else reply
        return reply

    result, rows = play(Sites(job_of(), meddle))
    left = NODES if leg in ("query.consent", "query.reveal") else (2, 3, 5, 6)
    np.testing.assert_allclose(result.vector, mean_of(*left), atol=1e-5)
    assert "a message of site 2, expected one of site 3" in rows[0]["failures"]["4"]


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_message_of_the_round_before_is_not_taken(leg: str) -> None:
    heard: list[RecordDict] = []

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == (leg, 4):
            heard.append(reply)
            return heard[0]
        return reply

    _, rows = play(Sites(job_of(rounds=2), meddle))
    assert rows[0]["failures"] == {}
    assert set(rows[1]["failures"]) == {"4"}


def test_a_node_cannot_join_as_another_site() -> None:
    heard: dict[int, RecordDict] = {}

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if kind == "query.join":
            heard[node] = reply
            return heard[3] if node == 4 else reply
        return reply

    result, _ = play(Sites(job_of(), meddle))
    assert "site 2 of the roster from a node that has signed as site 3" in result.refused[4]
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=1e-5)


def test_where_a_ledger_stands_is_checked_with_the_upload_and_in_no_other_leg() -> None:
    class Doubting(LedgerMemory):
        noted: ClassVar[list[int]] = []

        def note(self, node: int, standing: Any) -> None:
            self.noted.append(node)
            if node == 4 and self.noted.count(4) > 1:
                raise ProtocolError("no head")

    memory = Doubting()
    result, rows = play(Sites(job_of()), memory=memory)
    assert rows[0]["failures"] == {"4": "upload: malformed answer in leg 'upload': no head"}
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=1e-5)
    assert sorted(memory.noted) == sorted(NODES * 3)  # the join, the upload, the leave


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_refusal_is_told_with_its_leg(leg: str) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return RefusedError("not today") if (kind, node) == (leg, 4) else None

    _, rows = play(Sites(job_of(), raising=raising))
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    assert rows[0]["failures"] == {"4": f"{name}: not today"}


def test_the_first_reason_is_told_not_what_follows_from_it() -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return RefusedError("not today") if (kind, node) == ("query.consent", 4) else None

    told = Rows()
    result, _ = play(Sites(job_of(), raising=raising), reporter=told)
    # It was asked to reveal all the same: its consent may have been lost on the way only.
    assert told.kept[0]["failures"] == {"4": "consent: not today"}
    assert result.updates == dict.fromkeys(NODES, 1)
    assert told.gave == [NODES]  # whoever shows the failures knows that its update counts


def test_spent_budgets_end_the_run_and_are_not_tried_again() -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return BudgetError("spent") if kind == "train" else None

    sites = Sites(job_of(rounds=2), raising=raising)
    with pytest.raises(QuorumError, match=r"nothing was trained.*budgets are spent after round 0"):
        play(sites)
    assert sites.talk.count(("train", 4)) == 1


def test_attempts_are_as_many_as_the_job_says() -> None:
    for attempts in (1, 3):
        sites = Sites(
            job_of(secagg={"attempts": attempts}),
            raising=lambda kind, node: RefusedError("no") if kind == "query.open" else None,
        )
        with pytest.raises(QuorumError, match=f"attempt {attempts} of {attempts}: 0 of 5 sites"):
            play(sites)
        assert sites.talk.count(("query.open", 4)) == attempts


def test_a_sum_of_weights_that_cannot_be_is_a_round_that_failed() -> None:
    """A site that cheats with its weight spoils the round, and it is noticed."""
    sites = Sites(job_of())
    real = PlainSum.encode

    def encode(self: PlainSum, update: Update) -> Any:
        write = real(self, update)

        def heavier(start: int, stop: int, out: Any) -> None:
            write(start, stop, out)
            out[SIZE - start] += 7

        return heavier

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainSum, "encode", encode)
        with pytest.raises(QuorumError, match="the sum of 5 sites' weights is 40"):
            play(sites)
    assert sites.talk.count(("query.open", 4)) == 1


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_sum_that_a_wrong_mask_has_spoiled_never_reaches_the_model(policy: Any) -> None:
    sites = Sites(job_of(rounds=2, federation={"below_quorum": policy}))
    deliver = Participant.deliver

    def bent(self: Participant, data: bytes) -> None:
        deliver(self, data)
        if self.member == 4 and self._attempt is not None and self.manifest.round == 1:
            self._attempt.seeds[1] = bytes(32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Participant, "deliver", bent)
        if policy == "stop":
            with pytest.raises(QuorumError, match="isn't that of the 5 survivors' vectors"):
                play(sites)
            return
        result, rows = play(sites)
    assert [row["updates"] for row in rows] == [0, COUNT]
    assert "isn't that of the 5 survivors' vectors" in rows[0]["reason"]
    assert "reason" not in rows[1]
    expected = np.mean([change(n, 2) for n in NODES], axis=0)
    np.testing.assert_allclose(result.vector, expected, atol=2e-5)


def test_a_vector_that_was_changed_on_the_way_is_not_in_the_sum() -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("train", 4):
            data = bytearray(wire.parcel(reply, "masked").tobytes())
            data[7] ^= 1
            wire.add_parcel(reply, "masked", bytes(data))
        return reply

    result, rows = play(Sites(job_of(), meddle))
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=1e-5)
    assert "isn't the one that it has signed" in rows[0]["failures"]["4"]


def test_a_share_that_was_changed_is_found_out_by_its_commitment() -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("query.reveal", 4):
            found = messages.decode(messages.Reveal, wire.parcel(reply, "secagg").tobytes())
            changed = tuple(replace(s, share="00" + "11" * 32) for s in found.self_seeds)
            wire.add_parcel(reply, "secagg", messages.encode(replace(found, self_seeds=changed)))
        return reply

    result, _ = play(Sites(job_of(), meddle))
    np.testing.assert_allclose(result.vector, mean_of(*NODES), atol=1e-5)


def test_what_is_not_of_this_leg_is_not_read() -> None:
    """Replies of another kind, such as late ones, are nobody's answer."""

    class Noisy(LoopbackGrid):
        def send_and_receive(self, asked: Any, *, timeout: Any = None) -> Any:
            found = list(asked)
            replies = list(super().send_and_receive(found, timeout=timeout))
            if found[0].metadata.message_type in ("query.consent", "train"):
                other = Message(
                    RecordDict({"config": ConfigRecord()}), 4, "query.open", group_id="1.1"
                )
                other.metadata.__dict__["_message_id"] = "x"
                replies.append(Message(RecordDict(), reply_to=other))
            return replies

    _, rows = play(Sites(job_of()), Noisy)
    assert rows[0]["failures"] == {}
