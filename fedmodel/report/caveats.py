"""Caveats of a summary: where its figures would mislead whoever reads them alone."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmodel.runs import ReleasedAccuracy

__all__ = ["caveats"]

_LARGE_EPSILON = 20.0
_UNITS = {"record": "a row", "patient": "a patient", "site": "a whole site"}
_LAST = 5  # rounds that are looked at
_SWING = 0.1  # of accuracy, from one of them to a later one
_WIDE = 0.08  # two standard errors of a released accuracy


def caveats(
    *,
    epsilon: float | None,
    unit: str,
    sites: int,
    rounds: Sequence[Mapping[str, Any]],
    released: ReleasedAccuracy | None,
    majority: float | None,
) -> tuple[str, ...]:
    """Return what stands against taking a run's figures as they are.

    Args:
        epsilon: the worst site's; ``None`` without privacy.
        unit: whose presence is hidden: ``record``, ``patient`` or ``site``.
        sites: that took part.
        rounds: metrics of the finished rounds, in order.
        released: the accuracy that the sites told; ``None`` where they weren't asked.
        majority: accuracy of always saying the commonest class, of the same rows.
    """
    found = []
    if epsilon is not None and epsilon > _LARGE_EPSILON:
        digits = epsilon / math.log(10)
        found.append(
            f"ε = {epsilon:.3g} promises hardly anything: whether {_UNITS[unit]} was there may "
            f"become more likely by a factor of 10^{digits:.0f}. Usual are 1 to 10."
        )
    if sites == 1:
        found.append(
            "One site took part: nothing is averaged or shared, and a run of the same training "
            "without a federation would tell as much."
        )
    found += _released(released, majority)
    shown = [float(row["accuracy"]) for row in rounds if "accuracy" in row][-_LAST:]
    fall = max((a - b for a, b in itertools.combinations(shown, 2)), default=0.0)
    if fall > _SWING:
        found.append(
            f"The accuracy fell by {100 * fall:.0f} points within the last {len(shown)} rounds: "
            "that of the last is one draw among such. Smaller rates, more rounds or more rows "
            "steady it."
        )
    return tuple(found)


def _released(released: ReleasedAccuracy | None, majority: float | None) -> list[str]:
    if released is None or released.accuracy is None or released.standard_error is None:
        return []
    margin = 2 * released.standard_error
    if margin < _WIDE:
        return []
    beside = "" if majority is None else f", and always saying the commonest class {majority:.0%}"
    return [
        f"The released accuracy of {released.accuracy:.0%} has a margin of {margin:.0%} (two "
        f"standard errors of its noise){beside}: smaller differences tell nothing. More test rows "
        "or a smaller privacy.evaluation_noise narrow it."
    ]
