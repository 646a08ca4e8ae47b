"""The site's policy: what it allows, asked before anything else, and which rule says no.

It outranks every job. A rule is a function of the job, the policy and facts about the site; each
names what was asked and what is allowed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clients.circumstances import Circumstances, beyond
from clients.limits import Limits, exceeded
from fedmodel import tasks
from fedmodel.accounting.planning import check_delta
from fedmodel.data import Rows, check_site
from fedmodel.errors import (
    BudgetError,
    ConfigError,
    DataError,
    FedmodelError,
    FloorError,
    LedgerError,
    PrivacyError,
    RefusedError,
)
from fedmodel.job import Job, ProposedPrivacy
from fedmodel.ledger.caps import Caps, Charge
from fedmodel.secagg.agreement import Floors

__all__ = ["Broken", "Charges", "Policy", "SiteFacts", "broken_rules", "count_units", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a site allows.

    Args:
        caps: ε of its dataset over all runs.
        floors: fewest sites in a secure sum; what isn't set follows from the site's roster.
        approval: ``each`` run waits for the word of the site's people (:mod:`clients.desk`), or
            every job that the policy allows is taken (``auto``).
        limits: of what any job may ask.
    """

    caps: Caps = field(default_factory=Caps)
    floors: Floors = field(default_factory=Floors)
    approval: Literal["each", "auto"] = "each"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """What a job would be charged on a dataset, beside what is charged already.

    Args:
        spent: all that is spent on the dataset.
        held: all that is reserved on it and not spent yet.
        new: what the job asks for; empty where its run goes on with what it holds.
        run: the part of ``spent`` and ``held`` that is the run's.
    """

    spent: Sequence[Charge] = ()
    held: Sequence[Charge] = ()
    new: Sequence[Charge] = ()
    run: Sequence[Charge] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What a decision needs to know of the site. All of it is private.

    Args:
        name: of the site.
        rows: its training rows.
        test: rows that it has held out; ``None`` where it was told of none.
        roster: how many members the site's own roster has; ``None`` without one.
        charges: tells the charges on its dataset, of a job that spends something. It reads the
            ledger, so it is asked by the last rule only.
    """

    name: str
    rows: Rows
    test: Rows | None = None
    roster: int | None = None
    charges: Callable[[], Charges] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that a job breaks.

    Args:
        rule: its name.
        asked: what the job asks for. Private where the rule is about the site's rows.
        allowed: what the site allows. Likewise.
        error: what to raise; its type says whether its words may travel.
    """

    rule: str
    asked: str
    allowed: str
    error: FedmodelError

    def __str__(self) -> str:
        return f"{self.rule}: asked {self.asked}, allowed {self.allowed}"


Rule: TypeAlias = Callable[[Job, Policy, SiteFacts], Broken | None]


def decide(
    job: Job,
    policy: Policy,
    facts: SiteFacts | None = None,
    offered: Circumstances | None = None,
) -> None:
    """Say yes to a job by returning, or no by raising what the first broken rule says.

    Args:
        job: what is offered.
        policy: what the site allows.
        facts: about the site; ``None``: ask only what is about the job and its offer.
        offered: what comes with the job; ``None``: nothing does, now.

    Raises:
        RefusedError: for a job beyond the site's limits, or whose labels lack one of the site's.
        DataError: for a site with fewer rows (held-out ones count) than the job or, without DP, a
            batch needs (a private batch draws each unit by itself, so it needs no number of them),
            without the patients that the job protects, or without the test rows that it asks about.
        FloorError: when secure sums are of fewer sites than the site's floors.
        PrivacyError: when δ is too large for the site.
        BudgetError: with the numbers, when the job would exceed a cap.
    """
    for broken in broken_rules(job, policy, facts, offered):
        broken.error.rule = str(broken)
        raise broken.error


def broken_rules(
    job: Job,
    policy: Policy,
    facts: SiteFacts | None = None,
    offered: Circumstances | None = None,
) -> Iterator[Broken]:
    """Yield every rule that a job breaks: first those that don't look at the site's rows.

    Raises:
        LedgerError: when the ledger must be asked and can't be read.
    """
    around = beyond(offered or Circumstances(), policy.limits)
    for limit in (*exceeded(job, policy.limits), *around):
        yield Broken(
            rule=limit.limit,
            asked=limit.asked,
            allowed=limit.allowed,
            error=RefusedError(str(limit)),
        )
    if facts is None:
        return
    for name, rule in _RULES:
        try:
            found = rule(job, policy, facts)
        except LedgerError:
            raise  # of what is spent nothing is known
        except FedmodelError as error:
            asked, allowed = f"{job.privacy.unit}s", "what the rows name"
            found = Broken(rule=name, asked=asked, allowed=allowed, error=error)
        if found is not None:
            yield found


def _labels(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    task, known = tasks.of(job.model.task), set(job.model.labels)
    own = task.vocabulary(facts.rows.labels)
    if facts.test is not None and job.publishes_evaluation:
        own |= task.vocabulary(facts.test.labels)
    if own <= known:
        return None
    return Broken(
        rule="labels",
        asked=f"{len(known)} classes",
        allowed=f"jobs that list the site's {len(own)}",
        error=RefusedError(
            "this site has labels that the job doesn't list; agree on model.labels first"
        ),
    )


def _min_rows(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    # Which rows are held out is chance: it is not to decide whether a site takes part.
    least, rows = job.federation.min_rows, len(facts.rows) + _tested(facts)
    if rows >= least and (len(facts.rows) or job.privacy.clips_units):
        return None
    return Broken(
        rule="federation.min_rows",
        asked=str(least),
        allowed=str(rows),
        error=DataError(
            f"site '{facts.name}': expected at least {least} training rows, with those that are "
            f"held out (federation.min_rows), and one to train on; got {rows}; give it more rows "
            "or leave it out"
        ),
    )


def _tested(facts: SiteFacts) -> int:
    return 0 if facts.test is None else len(facts.test)


def _batch(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if job.privacy.clips_units:
        return None
    try:
        check_site(facts.name, facts.rows, job.train.batch_size, held_out=_tested(facts))
    except DataError as error:
        asked, rows = str(job.train.batch_size), str(len(facts.rows) + _tested(facts))
        return Broken(rule="train.batch_size", asked=asked, allowed=rows, error=error)
    return None


def _held_out(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if not job.publishes_evaluation or facts.test is not None:
        return None
    return Broken(
        rule="federation.test",
        asked="held-out",
        allowed="public or none",
        error=DataError(
            f"site '{facts.name}': the job ends with an evaluation on rows that each site has held "
            "out (federation.test=held-out), and this site has none; hold some out, or agree on "
            "privacy.evaluation=suppressed"
        ),
    )


def _delta(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if not job.privacy.private:
        return None
    units = max(1, protected_units(job, facts))  # that there is a row at all is another rule's
    try:
        check_delta(job.privacy, units)
    except (ConfigError, PrivacyError) as error:
        asked, allowed = f"{job.privacy.delta:g}", f"below 1/{units} {job.privacy.unit}s"
        return Broken(rule="privacy.delta", asked=asked, allowed=allowed, error=error)
    return None


def _floors(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    sums, cohort = job.secagg.sums, job.federation.cohort
    if sums is None:
        return None
    asked = {
        "cohort": cohort,
        "survivors": sums.survivors,
        "threshold": sums.threshold,
        "colluders": sums.colluders,
    }
    floors = policy.floors if facts.roster is None else policy.floors.of_roster(facts.roster)
    try:
        floors.check(**asked)
    except FloorError as error:
        return Broken(rule="floors", asked=str(asked), allowed=str(floors), error=error)
    return None


def _caps(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if not job.privacy.private or facts.charges is None or policy.caps == Caps():
        return None
    found = facts.charges()
    try:
        policy.caps.check(spent=found.spent, held=found.held, new=found.new, run=found.run)
    except BudgetError as error:
        asked = f"ε = {job.privacy.epsilon:g}"
        return Broken(rule="budget", asked=asked, allowed=str(policy.caps), error=error)
    return None


_RULES: tuple[tuple[str, Rule], ...] = (
    ("federation.min_rows", _min_rows),
    ("federation.test", _held_out),
    ("train.batch_size", _batch),
    ("labels", _labels),
    ("floors", _floors),
    ("privacy.delta", _delta),
    ("budget", _caps),
)


def count_units(privacy: ProposedPrivacy, *parts: Rows) -> int:
    """Return how many units, by the job's notion, some rows of a site are of. It is private.

    Raises:
        DataError: when patients are the unit and the rows don't name theirs.
    """
    if privacy.unit == "site":
        return 1
    if privacy.unit == "record":
        return sum(map(len, parts))
    patients: set[str] = set()
    for rows in parts:
        if rows.patients is None:
            raise DataError(
                "privacy.unit=patient hides a patient with all rows, so it needs the patient of "
                "each row, and these rows have none; set data.patient=COLUMN, or privacy=record"
            )
        patients.update(rows.patients)
    return len(patients)


def protected_units(job: Job, facts: SiteFacts) -> int:
    """Return how many units the promise is to, as far as the site can tell.

    Those of all rows that the job touches here; where a site is the unit, the sites of the job.

    Raises:
        DataError: when they can't be counted.
    """
    if job.privacy.unit == "site":
        return job.federation.sites
    parts = [facts.rows]
    if job.publishes_evaluation and facts.test is not None:
        parts.append(facts.test)
    return count_units(job.privacy, *parts)
