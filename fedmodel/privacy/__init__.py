"""Differential privacy of one site: plan, accounting, sampling, clipping, noise, ledger."""

from fedmodel.privacy.accounting import Claim, Spend, claim, epsilon
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.calibration import calibrate
from fedmodel.privacy.clipping import clipped_sum, factors
from fedmodel.privacy.guard import StepGuard
from fedmodel.privacy.ledger import Ledger
from fedmodel.privacy.noise import add_gaussian, gaussian
from fedmodel.privacy.plan import Plan, check_delta, make_plan
from fedmodel.privacy.sampling import poisson
from fedmodel.privacy.shares import Shares

__all__ = [
    "Budget",
    "Claim",
    "Ledger",
    "Plan",
    "Shares",
    "Spend",
    "StepGuard",
    "add_gaussian",
    "calibrate",
    "check_delta",
    "claim",
    "clipped_sum",
    "epsilon",
    "factors",
    "gaussian",
    "make_plan",
    "poisson",
]
