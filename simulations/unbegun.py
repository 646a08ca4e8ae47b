"""Runs that ended before anything was done in them: their folder goes, and its name is free."""

import shutil

from fedmodel.errors import LedgerError
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder

__all__ = ["discard"]

_DONE = ("metrics.jsonl", "checkpoints", "pending")  # the first that a round leaves


def discard(folder: RunFolder) -> bool:
    """Remove the folder of a run in which nothing was done.

    Args:
        folder: of a run that has failed.

    Returns:
        Whether it is gone. It stays when a round had begun, when a ledger in it has a step or an
        evaluation, or when something there can't be read or removed.
    """
    if any((folder.path / name).exists() for name in _DONE):
        return False
    try:
        for path in sorted((folder.path / "ledger").glob("*")):
            if any(entry.type in ("spend", "torn") for entry in Ledger(path).entries()):
                return False
        shutil.rmtree(folder.path)
    except (OSError, LedgerError):
        return False
    return True
