"""Rounds of a run at the coordinator: join, then train, aggregate, evaluate and save.

After the last round the sites may be asked, once, for noised counts on their own test rows.
"""

import logging
import math
import time
from dataclasses import replace
from typing import Any

from fedmodel import tasks, wire
from fedmodel.errors import FedmodelError, QuorumError
from fedmodel.wire import Content
from fedmodel.wire.arrays import view
from server.collect import Collected, collect_counts
from server.coordinator import Coordinator, RunResult
from server.exchange.channel import Channel
from server.exchange.protocol import Invitation
from server.exchange.voice import Moment, Voice
from server.joinings import Joinings
from server.leaving import interrupts, leave
from server.membership import lacking, quorum, standing_noted
from server.progress import Progress

__all__ = ["run"]

logger = logging.getLogger(__name__)


class _Run:
    """One run as it is played: who takes part, and how far it has come."""

    def __init__(self, channel: Channel, coordinator: Coordinator) -> None:
        self.channel = channel
        self.c = coordinator
        self.job = coordinator.job
        self.joinings = Joinings(channel, coordinator)
        self.progress = Progress(coordinator)
        self.round_seconds: list[float] = []

    def size(self, sites: int) -> int:
        """Return how many of so many sites are asked in a round."""
        return max(1, math.ceil(self.job.federation.fraction * sites))

    def sample(self, nodes: list[int]) -> list[int]:
        """Choose the nodes of the next round, reproducibly."""
        count = self.size(len(nodes))
        if count >= len(nodes):
            return nodes
        generator = self.job.root_seed.child("sampling", self.progress.round + 1).numpy()
        return sorted(int(n) for n in generator.choice(nodes, size=count, replace=False))

    # -- what was left undone --------------------------------------------------------------------

    def settle(self) -> None:
        """Finish or pass over the next round, where sites had begun to agree to a sum of it."""
        self._recover()
        self._pass_over_lost()

    def _recover(self) -> None:
        """Finish the round whose reveals had been asked for when its joining ended.

        Not one of fewer sites than ``federation.quorum`` wants of those that were asked for it:
        that one stays lost.
        """
        progress, nodes = self.progress, self.joinings.nodes
        got = self.joinings.exchange.recover(self.channel, progress.round + 1, progress.vector)
        if got is None:
            return
        needed, _ = quorum(self.job, got.asked or self.size(self.joinings.expected))
        if got.updates >= needed:
            progress.keep(got, nodes)
            progress.finish(got, nodes)

    def _pass_over_lost(self) -> None:
        """Pass over the next round, if the sites had agreed to its sum when it was lost.

        They don't repeat it: sums over two sets of sites would show who is in one only.
        """
        progress = self.progress
        if self.joinings.exchange.lost(progress.round + 1):
            progress.round += 1
            why = "agreed on before an interruption, and its sum lost; sites repeat no such round"
            row = {"round": progress.round, "updates": 0, "asked": 0, "lost": why}
            progress.rows.append(row)
            progress.note_result(Collected(reason=why))
            progress.save()

    # -- one round -------------------------------------------------------------------------------

    def train(self, nodes: list[int]) -> Collected:
        """Ask the nodes to train and collect their updates, or the sum of them."""
        progress = self.progress
        number, vector = progress.round + 1, wire.pack(progress.vector)
        # The model as it is sent is the one that is kept meanwhile, not a second one.
        progress.vector = view(vector, "float32")
        model = progress.model
        self.c.ledger.asks("train", number, model, nodes)
        invitation = Invitation(
            round=number,
            nodes=nodes,
            vector=progress.vector,
            order=lambda node: self.order(node, number, vector, model),
            check=standing_noted(self.c),
            named=self.c.ledger.kept,
        )
        return self.joinings.exchange.collect(self.channel, invitation)

    def order(self, node: int, round_: int, vector: Any, model: str) -> Content:
        """Return what a node is told to do."""
        entries = self.c.memory.entries(node)
        order = wire.encode_order(self.c.run, round_, self.job.sha256, vector, entries, model)
        return wire.show(order, self.c.ledger.witnesses.show(node))

    def play(self) -> None:
        """Play one round; sets ``stopped`` when the run must end.

        Where too few have given an update, and some because they aren't what they were when they
        joined, nothing is done: all join anew first, once a round.
        """
        started, progress = time.perf_counter(), self.progress
        number, chosen = progress.round + 1, self.sample(self.joinings.nodes)
        asked = max(len(chosen), self.size(self.joinings.expected))
        needed, key = quorum(self.job, asked)
        self.c.reporter.round_started(number, len(chosen))
        got = self.joinings.too_few(needed, chosen) or self.train(chosen)
        self.joinings.note(got.failures)
        enough = got.mean is not None and got.updates >= needed
        again = not enough and self.joinings.due(number)
        skips = self.job.federation.below_quorum == "skip"
        if again or (not enough and (got.budgets_spent or not skips)):
            self.c.ledger.unfinished(number, got, progress.model)
        if again:
            return
        if not enough and got.budgets_spent:
            why = f" ({got.reason})" if got.reason else ""
            progress.stopped = f"privacy budgets are spent after round {progress.round}{why}"
            return
        if not enough and not skips:
            error = QuorumError(_below(number, got, f"{needed} are needed ({key})", asked))
            fine = len(set(chosen) - set(got.failures))
            raise lacking(error, got.failures.values(), fine=fine, needed=needed)
        if enough:
            progress.keep(got, chosen)
        progress.finish(got if enough else replace(got, mean=None), chosen)
        self.round_seconds.append(time.perf_counter() - started)

    # -- the whole -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let the sites join for the first time."""
        self.joinings.begin(self.progress.round)
        self.settle()

    def play_all(self) -> None:
        """Play all rounds that are left; before each, all join anew where a site has come anew."""
        progress = self.progress
        while progress.round < self.job.train.rounds and progress.stopped is None:
            if self.joinings.due(progress.round + 1):
                self.joinings.renew(progress.round)
                self.settle()
            else:
                self.play()

    def end(self, told: set[int], *, failed: bool) -> None:
        """Write down that the run has ended, and which nodes have heard of it."""
        progress = self.progress
        self.c.ledger.ended(progress.round, progress.model, told, failed=failed)

    def publish(self) -> None:
        """Ask the nodes, once, how the last model does on their own test rows.

        Their budgets pay for one answer. So what came is kept at once; if it is lost in a crash
        before that, the sites refuse to repeat it, and a resumed run ends without them.
        """
        progress = self.progress
        if self.joinings.due(progress.round + 1):
            self.joinings.renew(progress.round)
        nodes = self.joinings.nodes
        vector, model = wire.pack(progress.vector), progress.model
        self.c.ledger.asks("evaluate", progress.round, model, nodes)
        orders = {node: self.order(node, progress.round, vector, model) for node in nodes}
        answers = self.channel.ask("evaluate", orders, "evaluate", Moment(progress.round))
        size = len(tasks.of(self.job.model.task).counted(self.job.model.labels).names)
        counts, failures = collect_counts(answers, nodes, size, standing_noted(self.c))
        self.c.ledger.evaluated(progress.round, model, counts, failures)
        progress.publish(
            list(counts.values()), {node: failure.reason for node, failure in failures.items()}
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
    state = _Run(channel, coordinator)
    try:
        result = _play(state)
    except Exception as error:
        # An interrupted run keeps what it has reserved, to go on with; a failed one gives it back.
        if state.progress.round and interrupts(error):
            logger.warning(
                "run %s was interrupted after round %d: what sites hold for it stays held until it "
                "goes on (resume=true), or they give it up (fedmodel budget release=%s)",
                coordinator.run, state.progress.round, coordinator.run,
            )  # fmt: skip
            raise
        try:
            state.end(leave(channel, coordinator, failed=True), failed=True)
        except (FedmodelError, OSError) as error:
            logger.warning("the end of the failed run couldn't be told and kept: %s", error)
        raise
    state.end(leave(channel, coordinator, failed=False), failed=False)
    return result


def _play(state: _Run) -> RunResult:
    coordinator, progress = state.c, state.progress
    progress.restore()
    if coordinator.keys is not None:
        coordinator.ledger.started(
            coordinator.job, coordinator.keys, progress.round, progress.model
        )
    progress.finish_kept()
    left = progress.round < coordinator.job.train.rounds and progress.stopped is None
    if left or progress.publication_is_due:
        state.begin()
        state.play_all()
        if progress.publication_is_due:
            state.publish()
    progress.require_trained()
    final: dict[str, float] = {}
    if coordinator.evaluate is not None:
        final = progress.metrics or coordinator.evaluate(progress.vector)
    result = progress.result(final, state.joinings.never)
    return replace(result, round_seconds=tuple(state.round_seconds))
