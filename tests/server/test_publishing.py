"""From noised counts to an accuracy, and what is said of its uncertainty."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fedmodel.job import Model, Privacy
from fedmodel.mechanisms.counts import Counts
from server.publishing import Published, publish
from tests.jobs import make_job

JOB = make_job(privacy=Privacy(mechanism="dpsgd", evaluation_noise=4.0))


def counts(*pairs: tuple[int, int]) -> list[Counts]:
    return [Counts(values=(a, b)) for a, b in pairs]


def test_sites_are_summed_not_averaged() -> None:
    got = publish(counts((90, 10), (5, 195)), JOB, {7: "its budget is spent"})
    assert got.accuracy == pytest.approx(95 / 300)
    assert (got.rows, got.sites, got.failures) == (300, 2, {7: "its budget is spent"})
    assert got.noise_std == pytest.approx(4 * math.sqrt(2))


@pytest.mark.parametrize(
    ("pair", "expected"), [((-20, 200), 0.0), ((200, -20), 1.0), ((100, 0), 1.0), ((0, 100), 0.0)]
)
def test_an_accuracy_is_between_0_and_1(pair: tuple[int, int], expected: float) -> None:
    assert publish(counts(pair), JOB).accuracy == expected


@pytest.mark.parametrize("pair", [(0, 0), (8, 8), (-50, 40), (-50, -50)])
def test_what_the_noise_swamps_is_not_told(pair: tuple[int, int]) -> None:
    got = publish(counts(pair), JOB)  # three std of the rows' noise are 17
    assert (got.accuracy, got.standard_error) == (None, None)
    assert got.rows == max(0, sum(pair))
    assert publish(counts((9, 8)), JOB).accuracy is not None


def test_nobody_is_no_accuracy() -> None:
    got = publish([], JOB, {2: "no answer in time"})
    assert (got.accuracy, got.rows, got.noise_std, got.sites) == (None, 0, 0.0, 0)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_the_standard_error_is_the_spread_of_the_release(share: float) -> None:
    sites, rows = 4, 300
    std = JOB.privacy.evaluation_noise
    draw = np.random.default_rng(7).normal(0, std, (3000, sites, 2))
    exact = np.array([rows * share, rows * (1 - share)])
    found = [
        publish(counts(*((round(a), round(b)) for a, b in exact + noise)), JOB) for noise in draw
    ]
    accuracies = np.array([f.accuracy for f in found])
    errors = np.array([f.standard_error for f in found])
    assert abs(accuracies.mean() - share) < 0.001
    assert errors.mean() == pytest.approx(accuracies.std(), rel=0.06)


def test_patients_take_more_noise() -> None:
    patient = Privacy(mechanism="dpsgd", unit="patient", rows_per_patient=5, evaluation_noise=4.0)
    assert publish(counts((400, 100)), make_job(privacy=patient)).noise_std == pytest.approx(20.0)


SEVERAL = make_job(
    model=Model(task="multi-label-classification", labels=("a", "b")),
    privacy=Privacy(mechanism="dpsgd", evaluation_noise=4.0),
)


def test_sets_of_labels_have_scores_of_the_summed_counts() -> None:
    sites = [(90, 60, 40, 10, 30, 70, 0, 10), (10, 140, 60, 30, 0, 130, 40, 0)]
    got = publish([Counts(values=values) for values in sites], SEVERAL)
    assert got.noise_std == pytest.approx(4 * math.sqrt(1 + 2) * math.sqrt(2))
    assert got.accuracy == pytest.approx(100 / 300)
    assert got.rows == 300
    f1 = {"a": 200 / 270, "b": 400 / 450}
    expected = {
        "micro_f1": 600 / 720,
        "macro_f1": sum(f1.values()) / 2,
        "f1.a": f1["a"],
        "f1.b": f1["b"],
        "accuracy.a": 1 - 70 / 300,
        "accuracy.b": 1 - 50 / 300,
    }
    assert {name: score.value for name, score in got.scores.items()} == pytest.approx(expected)


def test_a_checkpoint_brings_it_back() -> None:
    found = publish([Counts(values=(90, 60, 40, 10, 30, 70, 0, 10))], SEVERAL, {7: "late"})
    plain = json.loads(json.dumps(dataclasses.asdict(found)))
    assert Published.restored(plain) == found
    assert publish(counts((1, 2)), JOB).scores == {}
