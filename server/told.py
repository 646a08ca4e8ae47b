"""What a coordinator can tell of the sites after a run: what they have said, signed or promised."""

from collections.abc import Mapping

from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.spends import Spend
from fedmodel.job import Job
from fedmodel.runs import SiteLedger, SiteSummary
from server.coordinator import RunResult
from server.ledger_memory import LedgerMemory

__all__ = ["most_spent", "told_of_sites"]


def told_of_sites(
    job: Job,
    result: RunResult,
    names: Mapping[int, str],
    memory: LedgerMemory,
    *,
    resumed: bool,
) -> dict[str, SiteSummary]:
    """Return site → what is known of its part, and the most that it can have spent.

    A site's figures stay at the site. It keeps to the job's ε by its own ledger, whatever is asked
    of it and however often: that bounds what it has spent. Who refused was never asked to train,
    unless this run was begun by an earlier process.

    Args:
        job: of the run.
        result: by the coordinator.
        names: node id → site.
        memory: of the sites' ledgers.
        resumed: whether the run had been begun before.
    """
    return {
        name: _site(
            job,
            result.updates.get(node, 0),
            result.refused.get(node),
            _ledger(memory, node),
            resumed=resumed,
        )
        for node, name in names.items()
    }


def most_spent(job: Job) -> tuple[tuple[Spend, ...], ...]:
    """Return what a site that took part in everything has spent, where the sites share the noise.

    Args:
        job: of the run.
    """
    return (plan_of(job).spends(),) if job.privacy.shared else ()


def _site(
    job: Job, rounds: int, refused: str | None, ledger: SiteLedger | None, *, resumed: bool
) -> SiteSummary:
    epsilon = None
    if job.privacy.private:
        nothing = refused is not None and not rounds and not resumed
        epsilon = 0.0 if nothing else job.privacy.epsilon
    return SiteSummary(
        epsilon=epsilon,
        steps=rounds * job.train.steps,
        refused=refused,
        rounds=rounds,
        ledger=ledger,
    )


def _ledger(memory: LedgerMemory, node: int) -> SiteLedger | None:
    head = memory.head(node)
    return None if head is None else SiteLedger(entries=head.size, root=head.root, time=head.time)
