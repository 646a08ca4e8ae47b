"""Assembly of a coordinator from a job, a run folder and keys."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel import models
from fedmodel.data import Rows
from fedmodel.errors import ConfigError
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.refusals import RefusalLog
from fedmodel.job import Job, Performance
from fedmodel.runs import RunFolder
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training.evaluate import evaluate
from fedmodel.training.learner import Learner, resident
from fedmodel.training.names import name_vectors
from fedmodel.training.optim import rates
from fedmodel.training.staged import site_train
from fedmodel.update import Vector
from fedmodel.watch import UNWATCHED, Watch
from server.coordinator import Coordinator, Reporter, Silent
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from server.untold import Untold

__all__ = ["MOST_REFUSALS", "Known", "excluded_nodes", "make_coordinator"]

MOST_REFUSALS = 1000  # rows a day: one for each site of a large federation


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a coordinator knows of the sites, and tells them, beside the job.

    Args:
        keys: its own, and the roster; needed where updates are hidden or sealed.
        site_keys: node id → the site's public key (hex), as far as it is known beforehand.
        memory: files of the sites' tree heads.
        exclude: nodes that its operator leaves out.
        copies: files of them that are only read: other runs'.
        purpose: of the run, for the sites' people.
        home: its own folder, for its security log (which sites have refused) and for what sites are
            still to be told; ``None``: it has none.
    """

    keys: CoordinatorKeys | None = None
    site_keys: Mapping[int, str] = field(default_factory=dict)
    memory: Sequence[Path] = ()
    exclude: frozenset[int] = frozenset()
    copies: Sequence[Path] = ()
    purpose: str = ""
    home: Path | None = None


def make_coordinator(
    job: Job,
    folder: RunFolder,
    known: Known,
    *,
    performance: Performance,
    test: Rows | None = None,
    reporter: Reporter | None = None,
    watch: Watch = UNWATCHED,
    timeout: float = 3600.0,
) -> Coordinator:
    """Return a coordinator, ready for one run.

    Args:
        job: that was agreed on.
        folder: where the run is written; a run that was begun there is continued.
        known: what it knows of the sites.
        performance: of this machine, and proposed to every site.
        test: rows that it evaluates on; ``None``: none.
        reporter: who is told how it goes.
        watch: who is told what it is doing itself.
        timeout: seconds to wait for the sites' answers to a message.

    Raises:
        ModelError: if the starting weights are not the ones the job names.
        RunFolderError: if the memory of the sites' ledgers, or its own ledger, can't be read.
    """
    learner = resident(job, performance)
    # Without DP sites have no ledgers.
    memory = (
        LedgerMemory(known.memory, known.site_keys, known.copies)
        if job.privacy.private
        else LedgerMemory()
    )
    distributed = job.privacy.mechanism == "distributed"
    return Coordinator(
        job=job,
        purpose=known.purpose,
        base=models.checkpoint(job.model),
        performance=performance,
        folder=folder,
        initial=learner.initial,
        named=learner.layout.named,
        from_named=learner.layout.from_named,
        evaluate=None if test is None else _evaluator(job, learner, test, watch),
        memory=memory,
        ledger=OwnLedger() if known.keys is None else OwnLedger.of(folder, known.keys, memory),
        keys=known.keys,
        exclude=known.exclude,
        refusals=None if known.home is None else RefusalLog(known.home, most=MOST_REFUSALS),
        untold=None if known.home is None else Untold(known.home),
        rates=_rates(job, learner) if distributed else None,
        names=name_vectors(learner) if job.train.start == "means" else None,
        reporter=reporter or Silent(),
        timeout=timeout,
    )


def _rates(job: Job, learner: Learner) -> Vector:
    # Under shared noise all rounds have the same: the job's, or 1.
    return rates(learner.module, learner.layout, site_train(job, job.train.rounds))


def excluded_nodes(names: Mapping[int, str], exclude: Sequence[str]) -> frozenset[int]:
    """Return the nodes of the sites that the coordinator's operator leaves out.

    Args:
        names: node id → site.
        exclude: names of sites.

    Raises:
        ConfigError: for a name that no site has.
    """
    nodes = {name: node for node, name in names.items()}
    if unknown := sorted(set(exclude) - nodes.keys()):
        raise ConfigError(
            f"federation.exclude names {unknown[0]!r}, which is no site of this run; its sites are "
            f"{', '.join(sorted(nodes)[:20])}"
        )
    return frozenset(nodes[name] for name in exclude)


def _evaluator(
    job: Job, learner: Learner, test: Rows, watch: Watch
) -> Callable[[Vector], dict[str, float]]:
    model = job.model
    tensors = rows_as_tensors.prepare(
        learner, test.texts, test.labels, model.labels, model.max_length, watch=watch
    )

    def on_test(vector: Vector) -> dict[str, float]:
        learner.load_vector(vector)
        return evaluate(learner, tensors, watch)

    return on_test
