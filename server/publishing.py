"""The sites' noised counts → an accuracy that may be published, with its uncertainty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedmodel.job import Privacy
from fedmodel.mechanisms.counts import Counts, noise_std

__all__ = ["Released", "release"]

# Of the number of rows over its noise. Below, a quotient of the two says more about the noise.
_CLEAR = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The accuracy of the last model on rows held out at the sites, released under DP.

    Args:
        accuracy: share of right answers, in [0, 1]; ``None`` where the noise swamps it: the noised
            number of rows is below three standard deviations of its noise.
        standard_error: of the accuracy, from the noise alone; the sample's own is not in it.
        rows: noised number of rows, at least 0.
        noise_std: standard deviation of the noise on each of the two summed counts, right and
            wrong.
        sites: how many gave counts.
        failures: node id → why it gave none.
    """

    accuracy: float | None
    standard_error: float | None
    rows: int
    noise_std: float
    sites: int
    failures: dict[int, str] = field(default_factory=dict)


def release(
    counts: Sequence[Counts], privacy: Privacy, failures: Mapping[int, str] | None = None
) -> Released:
    """Combine what the sites told. All of it is post-processing: it costs no privacy.

    Args:
        counts: of each site that answered.
        privacy: the job's promise; it says how large the noise is.
        failures: node id → why it gave none.
    """
    correct, wrong = sum(c.correct for c in counts), sum(c.wrong for c in counts)
    rows, std = correct + wrong, noise_std(privacy) * math.sqrt(len(counts))
    accuracy = error = None
    if counts and rows >= _CLEAR * math.sqrt(2) * std:
        accuracy = min(1.0, max(0.0, correct / rows))
        # To first order: the quotient changes by (1 - a)/rows with one count, -a/rows with the
        # other.
        error = std * math.hypot(accuracy, 1 - accuracy) / rows
    return Released(
        accuracy=accuracy,
        standard_error=error,
        rows=max(0, rows),
        noise_std=std,
        sites=len(counts),
        failures=dict(failures or {}),
    )
