"""Noised counts: how much one unit can change them, and that nothing else leaves."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from fedmodel.errors import PrivacyError
from fedmodel.job import Privacy
from fedmodel.mechanisms import noise
from fedmodel.mechanisms.counts import Counts, counted_rows, largest_contribution, noise_std, noised
from fedmodel.seeds import Entropy
from fedmodel.tasks import of

SINGLE = of("sequence-classification").counted(("a", "b"))
RECORD = Privacy(mechanism="dpsgd")
PATIENT = Privacy(mechanism="dpsgd", unit="patient", rows_per_patient=3)


def exact(answers: list[bool]) -> tuple[int, int]:
    return sum(answers), len(answers) - sum(answers)


def test_one_row_changes_the_counts_by_one() -> None:
    for answers in itertools.product([True, False], repeat=4):
        whole = np.array(exact(list(answers)))
        for i in range(4):
            less = np.array(exact([*answers[:i], *answers[i + 1 :]]))
            assert np.linalg.norm(whole - less) == largest_contribution(RECORD, SINGLE) == 1


def test_one_patient_changes_the_counts_by_as_many_rows_as_are_counted() -> None:
    others = ["a", "b", "b"]
    worst = 0.0
    for answers in itertools.product([True, False], repeat=5):
        patients = [*others, *["new"] * 5]
        truth = [True, False, True, *answers]
        rows = counted_rows(8, patients, PATIENT.rows_per_patient, Entropy())
        whole = np.array(exact([truth[i] for i in rows]))
        less = np.array(exact(truth[:3]))
        worst = max(worst, float(np.linalg.norm(whole - less)))
    assert worst == largest_contribution(PATIENT, SINGLE) == 3


def test_exchanging_a_unit_is_within_twice_its_contribution() -> None:
    # What the accountant reckons with under replace.
    points = [(a, b) for a in range(4) for b in range(4 - a)]
    distance = max(np.hypot(a - c, b - d) for (a, b), (c, d) in itertools.product(points, points))
    assert distance == pytest.approx(3 * np.sqrt(2))
    assert distance <= 2 * largest_contribution(PATIENT, SINGLE)


@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_the_noise_is_the_multiplier_times_the_contribution(adjacency: Any) -> None:
    privacy = Privacy(
        mechanism="dpsgd",
        unit="patient",
        adjacency=adjacency,
        rows_per_patient=5,
        evaluation_noise=3.0,
    )
    assert noise_std(privacy, SINGLE) == 15
    draws = [noised(np.array([1000, 500]), privacy, SINGLE, Entropy()) for _ in range(1000)]
    for values, mean in (
        ([c.values[0] for c in draws], 1000),
        ([c.values[1] for c in draws], 500),
    ):
        assert np.mean(values) == pytest.approx(mean, abs=2.5)  # five standard errors
        assert np.std(values) == pytest.approx(15, rel=0.12)
    assert {type(value) for c in draws for value in c.values} == {int}
    # The noise of one says nothing of the other's: else their difference would be exact.
    assert abs(np.corrcoef(np.array([c.values for c in draws]).T)[0, 1]) < 0.16


def test_sets_of_labels_take_the_noise_of_all_their_counts() -> None:
    several = of("multi-label-classification").counted(("a", "b", "c"))
    privacy = Privacy(mechanism="dpsgd", unit="patient", rows_per_patient=5, evaluation_noise=3.0)
    assert noise_std(privacy, several) == pytest.approx(3 * 5 * math.sqrt(1 + 3))
    draws = [noised(np.arange(11) * 100, privacy, several, Entropy()).values for _ in range(1000)]
    found = np.array(draws, dtype=float)
    assert np.abs(found.mean(axis=0) - np.arange(11) * 100).max() < 6  # more than six errors
    assert found.std(axis=0) == pytest.approx(np.full(11, 30.0), rel=0.14)
    # Each count has noise of its own.
    assert np.abs(np.corrcoef(found.T) - np.eye(11)).max() < 0.2


def test_counts_may_fall_below_0_and_are_never_clipped_to_it() -> None:
    # Clipping at the site would bias the sum over sites.
    draws = [noised(np.zeros(2, dtype=np.int64), RECORD, SINGLE, Entropy()) for _ in range(100)]
    assert 20 < sum(c.values[0] < 0 for c in draws) < 80


def test_without_noise_the_counts_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "add_gaussian", lambda entropy, total, std: total)
    assert noised(np.array([7, 5]), RECORD, SINGLE, Entropy()) == Counts(values=(7, 5))


@pytest.mark.parametrize("exact", [[1], [1, 2, 3], [[1, 2]]])
def test_another_number_of_counts_than_the_tasks_is_refused(exact: Any) -> None:
    with pytest.raises(PrivacyError, match="expected 2 counts"):
        noised(np.array(exact), RECORD, SINGLE, Entropy())


def test_records_are_all_counted() -> None:
    np.testing.assert_array_equal(counted_rows(5, None, 1, Entropy()), range(5))
    assert counted_rows(0, None, 1, Entropy()).tolist() == []
    assert counted_rows(0, [], 1, Entropy()).tolist() == []


def test_of_a_patient_no_more_rows_are_counted_than_agreed_chosen_evenly() -> None:
    patients = ["b", "a", "b", "b", "c", "b", "a"]
    seen: Counter[int] = Counter()
    for _ in range(600):
        rows = counted_rows(7, patients, 2, Entropy())
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert Counter(patients[i] for i in rows) == {"a": 2, "b": 2, "c": 1}
        seen.update(rows.tolist())
    assert {seen[i] for i in (1, 4, 6)} == {600}
    assert all(230 < seen[i] < 370 for i in (0, 2, 3, 5))  # 300 of 600 each
