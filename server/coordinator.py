"""The coordinator of one run: what it is given, and what it returns."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.refusals import RefusalLog
from fedmodel.job import Job, Performance
from fedmodel.runs import RunFolder, new_run
from fedmodel.seeds import Entropy
from fedmodel.update import Vector
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from server.publishing import Published
from server.untold import Untold

__all__ = ["Coordinator", "Reporter", "RunResult", "Silent"]


class Reporter(Protocol):
    """Who is told how a run goes (a progress display)."""

    def sites_joined(self, sites: dict[int, str | None]) -> None:
        """All nodes were asked to join: node id → ``None``, or why not."""

    def round_started(self, number: int, sites: int) -> None:
        """A round begins with so many sites."""

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        """A round ended; of its failures some may be of nodes whose updates are in its mean."""


class Silent:
    """A reporter that says nothing."""

    def sites_joined(self, sites: dict[int, str | None]) -> None:
        """Say nothing."""

    def round_started(self, number: int, sites: int) -> None:
        """Say nothing."""

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    Args:
        vector: the final parameters, float32 ``[trainable]``.
        rounds: finished rounds.
        stopped: why before its last round, ``None`` if it wasn't.
        final: metrics of the final model on the coordinator's test rows.
        published: its accuracy as the sites published it; ``None`` when they weren't asked.
        refused: node id → why it didn't join.
        blamed: node id → in what it was wrong, or in dispute with another site.
        updates: node id → rounds it gave an update in.
        skipped: finished rounds that left the model as it was: too few updates, or a lost sum.
        update: root mean square of a coordinate of the last mean update, where sites rounded theirs
            for a sum.
        round_seconds: wall seconds from a round's start to its end, one per round run here.
    """

    vector: Vector
    rounds: int = 0
    stopped: str | None = None
    final: dict[str, float] = field(default_factory=dict)
    published: Published | None = None
    refused: dict[int, str] = field(default_factory=dict)
    blamed: dict[int, str] = field(default_factory=dict)
    updates: dict[int, int] = field(default_factory=dict)
    skipped: int = 0
    update: float | None = None
    round_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """One run at the coordinator.

    Args:
        job: what was agreed.
        run: names the run; where it isn't given, the folder's, or a new one.
        purpose: why, for the sites' people.
        base: SHA-256 (hex) of each file of weights that the job's model starts from.
        performance: proposed to every site.
        folder: where the run is written, ``None`` to write nothing.
        initial: starting parameters, float32 ``[trainable]``.
        named: names the parameters for files: vector → name → array.
        from_named: the inverse.
        evaluate: public-test metrics of a vector, ``None`` without a public test set.
        memory: of the sites' ledgers.
        ledger: its own, of this run.
        keys: its own, and the roster; needed where updates are hidden or sealed.
        rates: learning rate of each coordinate, float32 ``[trainable]``; needed where the
            coordinator takes the optimiser's steps (``privacy=distributed``).
        names: embeddings of the classes' names, float64 ``[K, width]``, for a head that starts from
            means; ``None``: not known.
        refusals: where it is kept which sites have refused the job, and why; ``None``: nowhere.
        untold: ends of its runs that sites haven't heard of; ``None``: they aren't kept.
        exclude: nodes that its operator leaves out.
        entropy: real randomness: names of joinings.
        timeout: seconds to wait for the sites in a round.
        grace: seconds before a round in which sites may come back, where too few are connected.
        reporter: who is told.
    """

    job: Job
    run: str = ""
    purpose: str = ""
    base: tuple[str, ...] = ()
    performance: Performance = field(default_factory=Performance)
    folder: RunFolder | None
    initial: Vector
    named: Callable[[Vector], dict[str, NDArray[np.float32]]] = lambda v: {"vector": v}
    from_named: Callable[[dict[str, NDArray[Any]]], Vector] = lambda d: d["vector"]
    evaluate: Callable[[Vector], dict[str, float]] | None = None
    memory: LedgerMemory = field(default_factory=LedgerMemory)
    ledger: OwnLedger = field(default_factory=OwnLedger)
    keys: CoordinatorKeys | None = None
    rates: Vector | None = None
    names: NDArray[np.float64] | None = None
    refusals: RefusalLog | None = None
    untold: Untold | None = None
    exclude: frozenset[int] = frozenset()
    entropy: Entropy = field(default_factory=Entropy)
    timeout: float = 3600.0
    grace: float = 0.0
    reporter: Reporter = field(default_factory=Silent)

    def __post_init__(self) -> None:
        if not self.run:
            named = self.folder.run if self.folder is not None else new_run("run", self.entropy)
            object.__setattr__(self, "run", named)
