"""Rounds of a run at the coordinator: join, then train, aggregate, evaluate and save.

After the last round the sites may be asked, once, for noised counts on their own test rows.
"""

import dataclasses
import logging
import math
import time
from dataclasses import replace
from typing import Any

from fedmodel import tasks, wire
from fedmodel.errors import FedmodelError, QuorumError, RunError, RunFolderError
from fedmodel.runs import Checkpoint, KeptRound
from fedmodel.update import Update, Vector, root_mean_square, vector_sha256
from fedmodel.wire import Content
from server.collect import Collected, collect_counts
from server.coordinator import Coordinator, RunResult
from server.exchange.channel import Channel
from server.exchange.making import make_exchange
from server.exchange.protocol import Exchange, Invitation
from server.exchange.voice import Moment, Voice
from server.membership import join, leave, quorum, require_quorum, standing_noted
from server.optimizer import ServerOptimizer
from server.publishing import Published, publish

__all__ = ["run"]

logger = logging.getLogger(__name__)

_MOST_REASONS = 5
_MIN_IMPROVEMENT = 1e-4  # nats of test loss that count as better


class _Run:
    """The mutable state between two rounds: all of it is in a checkpoint."""

    def __init__(self, channel: Channel, coordinator: Coordinator) -> None:
        self.channel = channel
        self.c = coordinator
        self.job = coordinator.job
        self.optimizer = ServerOptimizer(self.job.aggregation)
        self.vector: Vector = coordinator.initial
        self.round = 0
        self.rows: list[dict[str, Any]] = []
        self.best_loss = math.inf
        self.stale = 0
        self.stopped: str | None = None
        self.applied = 0  # rounds that brought in what changes the model
        self.updates: dict[int, int] = {}
        self.published: Published | None = None
        self.metrics: dict[str, float] = {}  # of the current parameters, once evaluated
        self.round_seconds: list[float] = []

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
        self.applied = int(last.state.get("applied", sum(self.updates.values())))
        if (released := last.state.get("released")) is not None:
            self.published = Published.restored(released)
        self.rows = [row for row in folder.metrics() if row["round"] <= self.round]

    def save(self) -> None:
        """Write metrics and checkpoint; the checkpoint comes last and decides where a resume is."""
        self.c.memory.save()
        folder = self.c.folder
        if folder is None:
            return
        folder.write_metrics(self.rows)
        state = {
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "stale": self.stale,
            "stopped": self.stopped,
            "applied": self.applied,
            "updates": {str(node): count for node, count in self.updates.items()},
            "released": None if self.published is None else dataclasses.asdict(self.published),
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

    def recover(self, exchange: Exchange, nodes: list[int]) -> None:
        """Finish the round whose reveals had been asked for when this coordinator died.

        Not one of fewer sites than ``federation.quorum`` wants of those that were asked for it:
        that one stays lost.
        """
        got = exchange.recover(self.channel, self.round + 1, self.vector)
        if got is None:
            return
        needed, _ = quorum(self.job, got.asked or len(self.sample(nodes)))
        if got.updates >= needed:
            self.keep(got, nodes)
            self.finish(got, nodes)

    def pass_over_lost(self, exchange: Exchange) -> None:
        """Pass over the next round, if the sites had agreed to its sum when it was lost.

        They don't repeat it: sums over two sets of sites would show who is in one only.
        """
        if exchange.lost(self.round + 1):
            self.round += 1
            why = "agreed on before an interruption, and its sum lost; sites repeat no such round"
            self.rows.append({"round": self.round, "updates": 0, "asked": 0, "lost": why})
            self.save()

    def finish_kept(self) -> None:
        """Finish the round whose sum had come when this coordinator was interrupted."""
        kept = self.c.folder.kept_round() if self.c.folder else None
        if kept is None or kept.round != self.round + 1:
            return
        if kept.vector.shape != self.vector.shape:
            raise RunFolderError(
                f"the sum of round {kept.round} has {kept.vector.size} parameters, this job has "
                f"{self.vector.size}; the run folder was changed"
            )
        begun = self.c.folder.begun() if self.c.folder else None
        failures = {int(n): wire.Failure(reason=why) for n, why in kept.failures.items()}
        mean = Update(vector=kept.vector, weight=1.0, metrics=kept.metrics)
        got = Collected(
            mean=mean,
            givers=kept.givers,
            failures=failures,
            blamed={int(n): why for n, why in kept.blamed.items()},
            step=kept.step,
            absent=kept.absent,
            asked=begun.asked if begun is not None and begun.round == kept.round else 0,
        )
        self.finish(got, list(kept.asked))

    def keep(self, got: Collected, asked: list[int]) -> None:
        """Keep what sites have paid for, before anything else is done with it."""
        job, folder = self.job, self.c.folder
        if folder is None or got.mean is None or not (job.privacy.private or job.secagg.on):
            return
        folder.keep_round(
            KeptRound(
                round=self.round + 1,
                asked=tuple(asked),
                givers=got.givers,
                metrics=dict(got.mean.metrics),
                failures={str(node): f.reason for node, f in got.failures.items()},
                blamed={str(node): why for node, why in got.blamed.items()},
                step=got.step,
                absent=got.absent,
                vector=got.mean.vector,
            )
        )

    def train(self, exchange: Exchange, nodes: list[int]) -> Collected:
        """Ask the nodes to train and collect their updates, or the sum of them."""
        number, vector = self.round + 1, wire.pack(self.vector)
        model = vector_sha256(self.vector)
        invitation = Invitation(
            round=number,
            nodes=nodes,
            vector=self.vector,
            order=lambda node: self.order(node, number, vector, model),
            check=standing_noted(self.c),
        )
        return exchange.collect(self.channel, invitation)

    def order(self, node: int, round_: int, vector: Any, model: str) -> Content:
        """Return what a node is told to do."""
        entries = self.c.memory.entries(node)
        return wire.encode_order(self.c.run, round_, self.job.sha256, vector, entries, model)

    def play(self, exchange: Exchange, nodes: list[int]) -> None:
        """Play one round; sets ``stopped`` when the run must end."""
        started = time.perf_counter()
        chosen = self.sample(nodes)
        self.c.reporter.round_started(self.round + 1, len(chosen))
        got = self.train(exchange, chosen)
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
        if enough:
            self.keep(got, chosen)
        self.finish(got if enough else replace(got, mean=None), chosen)
        self.round_seconds.append(time.perf_counter() - started)

    def finish(self, got: Collected, chosen: list[int]) -> None:
        """Take the server's step on what a round brought in, evaluate and save.

        Args:
            got: what came; without a mean nothing changes.
            chosen: the nodes that were asked.
        """
        self.round += 1
        for node in chosen:
            self.updates[node] = self.updates.get(node, 0) + (node in got.givers)
        # Sites whose updates are in a recovered sum, and that are gone, had been asked, too.
        asked = max(len(chosen), got.updates, got.asked)
        row: dict[str, Any] = {"round": self.round, "updates": got.updates, "asked": asked}
        if got.mean is not None:
            self.applied += 1
            self.vector = self.optimizer.step(self.round, self.vector, got.mean.vector)
            row |= got.mean.metrics
            row |= self.rounding(got)
        row |= self.evaluate()
        if got.mean is None and got.reason:
            row["reason"] = got.reason
        row["failures"] = {str(node): f.reason for node, f in got.failures.items()}
        if got.blamed:
            row["blamed"] = {str(node): why for node, why in got.blamed.items()}
        self.rows.append(row)
        self.save()
        self.c.reporter.round_ended(self.round, row)

    def rounding(self, got: Collected) -> dict[str, float]:
        """Return the size of a mean update beside the step to which the sites rounded theirs."""
        if got.mean is None or got.step is None:
            return {}
        size = root_mean_square(got.mean.vector)
        if size < got.step and not any("step" in row for row in self.rows):
            logger.warning(
                "round %d: a coordinate of the mean update is %.2g in the root mean square, and "
                "sites round theirs to multiples of %.2g: the model may hardly move. Use more "
                "secagg.bits, or a smaller secagg.range",
                self.round,
                size,
                got.step,
            )
        return {"update": size, "step": got.step}

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

    def blamed(self) -> dict[int, str]:
        """Return who was blamed in any round, and why at last."""
        named = [row.get("blamed", {}) for row in self.rows]
        return {int(node): str(why) for each in named for node, why in each.items()}

    # -- after the last round --------------------------------------------------------------------

    @property
    def publication_is_due(self) -> bool:
        """Whether the sites are to be asked for noised counts now."""
        ended = self.round == self.job.train.rounds or self.stopped is not None
        asked = self.published is not None
        return ended and self.job.publishes_evaluation and not asked and self.applied > 0

    def publish(self, nodes: list[int]) -> None:
        """Ask the nodes, once, how the last model does on their own test rows.

        Their budgets pay for one answer. So what came is kept at once; if it is lost in a crash
        before that, the sites refuse to repeat it, and a resumed run ends without them.
        """
        vector, model = wire.pack(self.vector), vector_sha256(self.vector)
        orders = {node: self.order(node, self.round, vector, model) for node in nodes}
        answers = self.channel.ask("evaluate", orders, "evaluate", Moment(self.round))
        size = len(tasks.of(self.job.model.task).counted(self.job.model.labels).names)
        counts, failures = collect_counts(answers, nodes, size, standing_noted(self.c))
        reasons = {node: failure.reason for node, failure in failures.items()}
        self.published = publish(counts, self.job, reasons)
        self.save()

    def require_trained(self) -> None:
        """Check that some round changed the model: else the run isn't done, whatever it cost.

        Raises:
            QuorumError: when none did, with the reasons.
        """
        if self.applied:
            return
        told = {why for row in self.rows for why in row.get("failures", {}).values()}
        told |= {str(row["lost"]) for row in self.rows if "lost" in row}
        reasons = [*([self.stopped] if self.stopped else []), *sorted(told)[:_MOST_REASONS]]
        left = self.round < self.job.train.rounds
        raise QuorumError(
            f"nothing was trained: of {self.round} finished round(s) none had the updates it needs "
            f"({'; '.join(reasons) or 'no reason given'}). The model is the one the run began "
            f"with. Mend the sites and {'continue with resume=true' if left else 'run it anew'}"
        )


def _below(number: int, got: Collected, needed: str, asked: int) -> str:
    told = sorted({f.reason for f in got.failures.values()})
    reasons = "; ".join([*([got.reason] if got.reason else []), *told]) or "no reason given"
    if got.blamed:
        reasons += "; to blame: " + "; ".join(sorted(set(got.blamed.values())))
    return (
        f"round {number}: {got.updates} of {asked} sites gave an update, {needed}: {reasons}. "
        "Mend the sites and continue with resume=true"
    )


def run(channel: Channel, coordinator: Coordinator) -> RunResult:
    """Play all rounds that are left.

    Raises:
        QuorumError: if too few sites join, or answer and the job says ``stop``; or if no round
            changed the model.
        RunFolderError: if the run can't be written or continued.
    """
    if coordinator.keys is not None:
        channel.voice = Voice(coordinator.keys, coordinator.run, coordinator.job.sha256)
    try:
        result = _play(channel, coordinator)
    except Exception:
        # An interrupted run keeps what it has reserved, to go on with; a failed one gives it back.
        try:
            leave(channel, coordinator, failed=True)
        except (FedmodelError, OSError) as error:
            logger.warning("the end of the failed run couldn't be told and kept: %s", error)
        raise
    leave(channel, coordinator, failed=False)
    return result


def _play(channel: Channel, coordinator: Coordinator) -> RunResult:
    state = _Run(channel, coordinator)
    state.restore()
    state.finish_kept()
    last = coordinator.job.train.rounds
    joined: dict[int, str | None] = {}
    if (state.round < last and state.stopped is None) or state.publication_is_due:
        exchange = make_exchange(coordinator, state.round)
        joined = join(channel, coordinator, exchange)
        require_quorum(coordinator.job, joined)
        nodes = [node for node, refusal in joined.items() if refusal is None]
        state.recover(exchange, nodes)
        state.pass_over_lost(exchange)
        while state.round < last and state.stopped is None:
            state.play(exchange, nodes)
        if state.publication_is_due:
            state.publish(nodes)
    state.require_trained()
    final: dict[str, float] = {}
    if coordinator.evaluate is not None:
        final = state.metrics or coordinator.evaluate(state.vector)
    return RunResult(
        vector=state.vector,
        rounds=state.round,
        stopped=state.stopped if state.round < last else None,
        final=final,
        published=state.published,
        refused={node: why for node, why in joined.items() if why is not None},
        blamed=state.blamed(),
        updates=state.updates,
        skipped=state.round - state.applied,
        update=next((row["update"] for row in reversed(state.rows) if "update" in row), None),
        round_seconds=tuple(state.round_seconds),
    )
