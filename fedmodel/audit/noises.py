"""Noise of a run: whether it is what the job's promise takes, in every round."""

import math
from functools import lru_cache

from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.remaining import planned_spends
from fedmodel.audit.plans import Held, steps_of
from fedmodel.audit.verdicts import Outcome, failed, passed
from fedmodel.errors import PrivacyError
from fedmodel.job import Job
from fedmodel.ledger import SpendEntry
from fedmodel.ledger.fields import real

__all__ = ["as_planned"]

_CALIBRATED = 2e-3  # ε of a calibrated plan is at most so far below the job's, relative
_SAME = 1e-9  # by which the same number may differ from machine to machine


def as_planned(by: Held) -> Outcome:
    """Hold the noise of every round against what the job's promise takes."""
    plan, entries, ledger = by.plan, by.entries, by.ledger
    cost = _cost(plan)
    calibrated = plan.epsilon * (1 - _CALIBRATED) <= cost <= plan.epsilon * (1 + 1e-6)
    wrong = None if calibrated else _uncalibrated(by.job, plan, cost)
    if wrong is not None:
        return failed(wrong, ledger.at(entries.reservations[0].entry))
    planned = {real(noise) for noise in _noises(plan)}
    for step, where in steps_of(entries, ledger):
        expected = planned if step.kind == "train" else {real(plan.evaluation_noise or 0.0)}
        if not _among(step.noise_multiplier, expected):
            return failed(f"its noise multiplier is {step.noise_multiplier}, not the plan's", where)
    if len(planned) > 1:
        by_round = [real(noise) for noise in _noises(plan)]
        for entry in entries.spends:
            if entry.kind == "train" and not _is_of_its_round(entry, by_round):
                return failed(
                    f"its noise multiplier is {entry.noise_multiplier}, and the plan's for round "
                    f"{entry.round} is another",
                    ledger.at(entry),
                )
    return passed(f"{plan.noise_multiplier:.6g} in the first round: the plan costs ε = {cost:.6g}")


def _uncalibrated(job: Job, plan: Plan, cost: float) -> str | None:
    """Return how a plan's noise differs from the one that the job asks for, if it does."""
    told = f"the noise multiplier of its first round is {plan.noise_multiplier:.6g}"
    try:
        expected = plan_of(job).noise_multiplier
    except PrivacyError as error:
        return f"{told}, and no noise keeps the job's promise: {error}"
    if math.isclose(plan.noise_multiplier, expected, rel_tol=_CALIBRATED):
        return None  # the least noise that is accounted, though less would do
    return f"{told}, at which the plan costs ε = {cost:.6g}; the job's ε takes {expected:.6g}"


@lru_cache(maxsize=8)
def _cost(plan: Plan) -> float:
    return epsilon(planned_spends(plan), plan.delta, "pld", plan.adjacency)


@lru_cache(maxsize=8)
def _noises(plan: Plan) -> tuple[float, ...]:
    return tuple(plan.noise_at(round_) for round_ in range(1, plan.rounds + 1))


def _among(text: str, expected: set[str]) -> bool:
    if text in expected:
        return True
    return any(math.isclose(float(text), float(each), rel_tol=_SAME) for each in expected)


def _is_of_its_round(entry: SpendEntry, by_round: list[str]) -> bool:
    if not 1 <= entry.round <= len(by_round):
        return True  # which another check names
    return _among(entry.noise_multiplier, {by_round[entry.round - 1]})
