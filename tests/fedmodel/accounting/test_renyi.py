"""Rényi DP: against dp_accounting under add-remove, quadrature and closed forms under replace."""

import math

import numpy as np
import pytest
from dp_accounting import rdp
from scipy.special import logsumexp  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]

from fedmodel.accounting import renyi
from fedmodel.accounting.spends import Spend


@pytest.mark.long
def test_add_remove_is_dp_accountings() -> None:
    schedule = (Spend(0.02, 0.8, 40), Spend(0.1, 2.0, 7), Spend(1.0, 9.0, 1))
    accountant = rdp.RdpAccountant()
    for spend in schedule:
        accountant.compose(spend.event())
    ours = renyi.epsilon(schedule, 1e-5, "add-remove")
    assert ours == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-12)


@pytest.mark.parametrize(("rate", "noise"), [(1e-3, 0.3), (0.03, 1.0), (0.7, 5.0), (0.999, 60.0)])
def test_integer_orders_are_dp_accountings(rate: float, noise: float) -> None:
    orders = np.array([2.0, 3.0, 17.0, 256.0, 2048.0])
    accountant = rdp.RdpAccountant(orders)
    accountant.compose(Spend(rate, noise, 1).event())
    ours = renyi._closed_form(rate, noise, orders)
    np.testing.assert_allclose(ours, accountant.rdp, rtol=1e-8, atol=1e-14)


def divergence(alpha: float, rate: float, noise: float) -> float:
    """D_α of the worst exchange, by quadrature."""
    x = np.linspace(-1 - 60 * noise, 1 + 60 * noise, 400_001)

    def log(mean: float) -> np.ndarray:
        parts = [
            np.log1p(-rate) + norm.logpdf(x, 0, noise) if rate < 1 else np.full_like(x, -np.inf),
            math.log(rate) + norm.logpdf(x, mean, noise),
        ]
        return np.asarray(logsumexp(parts, axis=0))

    terms = alpha * log(-1.0) + (1 - alpha) * log(1.0)
    return float(logsumexp(terms) + math.log(x[1] - x[0])) / (alpha - 1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("rate", "noise"),
    [(0.03, 1.0), pytest.param(0.3, 2.0, marks=pytest.mark.slow), (0.9, 0.8), (0.05, 0.5)],
)
def test_replace_is_above_the_exact_divergence(rate: float, noise: float) -> None:
    ours = renyi.of_step(rate, noise, "replace")
    orders = renyi._orders("replace")
    for alpha in (1.25, 1.5, 2.0, 3.0, 8.0, 24.0):
        bound = float(ours[list(orders).index(alpha)])
        exact = divergence(alpha, rate, noise)
        assert bound >= exact * (1 - 1e-6)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("noise", [0.3, 1.0, 20.0])
def test_replace_without_sampling_is_the_gaussian_of_twice_the_sensitivity(noise: float) -> None:
    orders = renyi._orders("replace")
    ours = renyi.of_step(1.0, noise, "replace")
    np.testing.assert_allclose(ours, 2 * orders / noise**2, rtol=1e-9)
    assert divergence(2.0, 1.0, noise) == pytest.approx(4 / noise**2, rel=1e-6)


def test_an_order_without_a_value_only_raises_the_bound() -> None:
    """At small noise dp_accounting gives up on some orders; what is never drawn bounds them."""
    ours = renyi.of_step(0.05, 0.4, "replace")
    assert np.isfinite(ours).any()
    assert (ours > 0).all()


def test_steps_are_remembered_and_not_to_be_changed() -> None:
    first = renyi.of_step(0.1, 1.5, "add-remove")
    assert renyi.of_step(0.1, 1.5, "add-remove") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0
