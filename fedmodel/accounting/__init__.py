"""Accounting: from a plan to the events it stands for, and from those to an ε. No torch."""

from fedmodel.accounting.calibration import calibrate
from fedmodel.accounting.claims import Claim, claim, epsilon
from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import check_delta, make_plan, plan_of
from fedmodel.accounting.remaining import Remaining
from fedmodel.accounting.spends import Spend

__all__ = [
    "Claim",
    "Plan",
    "Remaining",
    "Spend",
    "StepGuard",
    "calibrate",
    "check_delta",
    "claim",
    "epsilon",
    "make_plan",
    "plan_of",
]
