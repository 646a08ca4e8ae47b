"""Progress of a run: the model, how far it has come, and what a checkpoint has of it."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmodel import wire
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import QuorumError, RunError, RunFolderError
from fedmodel.mechanisms.counts import Counts
from fedmodel.runs import Checkpoint, KeptRound
from fedmodel.update import Update, Vector, root_mean_square, vector_sha256
from server.collect import Collected
from server.coordinator import Coordinator, RunResult
from server.head_optimizer import HeadOptimizer
from server.optimizer import ServerOptimizer
from server.publishing import Published, publish

__all__ = ["Progress"]

logger = logging.getLogger(__name__)

_MOST_REASONS = 5
_MIN_IMPROVEMENT = 1e-4  # nats of test loss that count as better


class Progress:
    """The mutable state between two rounds: all of it is in a checkpoint.

    Args:
        coordinator: of the run.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self.c = coordinator
        self.job = coordinator.job
        self.optimizer = _optimizer(coordinator)
        self.vector: Vector = coordinator.initial
        self._model: str | None = None  # SHA-256 of them, once it was asked for
        self.round = 0
        self.rows: list[dict[str, Any]] = []
        self.best_loss = math.inf
        self.stale = 0
        self.stopped: str | None = None
        self.applied = 0  # rounds that brought in what changes the model
        self.updates: dict[int, int] = {}
        self.published: Published | None = None
        self.metrics: dict[str, float] = {}  # of the current parameters, once evaluated

    # -- checkpoints -----------------------------------------------------------------------------

    def restore(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        folder = self.c.folder
        last = folder.last_checkpoint() if folder else None
        if folder is None or last is None:
            return
        self.vector = self.c.from_named(last.parameters)
        self._model = None
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

    # -- what a round brought in -----------------------------------------------------------------

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
            sha256s={int(n): each for n, each in kept.sha256s.items()},
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
                sha256s={str(node): each for node, each in got.sha256s.items()},
                vector=got.mean.vector,
            )
        )

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
            self.vector = self.optimizer.step(self.round, self.vector, got.mean.vector, got.updates)
            self._model = None
            row |= got.mean.metrics
            row |= self.rounding(got)
        row |= self.evaluate()
        if got.mean is None and got.reason:
            row["reason"] = got.reason
        self.note_result(got)
        row["failures"] = {str(node): f.reason for node, f in got.failures.items()}
        if got.blamed:
            row["blamed"] = {str(node): why for node, why in got.blamed.items()}
        self.rows.append(row)
        self.save()
        gave = got.givers if got.mean is not None else ()
        self.c.reporter.round_ended(self.round, row, gave)

    def note_result(self, got: Collected) -> None:
        """Write down in the coordinator's ledger what came of the round."""
        self.c.ledger.result(self.round, got, self.model, stopped=self.stopped is not None)

    @property
    def model(self) -> str:
        """SHA-256 (hex) of the parameters."""
        if self._model is None:
            self._model = vector_sha256(self.vector)
        return self._model

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

    def publish(self, counts: Sequence[Counts], reasons: Mapping[int, str]) -> None:
        """Combine what sites tell of the last model, and keep it at once: they tell it once.

        Args:
            counts: of each site that has answered.
            reasons: node → why another hasn't.
        """
        self.published = publish(counts, self.job, reasons)
        self.save()

    def result(self, final: dict[str, float], refused: dict[int, str]) -> RunResult:
        """Return how the run has ended, but for the time that it took.

        Args:
            final: metrics of the final model.
            refused: node → why it has never joined.
        """
        return RunResult(
            vector=self.vector,
            rounds=self.round,
            stopped=self.stopped if self.round < self.job.train.rounds else None,
            final=final,
            published=self.published,
            refused=refused,
            blamed=self.blamed(),
            updates=self.updates,
            skipped=self.round - self.applied,
            update=next((row["update"] for row in reversed(self.rows) if "update" in row), None),
        )

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


def _optimizer(coordinator: Coordinator) -> ServerOptimizer | HeadOptimizer:
    job = coordinator.job
    if job.train.start == "zero":
        return ServerOptimizer(job.aggregation)
    plan = plan_of(job) if job.privacy.private else None
    return HeadOptimizer(job, plan, coordinator.names)
