"""The run at the coordinator: join, then train, aggregate, evaluate and save, round by round.

After the last round the sites may be asked, once, for noised counts on their own test rows.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from flwr.app import Array, Message, RecordDict
from flwr.serverapp import Grid

from fedmodel import tasks, wire
from fedmodel.accounting.plan import Plan, plan_of
from fedmodel.errors import FedmodelError, QuorumError, RunError, RunFolderError
from fedmodel.job import Job
from fedmodel.runs import Checkpoint
from fedmodel.update import Vector
from server.collect import Collected, collect, collect_counts
from server.coordinator import Coordinator
from server.membership import head_taken, join, leave, quorum
from server.optimizer import ServerOptimizer
from server.publishing import Released, release
from server.robust import combine
from server.sealed import Sealed
from server.secure import Secure

__all__ = ["run"]

logger = logging.getLogger(__name__)

_MIN_IMPROVEMENT = 1e-4  # nats of test loss that count as better


class _Run:
    """The mutable state between two rounds: all of it is in a checkpoint."""

    def __init__(self, grid: Grid, coordinator: Coordinator) -> None:
        self.grid = grid
        self.c = coordinator
        self.job = coordinator.job
        self.job_sha256 = self.job.sha256
        self.optimizer = ServerOptimizer(self.job.aggregation)
        self.vector: Vector = coordinator.initial
        self.round = 0
        self.rows: list[dict[str, Any]] = []
        self.best_loss = math.inf
        self.stale = 0
        self.stopped: str | None = None
        self.updates: dict[int, int] = {}
        self.released: Released | None = None
        self.metrics: dict[str, float] = {}  # of the current parameters, once evaluated
        self.hidden: Secure | Sealed | None = None

    # -- checkpoints -----------------------------------------------------------------------------

    def restore(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        folder = self.c.folder
        last = folder.last_checkpoint() if folder else None
        if folder is None or last is None:
            return
        self.vector = self.c.from_named(last.parameters)
        if self.vector.size != self.c.initial.size:
            raise RunFolderError(
                f"{folder.path}: the checkpoint has {self.vector.size} parameters, this job has "
                f"{self.c.initial.size}; the run folder was changed"
            )
        self.optimizer.restore(last.optimizer)
        self.round = last.round
        best = last.state.get("best_loss")
        self.best_loss = math.inf if best is None else float(best)
        self.stale = int(last.state.get("stale", 0))
        self.stopped = last.state.get("stopped")
        self.updates = {int(n): int(u) for n, u in last.state.get("updates", {}).items()}
        if (released := last.state.get("released")) is not None:
            self.released = Released.restored(released)
        self.rows = [row for row in folder.metrics() if row["round"] <= self.round]

    def save(self) -> None:
        """Write metrics and checkpoint; the checkpoint comes last and decides where a resume is."""
        self.c.heads.save()
        folder = self.c.folder
        if folder is None:
            return
        folder.write_metrics(self.rows)
        state = {
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "stale": self.stale,
            "stopped": self.stopped,
            "updates": {str(node): count for node, count in self.updates.items()},
            "released": None if self.released is None else dataclasses.asdict(self.released),
        }
        folder.save_checkpoint(
            Checkpoint(
                round=self.round,
                parameters=self.c.named(self.vector),
                optimizer=self.optimizer.state(),
                state=state,
            )
        )

    # -- one round -------------------------------------------------------------------------------

    def sample(self, nodes: list[int]) -> list[int]:
        """Choose the nodes of the next round, reproducibly."""
        count = max(1, math.ceil(self.job.federation.fraction * len(nodes)))
        if count == len(nodes):
            return nodes
        generator = self.job.root_seed.child("sampling", self.round + 1).numpy()
        return sorted(int(n) for n in generator.choice(nodes, size=count, replace=False))

    def hide(self) -> Secure | Sealed | None:
        """Begin a session in which updates are hidden, if the job says so."""
        mode = self.job.secagg.mode
        if mode == "on":
            self.hidden = Secure(self.c, _plan(self.job))
        elif mode == "seal":
            self.hidden = Sealed(self.c)
        return self.hidden

    def pass_over_closed(self) -> None:
        """Pass over rounds whose sum the sites had unmasked when this coordinator lost it.

        They don't repeat them: sums over two sets of sites would show who is in one only.
        """
        closed = self.hidden.closed() if isinstance(self.hidden, Secure) else 0
        while self.round < closed:
            self.round += 1
            why = "unmasked before an interruption, and its sum lost; sites repeat no such round"
            self.rows.append({"round": self.round, "updates": 0, "asked": 0, "lost": why})
            self.save()

    def train(self, nodes: list[int], vector: Array) -> Collected:
        """Ask the nodes to train and collect their updates, or the sum of them."""
        number, check = self.round + 1, head_taken(self.c)
        if isinstance(self.hidden, Secure):
            return self.hidden.collect(
                self.grid,
                nodes,
                number,
                self.vector,
                lambda node: self.order(node, number, vector),
                check=check,
                timeout=self.c.timeout,
            )
        replies = self.ask(nodes, "train", number, vector)
        uniform = self.job.aggregation.weights == "uniform"
        if isinstance(self.hidden, Sealed):
            return self.hidden.collect(replies, nodes, number, uniform=uniform, check=check)
        return collect(
            replies,
            nodes,
            self.vector.size,
            uniform=uniform,
            check=check,
            combine=partial(combine, self.job.aggregation),
        )

    def order(self, node: int, round_: int, vector: Array) -> RecordDict:
        """Return what a node is told to do."""
        return wire.encode_order(round_, self.job_sha256, vector, self.c.heads.entries(node))

    def ask(self, nodes: list[int], kind: str, round_: int, vector: Array) -> Iterable[Message]:
        """Send every node an order and return the replies."""
        messages = [
            Message(
                self.order(node, round_, vector),
                node,
                kind,
                group_id=str(round_) if kind == "train" else kind,
            )
            for node in nodes
        ]
        return self.grid.send_and_receive(messages, timeout=self.c.timeout)

    def play(self, nodes: list[int]) -> None:
        """Play one round; sets ``stopped`` when the run must end."""
        started = time.perf_counter()
        chosen = self.sample(nodes)
        self.c.reporter.round_started(self.round + 1, len(chosen))
        got = self.train(chosen, wire.pack(self.vector))
        needed, key = quorum(self.job, len(chosen))
        enough = got.mean is not None and got.updates >= needed
        if not enough and got.budgets_spent:
            why = f" ({got.reason})" if got.reason else ""
            self.stopped = f"privacy budgets are spent after round {self.round}{why}"
            return
        if not enough and self.job.federation.below_quorum == "stop":
            raise QuorumError(
                _below(self.round + 1, got, f"{needed} are needed ({key})", len(chosen))
            )
        self.round += 1
        for node in chosen:
            self.updates[node] = self.updates.get(node, 0) + (node in got.givers)
        row: dict[str, Any] = {"round": self.round, "updates": got.updates, "asked": len(chosen)}
        if enough and got.mean is not None:
            self.vector = self.optimizer.step(self.round, self.vector, got.mean.vector)
            row |= got.mean.metrics
        row |= self.evaluate()
        row["failures"] = {str(node): f.reason for node, f in got.failures.items()}
        self.rows.append(row)
        self.save()
        self.c.outcome.round_seconds.append(time.perf_counter() - started)
        self.c.reporter.round_ended(self.round, row)

    def evaluate(self) -> dict[str, float]:
        """Evaluate on the public test set and decide about early stopping."""
        if self.c.evaluate is None:
            return {}
        metrics = self.metrics = self.c.evaluate(self.vector)
        if not all(math.isfinite(value) for value in metrics.values()):
            raise RunError(
                f"the model diverged in round {self.round} (its test loss isn't finite); lower "
                "train.lr and train.head_lr, or aggregation.lr"
            )
        self.stale += 1
        if metrics["loss"] < self.best_loss - _MIN_IMPROVEMENT:
            self.best_loss, self.stale = metrics["loss"], 0
        patience = self.job.federation.patience
        if patience is not None and self.stale >= patience:
            self.stopped = f"test loss hasn't improved for {patience} round(s)"
        return metrics

    # -- after the last round --------------------------------------------------------------------

    @property
    def release_is_due(self) -> bool:
        """Whether the sites are to be asked for noised counts now."""
        ended = self.round == self.job.train.rounds or self.stopped is not None
        asked = self.released is not None or self.round == 0
        return ended and self.job.releases_evaluation and not asked

    def release(self, nodes: list[int]) -> None:
        """Ask the nodes, once, how the last model does on their own test rows.

        Their budgets pay for one answer. So what came is kept at once; if it is lost in a crash
        before that, the sites refuse to repeat it, and a resumed run ends without them.
        """
        replies = self.ask(nodes, "evaluate", self.round, wire.pack(self.vector))
        size = len(tasks.of(self.job.model.task).counted(self.job.model.labels).names)
        counts, failures = collect_counts(replies, nodes, size, head_taken(self.c))
        reasons = {node: failure.reason for node, failure in failures.items()}
        self.released = release(counts, self.job, reasons)
        self.save()


def _plan(job: Job) -> Plan | None:
    return plan_of(job) if job.privacy.private else None


def _below(number: int, got: Collected, needed: str, asked: int) -> str:
    told = sorted({f.reason for f in got.failures.values()})
    reasons = "; ".join([*([got.reason] if got.reason else []), *told]) or "no reason given"
    return (
        f"round {number}: {got.updates} of {asked} sites gave an update, {needed}: {reasons}. "
        "Mend the sites and continue with resume=true"
    )


def run(grid: Grid, coordinator: Coordinator) -> Vector:
    """Play all rounds that are left and return the final parameters.

    Raises:
        QuorumError: if too few sites join or answer and the job says ``stop``.
        RunFolderError: if the run can't be written or continued.
    """
    try:
        vector = _play(grid, coordinator)
    except Exception:
        # An interrupted run keeps what it has reserved, to go on with; a failed one gives it back.
        try:
            leave(grid, coordinator, failed=True)
        except (FedmodelError, OSError) as error:
            logger.warning("the end of the failed run couldn't be told and kept: %s", error)
        raise
    leave(grid, coordinator, failed=False)
    return vector


def _play(grid: Grid, coordinator: Coordinator) -> Vector:
    state = _Run(grid, coordinator)
    state.restore()
    last = coordinator.job.train.rounds
    nodes: list[int] = []
    if (state.round < last and state.stopped is None) or state.release_is_due:
        nodes = join(grid, coordinator, state.hide())
        state.pass_over_closed()
    while state.round < last and state.stopped is None:
        state.play(nodes)
    if state.release_is_due:
        state.release(nodes)
    coordinator.outcome.rounds = state.round
    coordinator.outcome.updates = state.updates
    coordinator.outcome.released = state.released
    coordinator.outcome.stopped = state.stopped if state.round < last else None
    if coordinator.evaluate is not None:
        coordinator.outcome.final = state.metrics or coordinator.evaluate(state.vector)
    return state.vector
