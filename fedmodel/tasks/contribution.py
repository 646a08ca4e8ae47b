"""Contribution of one unit to the counts of a task: by how much it can move them."""

from fedmodel.job import Privacy
from fedmodel.tasks.task import Counted

__all__ = ["largest_contribution"]


def largest_contribution(privacy: Privacy, counted: Counted) -> float:
    """Return the largest L2 norm of what one unit adds to the counts.

    A unit has k rows, at most 1 or ``rows_per_patient``. Each adds a vector of norm ``row_norm`` or
    less, so by the triangle inequality they add k·``row_norm`` or less, and exactly that where all
    rows of the longest kind are alike. Neighbours under ``add-remove`` differ by that. Under
    ``replace`` the accountant reckons with twice the norm S; here it can't be more than S·√2, since
    no row lowers a count: for u, v ≥ 0 is ‖u - v‖² ≤ ‖u‖² + ‖v‖² ≤ 2S². So that claim is on the
    safe side.

    Args:
        privacy: says whose presence is hidden.
        counted: what the task counts.

    >>> from fedmodel.tasks import of
    >>> single = of("sequence-classification").counted(("a", "b"))
    >>> largest_contribution(Privacy(), single)
    1.0
    >>> largest_contribution(Privacy(unit="patient", rows_per_patient=3), single)
    3.0
    """
    rows = privacy.rows_per_patient if privacy.unit == "patient" else 1
    return rows * counted.row_norm
