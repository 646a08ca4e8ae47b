"""Counts of a private site's own test rows: two, noised, once.

One Gaussian mechanism, in two halves. Contributions are bounded: a row adds 1 to one of two counts,
right or wrong, and at most ``privacy.rows_per_patient`` rows of a patient are counted. Then both
counts get Gaussian noise and are rounded to whole numbers, so that no low bits of a float leave.
Two counts of which a row changes just one cost less noise than the number right and the number of
rows, of which it may change both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmodel.job import Privacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy

__all__ = ["Counts", "counted_rows", "largest_contribution", "noise_std", "noised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many test rows a model got right and wrong, with noise: either may be below 0."""

    correct: int
    wrong: int


def largest_contribution(privacy: Privacy) -> float:
    """Return the largest L2 norm of what one unit adds to the counts.

    A unit has k rows, 1 or ``rows_per_patient``, and adds (a, b) with a, b ≥ 0 and a + b ≤ k: at
    most k, with all of them on one side. Neighbours under ``add-remove`` differ by that. Under
    ``replace`` the accountant reckons with twice the norm; here it can't be more than k·√2, since
    neither count falls below 0, so that claim is on the safe side.

    >>> largest_contribution(Privacy())
    1.0
    >>> largest_contribution(Privacy(unit="patient", rows_per_patient=3))
    3.0
    """
    return float(privacy.rows_per_patient) if privacy.unit == "patient" else 1.0


def noise_std(privacy: Privacy) -> float:
    """Return the standard deviation of the noise on each of a site's counts; public."""
    return privacy.evaluation_noise * largest_contribution(privacy)


def counted_rows(
    rows: int, patients: Sequence[str] | None, most: int, entropy: Entropy
) -> NDArray[np.int64]:
    """Return the test rows that are counted: all, or at most ``most`` of each patient.

    Args:
        rows: how many there are.
        patients: the patient of each row; ``None`` when rows are what is hidden.
        most: rows of a patient, ≥ 1.
        entropy: which of a patient's rows, independently of all other patients.

    Returns:
        Row numbers in rising order.
    """
    if patients is None:
        return np.arange(rows, dtype=np.int64)
    places: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        places.setdefault(patient, []).append(row)
    none = np.empty(0, dtype=np.int64)
    theirs = (np.array(found, dtype=np.int64) for found in places.values())
    return np.sort(np.concatenate([none, *(sampling.choose(entropy, t, most) for t in theirs)]))


def noised(correct: int, wrong: int, privacy: Privacy, entropy: Entropy) -> Counts:
    """Return counts that may leave the site.

    Args:
        correct: counted rows that the model got right.
        wrong: counted rows that it got wrong.
        privacy: the job's promise. The release must be in the site's ledger before.
        entropy: where the noise comes from.
    """
    exact = np.array([correct, wrong], dtype=np.float64)
    right, rest = noise.add_gaussian(entropy, exact, noise_std(privacy)).tolist()
    return Counts(correct=round(right), wrong=round(rest))
