"""RDP at orders between integers is what ``dp_accounting`` finds, at once for all of them."""

import logging
import random

import numpy as np
import pytest
from dp_accounting.rdp import rdp_privacy_accountant as theirs

from fedmodel.accounting.fractional import log_moments

ORDERS = tuple(float(a) for a in theirs.DEFAULT_RDP_ORDERS if a != round(a))
FEW = (1.1, 1.5, 2.9, 4.25, 10.9)
SOME = random.Random(7)
DRAWN = [(10 ** SOME.uniform(-6, -0.001), 10 ** SOME.uniform(-1.3, 3)) for _ in range(40)]


def expected(rate: float, noise: float, orders: tuple[float, ...]) -> list[float]:
    logging.getLogger("absl").setLevel(logging.ERROR)  # it tells of each order it leaves out
    return [theirs._compute_log_a_frac(rate, noise, order) for order in orders]


@pytest.mark.parametrize(("rate", "noise"), [(0.01, 0.75), (0.4, 2.2), (1e-5, 0.3), (0.9, 40.0)])
def test_all_usual_orders(rate: float, noise: float) -> None:
    found = log_moments(rate, noise, ORDERS)
    np.testing.assert_allclose(found, expected(rate, noise, ORDERS), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("rate", "noise"), DRAWN)
def test_any_rate_and_noise(rate: float, noise: float) -> None:
    found = log_moments(rate, noise, FEW)
    np.testing.assert_allclose(found, expected(rate, noise, FEW), rtol=1e-11, atol=1e-14)


def test_an_order_whose_terms_dont_converge_has_no_bound() -> None:
    found = log_moments(0.038222, 0.626321, ORDERS)
    assert np.isinf(found[:4]).all()
    assert np.isfinite(found[4:]).all()
