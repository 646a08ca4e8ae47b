"""Runs that ended before anything was done in them: their folder goes, and its name is free."""

import shutil
from pathlib import Path

from fedmodel.errors import LedgerError
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder, run_folder_name

__all__ = ["discard"]

_DONE = ("metrics.jsonl", "checkpoints", "pending")  # the first that a round leaves


def discard(folder: RunFolder, state: Path | None = None) -> bool:
    """Remove the folder of a run in which nothing was done.

    Args:
        folder: of a run that has failed.
        state: folder of the sites' own state, where it lies elsewhere.

    Returns:
        Whether it is gone. It stays when a round had begun, when a site's ledger has a step or an
        evaluation of the run, when sites' people have been asked to approve it, or when something
        there can't be read or removed.
    """
    if any((folder.path / name).exists() for name in _DONE):
        return False
    offers = f"*/offers/{run_folder_name(folder.run)}"
    if any(next(root.glob(offers), None) for root in (folder.path / "sites", state) if root):
        return False
    try:
        ledgers = list((folder.path / "ledger").glob("*.jsonl"))
        ledgers += [] if state is None else state.glob("*/ledgers/*.jsonl")
        for path in sorted(ledgers):
            if any(reservation.spent for reservation in Ledger(path).book().of(folder.run)):
                return False
        for path in [] if state is None else state.glob(f"*/runs/{run_folder_name(folder.run)}"):
            shutil.rmtree(path)
        shutil.rmtree(folder.path)
    except (OSError, LedgerError):
        return False
    return True
