"""Differential privacy of one site: plan, accounting, sampling, clipping, noise, ledger."""

from fedmodel.privacy.accounting import Claim, Spend, claim, epsilon
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.calibration import calibrate
from fedmodel.privacy.clipping import clipped_sum, factors
from fedmodel.privacy.ledger import Ledger
from fedmodel.privacy.noise import add_gaussian, gaussian
from fedmodel.privacy.plan import Plan, make_plan
from fedmodel.privacy.sampling import poisson

__all__ = [
    "Budget",
    "Claim",
    "Ledger",
    "Plan",
    "Spend",
    "add_gaussian",
    "calibrate",
    "claim",
    "clipped_sum",
    "epsilon",
    "factors",
    "gaussian",
    "make_plan",
    "poisson",
]
