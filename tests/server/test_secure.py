"""The coordinator of secure sums with made-up sites, some of which send rubbish."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel import wire
from fedmodel.accounting.plan import plan_of
from fedmodel.errors import BudgetError, ConfigError, FedmodelError, QuorumError, RefusedError
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.job import Federation, Job, Privacy, SecAgg, Train
from fedmodel.secagg import messages
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.sums import PlainSum
from fedmodel.seeds import Entropy
from fedmodel.update import Update, Vector
from server import rounds
from server.coordinator import Coordinator
from server.membership import join
from server.secure import Secure
from simulations.loopback import LoopbackGrid

SIZE, COUNT = 33, 5
NODES = tuple(range(2, 2 + COUNT))
INITIAL = np.zeros(SIZE, np.float32)
KEYS = {n: SigningKey(bytes([n]) * 32) for n in NODES}
SIGNER = SigningKey(b"\1" * 32)
ROSTER = Roster(
    coordinator=SIGNER.public.hex(),
    seal="77" * 32,
    members=tuple(Member(name=f"s{n}", key=key.public.hex()) for n, key in KEYS.items()),
)
Meddle = Callable[[str, int, RecordDict], RecordDict]


def honest(kind: str, node: int, reply: RecordDict) -> RecordDict:
    return reply


def job_of(**parts: Any) -> Job:
    hide = SecAgg(mode="on", **parts.pop("secagg", {})).completed(COUNT)
    return Job(
        train=Train(rounds=parts.pop("rounds", 1)),
        secagg=replace(hide, bits=24),
        federation=Federation(sites=COUNT, **parts.pop("federation", {})),
        **parts,
    )


def change(node: int, round_: int) -> Any:
    generator = np.random.default_rng((node, round_))
    return generator.uniform(-1, 1, SIZE).astype(np.float32)


@dataclass
class Sites:
    """Sites that take part in the protocol, and train nothing."""

    job: Job
    meddle: Meddle = honest
    raising: Callable[[str, int], Exception | None] = lambda kind, node: None
    talk: list[tuple[str, int]] = field(default_factory=list)
    participants: dict[int, Participant] = field(default_factory=dict)

    def join(self, node: int, session: str) -> bytes:
        sums = PlainSum(self.job, SIZE)
        agreement = Agreement.of(
            self.job.secagg,
            session=session,
            job=self.job.sha256,
            roster=ROSTER.sha256,
            rounds=self.job.train.rounds,
            bits=sums.bits,
            count=sums.count,
        )
        self.participants[node] = Participant(
            member=node - 1,
            agreement=agreement,
            members=ROSTER.keys,
            coordinator=SIGNER.public,
            floors=Floors(),
            sign=KEYS[node].sign,
            entropy=Entropy(),
        )
        return self.participants[node].advert()

    def answer(self, kind: str, node: int, message: Message) -> RecordDict:
        reply = wire.encode_reply()
        if kind == "query.join":
            advert = self.join(node, wire.decode_session(message.content))
            return wire.add_parcel(reply, "secagg", advert)
        data = wire.parcel(message.content, "secagg").tobytes()
        participant = self.participants[node]
        if kind != "train":
            step = getattr(participant, kind.removeprefix("query."))
            return wire.add_parcel(reply, "secagg", step(data))
        participant.deliver(data)
        order = wire.decode_order(message.content)
        update = Update.of(change(node, order.round), 1.0, {"train_loss": 1 / node})
        header, packed = participant.upload(PlainSum(self.job, SIZE).encode(update))
        return wire.add_parcel(wire.add_parcel(reply, "secagg", header), "masked", packed)

    def app(self) -> ClientApp:
        app = ClientApp()

        def handle(message: Message, context: Context) -> Message:
            kind, node = message.metadata.message_type, context.node_id
            self.talk.append((kind, node))
            try:
                if (error := self.raising(kind, node)) is not None:
                    raise error
                reply = self.meddle(kind, node, self.answer(kind, node, message))
            except FedmodelError as error:
                return wire.encode_error(error, message)
            return Message(reply, reply_to=message)

        app.train()(handle)
        for name in ("join", "open", "consent", "reveal"):
            app.query(name)(handle)
        return app


def coordinator(job: Job, **parts: Any) -> Coordinator:
    known: dict[str, Any] = {
        "job": job, "folder": None, "initial": INITIAL, "roster": ROSTER, "signer": SIGNER,
    }  # fmt: skip
    return Coordinator(**(known | parts))


def play(sites: Sites, **parts: Any) -> tuple[Vector, rounds._Run]:
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    grid = LoopbackGrid(sites.app(), contexts, Run.create_empty(1))
    state = rounds._Run(grid, coordinator(sites.job, **parts))
    nodes = join(grid, state.c, state.hide())
    while state.round < sites.job.train.rounds and state.stopped is None:
        state.play(nodes)
    return state.vector, state


def mean_of(*nodes: int, rounds: int = 1) -> Any:
    steps = [np.mean([change(n, r) for n in nodes], axis=0) for r in range(1, rounds + 1)]
    return np.sum(steps, axis=0)


def test_a_run_is_the_mean_of_its_sites() -> None:
    vector, state = play(Sites(job_of(rounds=3)))
    np.testing.assert_allclose(vector, mean_of(*NODES, rounds=3), atol=2e-5)
    assert [row["updates"] for row in state.rows] == [COUNT] * 3
    loss = np.mean([1 / n for n in NODES])
    assert state.rows[0]["train_loss"] == pytest.approx(loss, abs=1e-5)


# -- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["roster", "signer"])
def test_without_roster_or_key_there_is_no_session(missing: str) -> None:
    with pytest.raises(ConfigError, match="provision"):
        Secure(coordinator(job_of(), **{missing: None}), None)


def test_shared_steps_need_rates() -> None:
    privacy = Privacy(mechanism="distributed", rate=0.5, delta=1e-4)
    hide = SecAgg(mode="on").completed(COUNT)
    job = Job(privacy=privacy, secagg=hide, train=Train(steps=1, rounds=2))
    with pytest.raises(ConfigError, match="learning rates"):
        Secure(coordinator(job), plan_of(job))


def test_a_job_that_is_not_complete_has_no_session() -> None:
    with pytest.raises(ConfigError, match=r"secagg\.survivors"):
        Secure(coordinator(Job(secagg=SecAgg(mode="on"))), None)


def test_two_sessions_have_two_names() -> None:
    one, other = (Secure(coordinator(job_of()), None) for _ in range(2))
    assert one.session != other.session
    assert len(bytes.fromhex(one.session)) == 32


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


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_rubbish_is_its_senders_failure_only(rubbish: str, leg: str) -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        return RUBBISH[rubbish](kind, node, reply) if (kind, node) == (leg, 4) else reply

    vector, state = play(Sites(job_of(), meddle))
    left = NODES if leg in ("query.consent", "query.reveal") else (2, 3, 5, 6)
    np.testing.assert_allclose(vector, mean_of(*left), atol=1e-5)
    if leg == "query.join":
        assert state.c.outcome.refused[4].startswith("malformed answer: ")
        return
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    if rubbish == "flipped" and leg == "query.reveal":
        # A share that was changed: the others' are enough, and it isn't told from a right one.
        assert set(state.rows[0]["failures"]) <= {"4"}
        return
    assert set(state.rows[0]["failures"]) == {"4"}
    assert state.rows[0]["failures"]["4"].startswith(f"{name}: malformed answer in leg '{name}'")


@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_masked_vector_of_another_size_is_its_senders_failure(size: int) -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("train", 4):
            data = wire.parcel(reply, "masked").tobytes()
            wire.add_parcel(reply, "masked", (data + b"\0")[: len(data) + size] if size else b"")
        return reply

    vector, state = play(Sites(job_of(), meddle))
    np.testing.assert_allclose(vector, mean_of(2, 3, 5, 6), atol=1e-5)
    assert "must have" in state.rows[0]["failures"]["4"]


@pytest.mark.parametrize("leg", LEGS[1:])
def test_another_sites_message_is_not_taken_for_ones_own(leg: str) -> None:
    heard: dict[int, RecordDict] = {}

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if kind == leg:
            heard[node] = reply
            return heard[3] if node == 4 else reply
        return reply

    vector, state = play(Sites(job_of(), meddle))
    left = NODES if leg in ("query.consent", "query.reveal") else (2, 3, 5, 6)
    np.testing.assert_allclose(vector, mean_of(*left), atol=1e-5)
    assert "a message of site 2, expected one of site 3" in state.rows[0]["failures"]["4"]


@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_message_of_the_round_before_is_not_taken(leg: str) -> None:
    heard: list[RecordDict] = []

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == (leg, 4):
            heard.append(reply)
            return heard[0]
        return reply

    _, state = play(Sites(job_of(rounds=2), meddle))
    assert state.rows[0]["failures"] == {}
    assert set(state.rows[1]["failures"]) == {"4"}


def test_a_node_cannot_join_as_another_site() -> None:
    heard: dict[int, RecordDict] = {}

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if kind == "query.join":
            heard[node] = reply
            return heard[3] if node == 4 else reply
        return reply

    vector, state = play(Sites(job_of(), meddle))
    assert "site 2 of the roster has joined already" in state.c.outcome.refused[4]
    np.testing.assert_allclose(vector, mean_of(2, 3, 5, 6), atol=1e-5)


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("leg", LEGS[1:])
def test_a_refusal_is_told_with_its_leg(leg: str) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return RefusedError("not today") if (kind, node) == (leg, 4) else None

    _, state = play(Sites(job_of(), raising=raising))
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    assert state.rows[0]["failures"] == {"4": f"{name}: not today"}


def test_the_first_reason_is_told_not_what_follows_from_it() -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return RefusedError("not today") if (kind, node) == ("query.consent", 4) else None

    _, state = play(Sites(job_of(), raising=raising))
    # It was asked to reveal all the same: its consent may have been lost on the way only.
    assert state.rows[0]["failures"] == {"4": "consent: not today"}
    assert state.updates == dict.fromkeys(NODES, 1)


def test_spent_budgets_end_the_run_and_are_not_tried_again() -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return BudgetError("spent") if kind == "train" else None

    sites = Sites(job_of(rounds=2), raising=raising)
    _, state = play(sites)
    assert state.stopped == "privacy budgets are spent after round 0"
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


def test_a_share_that_was_changed_is_found_out_by_its_commitment() -> None:
    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("query.reveal", 4):
            found = messages.decode(messages.Reveal, wire.parcel(reply, "secagg").tobytes())
            changed = tuple(replace(s, share="00" + "11" * 32) for s in found.self_seeds)
            wire.add_parcel(reply, "secagg", messages.encode(replace(found, self_seeds=changed)))
        return reply

    vector, _ = play(Sites(job_of(), meddle))
    np.testing.assert_allclose(vector, mean_of(*NODES), atol=1e-5)


def test_what_is_not_of_this_leg_is_not_read() -> None:
    """Replies of another kind, such as late ones, are nobody's answer."""
    sites = Sites(job_of())
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}

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

    grid = Noisy(sites.app(), contexts, Run.create_empty(1))
    state = rounds._Run(grid, coordinator(sites.job))
    state.play(join(grid, state.c, state.hide()))
    assert state.rows[0]["failures"] == {}
