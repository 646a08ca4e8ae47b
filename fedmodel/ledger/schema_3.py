"""Lines of ``fedmodel.ledger/3``: read for ever, never made anew.

They lack what today's say besides: on what a reservation rests, which parameters the steps start
from, where the coordinator's ledger stood. What came of steps had no entry of its own.
"""

from typing import Any

__all__ = ["NEWER", "write"]

NEWER = frozenset({"grounds", "model", "coordinator_entries", "coordinator_root"})
"""Fields that no line has of this schema, or of one before it."""


def write(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the line that an entry of this schema was read from."""
    return {key: value for key, value in entry.items() if key not in NEWER}
