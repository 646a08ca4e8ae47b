"""Robust choices withstand a poisoned update; the mean doesn't."""

from typing import Any

import numpy as np
import pytest

from fedmodel.errors import ConfigError
from fedmodel.job import Aggregation, SecAgg
from fedmodel.update import Update
from server.robust import combine
from tests.jobs import make_job, summed

SIZE = 7


def updates(poison: float) -> list[Update]:
    fine = [np.full(SIZE, x, dtype=np.float32) for x in (1.0, 1.1, 0.9, 1.05)]
    bad = np.full(SIZE, poison, dtype=np.float32)
    return [Update.of(change, 1.0, {"train_loss": 2.0}) for change in (*fine, bad)]


@pytest.mark.parametrize("optimizer", ["fedmedian", "krum"])
def test_one_poisoned_update_moves_little(optimizer: Any) -> None:
    found = combine(Aggregation(optimizer=optimizer), updates(1e6))
    assert 0.9 <= found.vector.min() <= found.vector.max() <= 1.1
    assert found.metrics["train_loss"] == pytest.approx(2.0)
    mean = combine(Aggregation(), updates(1e6))
    assert mean.vector.min() > 1e5


def test_the_median_is_the_median() -> None:
    found = combine(Aggregation(optimizer="fedmedian"), updates(-3.0))
    np.testing.assert_allclose(found.vector, 1.0)


def test_krum_takes_one_of_the_updates() -> None:
    found = combine(Aggregation(optimizer="krum"), updates(50.0))
    assert any(np.array_equal(found.vector, u.vector) for u in updates(50.0)[:4])


@pytest.mark.parametrize("optimizer", ["fedmedian", "krum"])
def test_what_needs_plain_updates_is_refused_by_name_with_secure_sums(optimizer: Any) -> None:
    make_job(aggregation=Aggregation(optimizer=optimizer), secagg=SecAgg(mode="seal"))
    with pytest.raises(ConfigError, match=rf"aggregation={optimizer} needs every site's update"):
        make_job(aggregation=Aggregation(optimizer=optimizer), secagg=summed(5))


def test_they_count_every_site_once() -> None:
    with pytest.raises(ConfigError, match="weights=uniform"):
        Aggregation(optimizer="krum", weights="examples")
    with pytest.raises(ConfigError, match="malicious"):
        Aggregation(optimizer="krum", malicious=-1)
