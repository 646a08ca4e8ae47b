"""Made-up sites for runs of the coordinator, and such runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel import wire
from fedmodel.errors import BudgetError, RefusedError, UnjoinedError
from fedmodel.job import Aggregation, Federation, Job, Privacy, Train
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from server import rounds
from server.coordinator import Coordinator, RunResult
from server.exchange.channel import Channel
from simulations.loopback import LoopbackGrid
from tests.jobs import make_job

__all__ = ["INITIAL", "NODES", "PRIVATE", "SIZE", "Sites", "grid_of", "job_of", "only", "play"]

SIZE = 5
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)
NODES = (2, 3, 4, 5)
PRIVATE = Privacy(mechanism="dpsgd", rate=0.5)
Trouble = Callable[[int, int], Exception | None]


def fine(node: int, round_: int) -> Exception | None:
    return None


@dataclass
class Sites:
    """Sites that answer an order with a change that depends on node, round and vector."""

    trouble: Trouble = fine
    joining: Trouble = fine
    orders: list[tuple[int, int]] = field(default_factory=list)
    releasing: Trouble = fine
    released: list[tuple[int, int, bytes]] = field(default_factory=list)

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.query("join")
        def join(message: Message, context: Context) -> Message:
            error = self.joining(context.node_id, 0)
            if error is not None:
                return wire.encode_error(error, message)
            wire.decode_offer(message.content)
            return Message(wire.encode_reply(), reply_to=message)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            order = wire.decode_order(message.content)
            self.orders.append((order.round, context.node_id))
            error = self.trouble(context.node_id, order.round)
            if isinstance(error, BudgetError | RefusedError | UnjoinedError):
                return wire.encode_error(error, message)
            if error is not None:
                raise error
            noise = np.random.default_rng((context.node_id, order.round)).standard_normal(SIZE)
            change = (0.1 * noise - 0.2 * order.vector).astype(np.float32)
            update = Update.of(change, 1.0, {"train_loss": 1 / order.round})
            return Message(wire.encode_update(update), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            order = wire.decode_order(message.content)
            self.released.append((order.round, context.node_id, order.vector.tobytes()))
            error = self.releasing(context.node_id, order.round)
            if error is not None:
                return wire.encode_error(error, message)
            counts = Counts(values=(100 * context.node_id, 100))
            return Message(wire.encode_counts(counts), reply_to=message)

        @app.query("leave")
        def leave(message: Message, context: Context) -> Message:
            return Message(wire.encode_reply(), reply_to=message)

        return app

    def asked(self, round_: int) -> list[int]:
        return sorted(node for r, node in self.orders if r == round_)


def job_of(n: int = 4, optimizer: Any = "fedavg", seed: int = 0, **federation: Any) -> Job:
    return make_job(
        train=Train(rounds=n),
        aggregation=Aggregation(optimizer=optimizer),
        federation=Federation(sites=len(NODES), **federation),
        seed=seed,
    )


def grid_of(sites: Sites) -> LoopbackGrid:
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    return LoopbackGrid(sites.app(), contexts, Run.create_empty(1))


def play(job: Job, sites: Sites, **parts: Any) -> RunResult:
    coordinator = Coordinator(**({"job": job, "folder": None, "initial": INITIAL} | parts))
    return rounds.run(Channel(grid_of(sites)), coordinator)


def only(*nodes: int, error: Exception) -> Trouble:
    return lambda node, _: error if node in nodes else None
