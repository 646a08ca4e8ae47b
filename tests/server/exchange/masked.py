"""Made-up sites of secure sums, and runs of the coordinator with them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel import wire
from fedmodel.errors import FedmodelError
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.job import Federation, Job, Train
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.closing import ClosedInMemory
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.sums import PlainSum
from fedmodel.seeds import Entropy
from fedmodel.update import Update
from server import rounds
from server.coordinator import Coordinator, RunResult, Silent
from server.exchange.channel import Channel
from simulations.loopback import LoopbackGrid
from tests.jobs import make_job, summed

__all__ = [
    "COORDINATOR_KEYS",
    "COUNT",
    "INITIAL",
    "NODES",
    "SIZE",
    "Meddle",
    "Sites",
    "change",
    "coordinator",
    "job_of",
    "mean_of",
    "play",
]

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
COORDINATOR_KEYS = CoordinatorKeys(roster=ROSTER, signer=SIGNER, seal=b"\5" * 32)
Meddle = Callable[[str, int, RecordDict], RecordDict]


def honest(kind: str, node: int, reply: RecordDict) -> RecordDict:
    return reply


def job_of(**parts: Any) -> Job:
    return make_job(
        train=Train(rounds=parts.pop("rounds", 1)),
        secagg=summed(COUNT, **parts.pop("secagg", {})),
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
    closed: int = 0  # the last round in which they signed survivors, in an earlier joining
    left: Sequence[int] = NODES  # who is here

    def join(self, node: int, session: str) -> bytes:
        sums = PlainSum(self.job, SIZE)
        agreement = Agreement.of(
            self.job.secagg.masked,
            session=session,
            job=self.job.sha256,
            roster=ROSTER.sha256,
            rounds=self.job.train.rounds,
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
            closing=ClosedInMemory(self.closed),
        )
        return self.participants[node].advert()

    def answer(self, kind: str, node: int, message: Message) -> RecordDict:
        reply = wire.encode_reply()
        if kind == "query.join":
            advert = self.join(node, wire.decode_offer(message.content).joining)
            return wire.add_parcel(reply, "secagg", advert)
        if kind == "query.hello":
            hello = wire.decode_hello(message.content)
            return wire.answer_hello(hello, node - 1, node, KEYS[node].sign)
        if kind == "query.leave":
            return reply
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
        for name in ("hello", "join", "open", "consent", "reveal", "leave"):
            app.query(name)(handle)
        return app


def coordinator(job: Job, **parts: Any) -> Coordinator:
    known: dict[str, Any] = {
        "job": job, "folder": None, "initial": INITIAL, "keys": COORDINATOR_KEYS,
    }  # fmt: skip
    return Coordinator(**(known | parts))


class Rows(Silent):
    """Keeps what is told of each round."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.gave: list[tuple[int, ...]] = []

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        self.kept.append(metrics)
        self.gave.append(tuple(gave))


def play(
    sites: Sites, grid: type[LoopbackGrid] = LoopbackGrid, **parts: Any
) -> tuple[RunResult, list[dict[str, Any]]]:
    """Play a run; return how it ended, and what was told of each round."""
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in sites.left}
    channel, told = Channel(grid(sites.app(), contexts, Run.create_empty(1))), Rows()
    return rounds.run(channel, coordinator(sites.job, **({"reporter": told} | parts))), told.kept


def mean_of(*nodes: int, rounds: int = 1) -> Any:
    steps = [np.mean([change(n, r) for n in nodes], axis=0) for r in range(1, rounds + 1)]
    return np.sum(steps, axis=0)
