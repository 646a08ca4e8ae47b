"""Amounts: how many steps are taken of a plan, and what all of it costs."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from fedmodel.accounting.claims import claim
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.remaining import Remaining, planned_spends
from fedmodel.accounting.spends import Kind
from fedmodel.audit.plans import Held, plan_by
from fedmodel.audit.reading import RunEntries
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import Outcome, failed, inconclusive, not_tested, passed
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.ledger import Part, Request, SpendEntry

__all__ = ["steps_as_planned", "whole_plan"]

_SHORTENED = 16  # rounds of fewer steps that are looked into, for each ledger


def steps_as_planned(by: Held) -> Outcome:
    """Look for steps that the plan doesn't have, and for fewer of them than it has."""
    return _reserved(by) or _out_of_place(by) or _shortened(by)


def _reserved(by: Held) -> Outcome | None:
    planned = _planned(by.plan)
    for held in by.entries.reservations:
        for kind, steps in _counted(held.entry.parts).items():
            if steps > planned[kind]:
                return failed(
                    f"it reserves {steps} steps to {kind}, and the plan has {planned[kind]}",
                    by.ledger.at(held.entry),
                )
    return None


@lru_cache(maxsize=8)
def _planned(plan: Plan) -> Counter[Kind]:
    return _counted(Request.of(plan).parts)


def _counted(parts: Iterable[Part]) -> Counter[Kind]:
    found: Counter[Kind] = Counter()
    for part in parts:
        found[part.kind] += part.steps
    return found


def _out_of_place(by: Held) -> Outcome | None:
    rounds = {"train": (1, by.plan.rounds), "evaluate": (0, 0)}
    for entry in by.entries.spends:
        first, last = rounds[entry.kind]
        if not first <= entry.round <= last:
            return failed(
                f"it is of round {entry.round}, and the job has {by.plan.rounds}",
                by.ledger.at(entry),
            )
        if entry.steps > (most := _most(by.plan, entry)):
            return failed(
                f"it takes {entry.steps} steps, and a round has {most}", by.ledger.at(entry)
            )
    return None


def _most(plan: Plan, entry: SpendEntry) -> int:
    return plan.steps if entry.kind == "train" else 1


def _shortened(by: Held) -> Outcome:
    found = [entry for entry in by.entries.spends if entry.steps < _most(by.plan, entry)]
    for entry in found[:_SHORTENED]:
        if (wrong := _unexplained(by.plan, by.entries, entry)) is not None:
            return failed(wrong, by.ledger.at(entry))
    if len(found) > _SHORTENED:
        return inconclusive(
            f"more than {_SHORTENED} rounds have fewer steps than the job's; whether what was left "
            "of its ε explains them all wasn't looked into",
            by.ledger.at(found[_SHORTENED]),
        )
    more = f"; {len(found)} rounds have fewer, as ε ran out" if found else ""
    return passed(f"{by.plan.steps} steps a round{more}")


def _unexplained(plan: Plan, entries: RunEntries, entry: SpendEntry) -> str | None:
    """Return why a round has fewer steps than the job's, unless no more were covered."""
    before = [each.spend() for each in entries.spends if each.seq < entry.seq]
    possible = Remaining(plan, before).affordable(entry.round, plan.steps)
    if possible == entry.steps:
        return None
    return (
        f"it takes {entry.steps} of a round's {plan.steps} steps, where what was left of ε covered "
        f"{possible}"
    )


def whole_plan(records: Records) -> Outcome:
    """Account the whole plan, by what the ledgers say of its noise, or calibrated anew."""
    job = records.job.value
    if job is None or not job.privacy.private:
        return not_tested("the job promises no privacy" if job else "there is no job")
    try:
        found = [ledger.of_run(records.run) for _, ledger in records.with_ledgers()]
        reserved = next((each for each in found if each.reservations), None)
        plan = plan_of(job) if reserved is None else plan_by(job, reserved)
        cost = claim(planned_spends(plan), plan.delta, plan.adjacency)
    except (PrivacyError, ConfigError) as error:
        return failed(f"no plan keeps what the job promises: {error}", "manifest.json")
    if min(cost.pld, cost.rdp) > plan.epsilon * (1 + 1e-6):
        return failed(
            f"the whole plan costs ε = {min(cost.pld, cost.rdp):.6g}, and the job promises "
            f"{plan.epsilon:g}",
            "manifest.json",
        )
    return passed(
        f"the whole plan costs ε = {cost.pld:.6g} by PLD and {cost.rdp:.6g} by RDP, of "
        f"{plan.epsilon:g}"
    )
