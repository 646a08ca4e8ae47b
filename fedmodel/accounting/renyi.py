"""The second accountant: Rényi DP (RDP, arXiv 1702.07476), and what one step adds to it.

Under ``add-remove`` the divergence of the Poisson-sampled Gaussian is ``dp_accounting``'s closed
form (arXiv 1908.10530, section 3.3), which bounds both orders (Theorem 5 there). It is worked out
here, as arrays: a run whose rounds have a noise of their own takes it at 150 orders for each.

``dp_accounting`` has no RDP of Poisson sampling under ``replace``, and what it has for plain
Gaussians there takes σ over 2C instead of over C (google/differential-privacy issue 378), so it
isn't asked. Exchanging a unit is removing one and adding one: with P, Q the outputs on both
datasets and R that on what they share, Hölder's inequality (arXiv 1702.07476, Proposition 11,
with p = (2α − 1)/α) gives ::

    D_α(P‖Q) ≤ 2α/(2α − 1) · D_{2α−1}(P‖R) + D_{2α}(R‖Q)

and, for p → 1, D_α(P‖R) + D_∞(R‖Q). Both terms on the right are add-remove's, and the second is
at most −log(1 − q): a unit isn't even drawn with probability 1 − q. Without sampling the first
form is exactly the divergence 2α/σ² of a Gaussian of sensitivity 2C; with it, both are upper
bounds that need no dominating pair, so they are independent of :mod:`fedmodel.accounting.pld`.

RDP becomes (ε, δ) by arXiv 2004.00010, Proposition 12.
"""

import math
from functools import lru_cache

import numpy as np
from dp_accounting.rdp import rdp_privacy_accountant
from numpy.typing import NDArray
from scipy.special import gammaln  # type: ignore[import-untyped]

from fedmodel.accounting.fractional import log_moments
from fedmodel.accounting.spends import Adjacency, Spend

__all__ = ["epsilon", "of_schedule", "of_step", "to_epsilon"]

# dp_accounting's default orders end where ε below about 0.1 needs larger ones.
_MORE = (96, 192, 384, 768, 2048)
_ORDERS = np.array(sorted((*rdp_privacy_accountant.DEFAULT_RDP_ORDERS, *_MORE)), dtype=np.float64)
# Under replace each α needs 2α too. Orders that aren't integers cost time; large ones are no use.
_FEW = (1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, *range(3, 65), 96, 128, 192, 256, 384, 512, 768, 1024)
_REPLACE_ORDERS = np.array(_FEW, dtype=np.float64)


def epsilon(schedule: tuple[Spend, ...], delta: float, adjacency: Adjacency) -> float:
    """Return ε of a merged schedule (see :func:`fedmodel.accounting.claims.epsilon`)."""
    return to_epsilon(of_schedule(schedule, adjacency), delta, adjacency)


def of_schedule(schedule: tuple[Spend, ...], adjacency: Adjacency) -> NDArray[np.float64]:
    """Return the RDP of all steps together, at the orders of the adjacency."""
    total = np.zeros_like(_orders(adjacency))
    for spend in schedule:
        total += spend.steps * of_step(spend.rate, spend.noise_multiplier, adjacency)
    return total


@lru_cache(maxsize=4096)
def of_step(rate: float, noise_multiplier: float, adjacency: Adjacency) -> NDArray[np.float64]:
    """Return the RDP of one step at the orders of the adjacency; read-only, remembered."""
    if adjacency == "add-remove":
        found = _closed_form(rate, noise_multiplier, _ORDERS)
    else:
        found = _exchanged(rate, noise_multiplier)
    found.flags.writeable = False
    return found


def to_epsilon(rdp: NDArray[np.float64], delta: float, adjacency: Adjacency) -> float:
    """Return the smallest ε over all orders; ``inf`` where no order has a bound."""
    if not np.isfinite(rdp).any():
        return math.inf
    return float(rdp_privacy_accountant.compute_epsilon(_orders(adjacency), rdp, delta)[0])


def _orders(adjacency: Adjacency) -> NDArray[np.float64]:
    return _ORDERS if adjacency == "add-remove" else _REPLACE_ORDERS


def _exchanged(rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    """Return an upper bound on the RDP of one step under ``replace`` (see the module)."""
    alpha = _REPLACE_ORDERS
    lower, upper = 2 * alpha - 1, 2 * alpha
    needed = np.unique(np.concatenate([alpha, lower, upper]))
    known = _closed_form(rate, noise_multiplier, needed)
    at_alpha, at_lower, at_upper = (
        known[np.searchsorted(needed, x)] for x in (alpha, lower, upper)
    )
    most = -math.log1p(-rate) if rate < 1 else math.inf
    both = upper / lower * at_lower + np.minimum(at_upper, most)
    return np.asarray(np.minimum(both, at_alpha + most))


def _closed_form(
    rate: float, noise_multiplier: float, orders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return add-remove's RDP of one step at any orders."""
    found = np.empty_like(orders)
    whole = (orders == np.round(orders)) & (rate < 1)
    found[whole] = [_at_integer(rate, noise_multiplier, int(order)) for order in orders[whole]]
    if rate == 1:
        found[:] = orders / (2 * noise_multiplier**2)
    elif not whole.all():
        others = orders[~whole]
        found[~whole] = log_moments(rate, noise_multiplier, tuple(others)) / (others - 1)
    # A divergence below 0 is a rounding error, and so are its neighbours: they prove nothing.
    return np.full_like(found, math.inf) if (found < 0).any() else found


def _at_integer(rate: float, noise_multiplier: float, order: int) -> float:
    """Return ln Σ_k C(α, k)·(1−q)^(α−k)·q^k·exp((k² − k)/2σ²) / (α − 1), arXiv 1908.10530.

    It is what ``dp_accounting`` computes, as one array: its loop takes most of a second for the
    largest orders of thirty kinds of step.
    """
    k = np.arange(order + 1)
    terms = _log_binomials(order) + k * math.log(rate) + (order - k) * math.log1p(-rate)
    terms += k * (k - 1) / (2 * noise_multiplier**2)
    first = terms.argmax()  # apart from the others: their sum may be far too small to add to 1
    top, rest = float(terms[first]), np.exp(terms - terms[first])
    rest[first] = 0.0
    return (top + math.log1p(float(rest.sum()))) / (order - 1)


@lru_cache(maxsize=512)
def _log_binomials(order: int) -> NDArray[np.float64]:
    k = np.arange(order + 1)
    found = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    return np.asarray(found, dtype=np.float64)
