"""Counts of a private site's own test rows: a few, noised, once.

One Gaussian mechanism, in two halves. Contributions are bounded: the task says by how much one row
can move the counts, in L2 norm, and at most ``privacy.rows_per_patient`` rows of a patient are
counted. Then every count gets Gaussian noise and is rounded to a whole number, so that no low bits
of a float leave. All counts together are one release, and its noise multiplier is
``privacy.evaluation_noise`` whatever the task: the noise grows with the norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmodel import config
from fedmodel.errors import PrivacyError
from fedmodel.job import Privacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.tasks import Counted
from fedmodel.tasks.contribution import largest_contribution

__all__ = ["Counts", "counted_rows", "largest_contribution", "noise_std", "noised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A task's counts of a site's test rows, with noise: any may be below 0.

    Args:
        values: in the order of :attr:`fedmodel.tasks.Counted.names`.
    """

    values: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of their list's canonical JSON, as ledgers name them."""
        return config.digest(list(self.values))


def noise_std(privacy: Privacy, counted: Counted) -> float:
    """Return the standard deviation of the noise on each of a site's counts; public."""
    return privacy.evaluation_noise * largest_contribution(privacy, counted)


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


def noised(
    exact: NDArray[np.int64], privacy: Privacy, counted: Counted, entropy: Entropy
) -> Counts:
    """Return counts that may leave the site.

    Args:
        exact: of the counted rows, int64 ``[K]``.
        privacy: the job's promise. The release must be in the site's ledger before.
        counted: what the task counts: K counts.
        entropy: where the noise comes from.

    Raises:
        PrivacyError: for another number of counts.
    """
    if exact.shape != (len(counted.names),):
        raise PrivacyError(
            f"expected {len(counted.names)} counts, as the task has, got shape {exact.shape}"
        )
    told = noise.add_gaussian(entropy, exact.astype(np.float64), noise_std(privacy, counted))
    return Counts(values=tuple(round(value) for value in told.tolist()))
