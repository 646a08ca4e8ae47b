"""Promises: whether what ledgers say of each step is what the job's plan says."""

from fedmodel import tasks
from fedmodel.audit.amounts import steps_as_planned, whole_plan
from fedmodel.audit.noises import as_planned
from fedmodel.audit.outcomes import outcomes_of
from fedmodel.audit.plans import Held, steps_of, with_plan
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import (
    PASSED,
    Family,
    Outcome,
    Rule,
    failed,
    inconclusive,
    not_tested,
    passed,
)
from fedmodel.ledger import Mechanism
from fedmodel.ledger.fields import real
from fedmodel.tasks.contribution import largest_contribution

__all__ = ["PLAN"]


def _unit(by: Held) -> Outcome:
    plan, entries, ledger = by.plan, by.entries, by.ledger
    expected = (plan.unit, plan.adjacency, real(plan.delta), real(plan.epsilon))
    for held in entries.reservations:
        each = held.entry
        if (found := (each.unit, each.adjacency, each.delta, each.epsilon)) != expected:
            return failed(
                f"it promises {_promise(*found)}, and the job {_promise(*expected)}",
                ledger.at(each),
            )
    return passed(_promise(*expected))


def _promise(unit: str, adjacency: str, delta: str, epsilon_: str) -> str:
    return f"ε = {epsilon_} at δ = {delta} for {unit}s ({adjacency})"


def _mechanism(by: Held) -> Outcome:
    plan, entries, ledger = by.plan, by.entries, by.ledger
    unsaid = False
    for step, where in steps_of(entries, ledger):
        if step.mechanism is None:
            unsaid = True
        elif step.mechanism != (expected := Mechanism.of(plan, step.kind)):
            return failed(
                f"it is by {_by(step.mechanism)}, and the job's is {_by(expected)}", where
            )
    if unsaid:
        return not_tested("lines of fedmodel.ledger/2 don't name their mechanism")
    return passed(_by(Mechanism.of(plan, "train")))


def _by(mechanism: Mechanism) -> str:
    if not mechanism.shared:
        return mechanism.name
    return f"{mechanism.name} (honest {mechanism.honest} of {mechanism.survivors} survivors)"


def _rate(by: Held) -> Outcome:
    plan, entries, ledger = by.plan, by.entries, by.ledger
    expected = {"train": real(plan.rate), "evaluate": real(1.0)}
    for step, where in steps_of(entries, ledger):
        if step.rate != expected[step.kind]:
            return failed(
                f"its sampling rate is {step.rate}, and the plan's {expected[step.kind]}", where
            )
    return passed(f"rate {expected['train']}")


def _clip(by: Held) -> Outcome:
    job, plan, ledger = by.job, by.plan, by.ledger
    counted = tasks.of(job.model.task).counted(job.model.labels)
    norms = {"train": plan.clip, "evaluate": largest_contribution(job.privacy, counted)}
    adaptive = plan.clipping == "adaptive"
    for entry in by.entries.kinds:
        follows = adaptive and entry.kind == "train" and entry.round > 1
        if not follows and entry.clip != (expected := real(norms[entry.kind])):
            return failed(
                f"its clip norm is {entry.clip}, and the job's {expected}", ledger.at(entry)
            )
    return _follows(by) if adaptive else passed(f"norm {plan.clip:g}")


def _follows(by: Held) -> Outcome:
    """Hold the norm that each round starts from against that after the last step before it."""
    at, norm, unknown = 0, real(by.plan.clip), False  # round, where it starts, whether that's known
    ends: list[str | None] = []  # norms after the charges of the round; None: nobody knows
    for entry in by.entries.spends:
        if entry.kind != "train":
            continue
        if entry.round != at:
            if ends:
                norm, unknown = ends[-1] or norm, ends[-1] is None or entry.round < at
            at, ends = entry.round, []
        if not unknown and entry.clip != norm:
            return failed(
                f"its clip norm is {entry.clip}, and the last step before it had come to {norm}",
                by.ledger.at(entry),
            )
        found = outcomes_of(by.ledger, entry)
        ends.append(found[-1].clips[-1] if found and found[-1].clips else None)
        if unknown:
            return inconclusive(
                "the norm that a round starts from follows from the noised counts of the steps "
                "before it, and the norm after those isn't told; ε depends on none of them",
                by.ledger.at(entry),
            )
    return passed(f"norm {by.plan.clip:g} first, and then what each step before has come to")


def _grounds(by: Held) -> Outcome:
    """Hold what a site says that it reserved on against what follows from the job."""
    checked = "passed" if by.job.privacy.clips_units else "none"
    told = [(held.entry, held.entry.grounds) for held in by.entries.reservations]
    for entry, grounds in told:
        if grounds is None:
            continue
        if grounds.divisor != by.plan.expected_batch:
            return failed(
                f"it divides each noised sum by {grounds.divisor}, and the job by "
                f"{by.plan.expected_batch}",
                by.ledger.at(entry),
            )
        if grounds.preflight != checked:
            return failed(
                f"its preflight is {grounds.preflight!r}, and the job takes {checked!r}: what "
                "clips units is checked before the first step, and nothing else can be",
                by.ledger.at(entry),
            )
    if any(grounds is None for _, grounds in told):
        return not_tested("lines of earlier schemas don't say on what grounds a site reserves")
    return passed(f"divisor {by.plan.expected_batch}, preflight {checked}")


def _summary(records: Records) -> Outcome:
    job, summary = records.job.value, records.summary.value
    if job is None or summary is None:
        return not_tested("there is no summary that can be read" if job else "there is no job")
    promised, told = job.privacy, summary.privacy
    expected = (promised.mechanism, promised.unit, promised.adjacency)
    delta = promised.delta if promised.private else None
    if (told.mechanism, told.unit, told.adjacency, told.delta) != (*expected, delta):
        return failed(
            f"the summary tells of {told.mechanism} for {told.unit}s, {told.adjacency}, at δ = "
            f"{told.delta}; the job of {expected[0]} for {expected[1]}s, {expected[2]}, at δ = "
            f"{delta}",
            "summary.json",
        )
    return PASSED


PLAN = Family(
    name="plan",
    rules=(
        Rule(
            name="plan-unit",
            says="Each reservation of the run promises the job's ε and δ, for its unit and its "
            "adjacency.",
            site=with_plan(_unit),
        ),
        Rule(
            name="plan-mechanism",
            says="Each step is by the job's mechanism: whose noise it is, and of how many sites.",
            site=with_plan(_mechanism),
        ),
        Rule(
            name="plan-rate",
            says="Each step samples at the plan's rate.",
            site=with_plan(_rate),
        ),
        Rule(
            name="plan-noise",
            says="The noise of the first round is what the job's ε takes, recomputed (to 0.2 % of "
            "ε), and that of each other round what the job's decay makes of it.",
            site=with_plan(as_planned),
        ),
        Rule(
            name="plan-clip",
            says="Each step clips to the job's norm; counts of test rows have the norm that the "
            "task says. With adaptive clipping each round starts from the norm after the last step "
            "before it, which follows from noised counts that nobody keeps.",
            site=with_plan(_clip),
        ),
        Rule(
            name="plan-steps",
            says="No round has more steps than the job's, nor fewer unless its ε covered no more; "
            "no more is reserved than the plan has.",
            site=with_plan(steps_as_planned),
        ),
        Rule(
            name="plan-grounds",
            says="Each reservation says the job's divisor of a noised sum, and that the preflight "
            "was passed where the job clips units.",
            site=with_plan(_grounds),
        ),
        Rule(
            name="summary-promise",
            says="The summary tells of the job's mechanism, unit, adjacency and δ.",
            run=_summary,
        ),
        Rule(
            name="plan-epsilon",
            says="All that the plan covers together costs no more than the job's ε by two "
            "accountants, neither of which is below what a test would show.",
            run=whole_plan,
            ledgers=True,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster", "tree heads", "job"),
    run_needs=("job",),
    stops=False,
)
