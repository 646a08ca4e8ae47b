"""The site's policy: what it allows, asked before anything else, and which rule says no.

It outranks every job. A rule is a function of the job, the policy and facts about the site; each
names what was asked and what is allowed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from clients.approvers import People
from clients.circumstances import Circumstances, beyond
from clients.declared import Declared
from clients.limits import Limits, exceeded
from fedmodel import config
from fedmodel.accounting.planning import check_delta
from fedmodel.budget.figures import figures, said
from fedmodel.budget.statement import cost_of
from fedmodel.errors import (
    BudgetError,
    ConfigError,
    FedmodelError,
    FloorError,
    LedgerError,
    PrivacyError,
    RefusedError,
)
from fedmodel.job import Job
from fedmodel.ledger.caps import Caps, Charge
from fedmodel.secagg.agreement import Floors

__all__ = ["Broken", "Charges", "Policy", "SiteFacts", "broken_rules", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a site allows.

    Args:
        caps: ε of its dataset over all runs.
        floors: fewest sites in a secure sum; what isn't set follows from the site's roster.
        approval: ``each`` run waits for the word of the site's people (:mod:`clients.desk`), or
            every job that the policy allows is taken (``auto``).
        limits: of what any job may ask.
        approvers: who may decide on runs, ``NAME KEY`` each; none: whoever has the site's own key.
        needed: how many of them must have approved a run.

    Raises:
        ConfigError: for approvers who aren't asked, or can't be told apart.
    """

    caps: Caps = field(default_factory=Caps)
    floors: Floors = field(default_factory=Floors)
    approval: Literal["each", "auto"] = "each"
    limits: Limits = field(default_factory=Limits)
    approvers: tuple[str, ...] = ()
    needed: int = 1

    def __post_init__(self) -> None:
        if self.people != People() and self.approval == "auto":
            raise ConfigError(
                "approvers are named, and approval=auto asks nobody; use approval=each, or leave "
                "approvers and needed out"
            )

    @classmethod
    def of(cls, rules: Mapping[str, Mapping[str, Any]], people: Mapping[str, Any]) -> "Policy":
        """Return the policy of the keys that people write.

        Args:
            rules: keys of ``policy``, ``budget`` and ``floors``, each with their values.
            people: ``approval``, ``approvers``, ``needed``.

        Raises:
            ConfigError: for an unknown key, or a rule that no job keeps.
        """
        caps = config.build(Caps, rules["budget"], "budget")
        floors = config.build(Floors, rules["floors"], "floors")
        limits = config.build(Limits, rules["policy"], "policy")
        return config.build(cls, {**people, "caps": caps, "floors": floors, "limits": limits})

    @property
    def people(self) -> People:
        """Who may decide on runs."""
        return People(approvers=self.approvers, needed=self.needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """What a job would be charged on a dataset, beside what is charged already.

    Args:
        spent: all that is spent on the dataset.
        held: all that is reserved on it and not spent yet.
        new: what the job asks for; empty where its run goes on with what it holds.
        run: the part of ``spent`` and ``held`` that is the run's.
        dataset: its name.
    """

    spent: Sequence[Charge] = ()
    held: Sequence[Charge] = ()
    new: Sequence[Charge] = ()
    run: Sequence[Charge] = ()
    dataset: str = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What a decision needs to know of the site. No row is among it.

    Args:
        name: of the site.
        declared: what it says of its rows. All rules but the last follow from it, and it is public.
        roster: how many members the site's own roster has; ``None`` without one.
        charges: tells the charges on its dataset, of a job that spends something. It reads the
            ledger, so it is asked by the last rule only.
    """

    name: str
    declared: Declared
    roster: int | None = None
    charges: Callable[[], Charges] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that a job breaks.

    Args:
        rule: its name.
        asked: what the job asks for.
        allowed: what the site allows. Private where the rule is about what was spent.
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
    noted: "Callable[[Broken], None] | None" = None,
) -> None:
    """Say yes to a job by returning, or no by raising what the first broken rule says.

    Args:
        job: what is offered.
        policy: what the site allows.
        facts: about the site; ``None``: ask only what is about the job and its offer.
        offered: what comes with the job; ``None``: nothing does, now.
        noted: is told the rule that says no.

    Raises:
        RefusedError: for a job beyond the site's limits, or that asks for more rows than the site
            declares, for patients, held-out rows or classes that it doesn't declare, or when δ is
            too large for what it declares.
        FloorError: when secure sums are of fewer sites than the site's floors.
        BudgetError: with the numbers, when the job would exceed a cap.
    """
    for broken in broken_rules(job, policy, facts, offered):
        broken.error.rule = str(broken)
        if noted is not None:
            noted(broken)
        raise broken.error


def broken_rules(
    job: Job,
    policy: Policy,
    facts: SiteFacts | None = None,
    offered: Circumstances | None = None,
) -> Iterator[Broken]:
    """Yield every rule that a job breaks: first those that are about the job and its offer alone.

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
            asked, allowed = f"{job.privacy.unit}s", "what the site declares"
            found = Broken(rule=name, asked=asked, allowed=allowed, error=error)
        if found is not None:
            yield found


def _labels(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    own = facts.declared.labels
    if own is None or set(own) & set(job.model.labels):
        return None
    # Rows of other classes are left out, so that one of a class more changes no answer.
    return Broken(
        rule="labels",
        asked=f"{len(job.model.labels)} classes",
        allowed=f"jobs with one of the site's {len(own)}",
        error=RefusedError(
            "the job lists none of the classes that this site declares (model.labels), so it has "
            "nothing to train on; agree on model.labels first"
        ),
    )


def _min_rows(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    return _too_few(job.federation.min_rows, "federation.min_rows", facts)


def _batch(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if job.privacy.clips_units:  # then a batch draws each unit by itself
        return None
    return _too_few(job.train.batch_size, "train.batch_size", facts)


def _too_few(least: int, key: str, facts: SiteFacts) -> Broken | None:
    rows = facts.declared.records[0]
    if rows >= least:
        return None
    return Broken(
        rule=key,
        asked=str(least),
        allowed=str(rows),
        error=RefusedError(
            f"site '{facts.name}': expected at least {least} rows at a site, those that are held "
            f"out included ({key}), got {rows} by what it declares; lower {key}, give it more rows "
            "or leave it out"
        ),
    )


def _held_out(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if not job.publishes_evaluation or facts.declared.held_out:
        return None
    return Broken(
        rule="federation.test",
        asked="held-out",
        allowed="public or none",
        error=RefusedError(
            f"site '{facts.name}': the job ends with an evaluation on rows that each site has held "
            "out (federation.test=held-out), and this site has none; hold some out, or agree on "
            "privacy.evaluation=suppressed"
        ),
    )


def _delta(job: Job, policy: Policy, facts: SiteFacts) -> Broken | None:
    if not job.privacy.private:
        return None
    sites = job.privacy.unit == "site"
    units = job.federation.sites if sites else facts.declared.most_units(job.privacy)
    units = max(1, units)  # that there is a row at all is another rule's
    try:
        check_delta(job.privacy, units)
    except (ConfigError, PrivacyError) as error:
        asked, allowed = f"{job.privacy.delta:g}", f"below 1/{units} {job.privacy.unit}s"
        # What is declared is public, so this may travel.
        whose = "the job has" if sites else "this site declares at most"
        told = RefusedError(f"{error}; {whose} {units} {job.privacy.unit}s")
        return Broken(rule="privacy.delta", asked=asked, allowed=allowed, error=told)
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
        cost = cost_of(found.spent, found.held, found.new, policy.caps)
        asked = said(figures(replace(cost, site=facts.name, dataset=found.dataset)))
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
