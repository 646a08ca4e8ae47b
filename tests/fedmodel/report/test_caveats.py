"""Where figures would mislead, and nowhere else, something is said."""

from typing import Any

import pytest

from fedmodel.report.caveats import caveats
from fedmodel.runs import ReleasedAccuracy

FINE: dict[str, Any] = {
    "epsilon": 8.0,
    "unit": "record",
    "sites": 5,
    "rounds": [{"accuracy": a} for a in (0.2, 0.5, 0.58, 0.6, 0.61, 0.62)],
    "released": None,
    "majority": 0.35,
}


def released(error: float | None) -> ReleasedAccuracy:
    return ReleasedAccuracy(
        accuracy=None if error is None else 0.61,
        standard_error=error,
        rows=100,
        noise_std=10.0,
        sites=5,
        failures={},
        scores={},
    )


def test_ordinary_figures_need_no_word() -> None:
    assert caveats(**FINE) == ()
    assert caveats(**FINE | {"epsilon": None, "rounds": [], "majority": None}) == ()
    assert caveats(**FINE | {"epsilon": 20.0, "released": released(0.01)}) == ()
    assert caveats(**FINE | {"released": released(None)}) == ()
    # A model that learns isn't one that swings.
    assert caveats(**FINE | {"rounds": [{"accuracy": a / 10} for a in range(10)]}) == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 46.0}, "whether a row was there may become more likely by a factor of 10^20"),
        ({"epsilon": 46.0, "unit": "patient"}, "whether a patient was there may"),
        ({"epsilon": 46.0, "unit": "site"}, "whether a whole site was there may"),
        ({"sites": 1}, "One site took part"),
        ({"released": released(0.04)}, "accuracy of 61% has a margin of 8%"),
        ({"released": released(0.06)}, "always saying the commonest class 35%"),
        (
            {"rounds": [{"accuracy": a} for a in (0.5, 0.7, 0.5, 0.64, 0.52)]},
            "fell by 20 points within the last 5 rounds",
        ),
    ],
)
def test_what_misleads_is_said(change: dict[str, Any], says: str) -> None:
    (note,) = caveats(**FINE | change)
    assert says in note
