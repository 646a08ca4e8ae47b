"""The site's report of its part in a run: for its own operator, never for the coordinator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.site import Site
from fedmodel.accounting.spends import Spend
from fedmodel.errors import PrivacyError, RollbackError
from fedmodel.job import Job
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Charge, total

__all__ = ["LedgerReport", "SiteReport", "SiteWork", "report_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What the site's ledger says of a run, read and checked once.

    Args:
        epsilon: spent by the run, at the job's δ.
        epsilon_total: of everything ever spent on the site's rows, for the job's unit; ``None``
            where none can be told.
        steps: of training that were taken.
        spent: what the run spent.
        path: of the ledger.
        text: its whole lines.
    """

    epsilon: float
    epsilon_total: float | None
    steps: int
    spent: tuple[Spend, ...]
    path: Path
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWork:
    """What a process has noted of a site's part in a run.

    Args:
        seconds: wall seconds of local training. With Poisson sampling it tells about the number of
            sampled rows, so it isn't for others.
        refusal: why it refused last, in its own words; what travels says less.
        rule: of the site's policy that said no then, with what was asked and what is allowed;
            ``None`` where it was no rule of the policy.
    """

    seconds: float = 0.0
    refusal: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReport:
    """What a site's operator may know of its part in a run.

    Args:
        site: its name.
        work: what its process has noted.
        ledger: what its ledger says; ``None`` for a job that spends nothing, or where there is no
            ledger.
    """

    site: str
    work: SiteWork
    ledger: LedgerReport | None = None


def report_of(site: Site, run: str, job: Job, work: SiteWork) -> SiteReport:
    """Return a site's report: its ledger is read and checked once for all that it says.

    Args:
        site: whose.
        run: which one.
        job: of the run.
        work: what its process has noted.

    Raises:
        LedgerError: when its ledger can't be read or isn't valid.
        RollbackError: when it is gone, or older than the site's own tree head, and the site took
            part, or when it has no step of a run in which this process trained: what a run has
            cost isn't told from half a ledger.
    """
    # A site that wouldn't join, perhaps for this very reason, says so; the others' run stands.
    trained = work.seconds > 0.0  # each step is in the ledger before it is taken
    aside = work.refusal is not None and not trained
    written = site.ledger_file.exists() if aside else trained or site.has_ledger
    if not (job.privacy.private and written):
        return SiteReport(site=site.name, work=work)
    ledger = Ledger(site.ledger_file) if aside else site.open_ledger()
    found = _ledger(ledger, site, run, job)
    if trained and not found.spent:
        raise RollbackError(
            f"{found.path} says nothing of the run {run!r}, in which the site trained: it is "
            "gone or an old copy, and so is the tree head beside it. Restore the newest of both"
        )
    return SiteReport(site=site.name, work=work, ledger=found)


def _ledger(ledger: Ledger, site: Site, run: str, job: Job) -> LedgerReport:
    from fedmodel.accounting.claims import claim

    read = ledger.snapshot()
    book = read.book
    reservations = book.of(run, job.sha256)
    entries = [entry for r in reservations for entry in r.spent]
    spends = [entry.spend() for entry in entries]
    return LedgerReport(
        epsilon=claim(spends, job.privacy.delta, job.privacy.adjacency).epsilon,
        epsilon_total=_total(book.charges()[0], job),
        steps=sum(entry.steps for entry in entries if entry.kind == "train"),
        spent=tuple(spends),
        path=site.ledger_file,
        text=read.text,
    )


def _total(spent: Sequence[Charge], job: Job) -> float | None:
    """Return ε of everything ever spent on a site's rows, for the job's unit, if there is one."""
    try:
        return total(spent, job.privacy.unit).epsilon
    except PrivacyError:
        return None
