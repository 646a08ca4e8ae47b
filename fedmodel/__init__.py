"""Hospitals jointly fine-tune a Hugging Face transformer under differential privacy.

The names below are the public interface; each is imported when it is first used, so that
``import fedmodel`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedmodel._suites import set_suites

if TYPE_CHECKING:
    from fedmodel.accounting.plan import Plan
    from fedmodel.accounting.remaining import Remaining
    from fedmodel.cli.interface import FinishedRun, simulate
    from fedmodel.data import Partition, Rows, Source, clinical_notes
    from fedmodel.errors import (
        BudgetError,
        ConfigError,
        DataError,
        FedmodelError,
        ModelError,
        PrivacyError,
        ProtocolError,
        QuorumError,
        RefusedError,
        RunFolderError,
    )
    from fedmodel.export import export_run
    from fedmodel.job import Job
    from fedmodel.ledger import Ledger
    from fedmodel.runs import RunFolder
    from fedmodel.seeds import Entropy, Seed
    from fedmodel.update import Update

set_suites()  # before anything here loads flwr

_HOMES = {
    "fedmodel.cli.interface": ("FinishedRun", "simulate"),
    "fedmodel.data": ("Partition", "Rows", "Source", "clinical_notes"),
    "fedmodel.errors": (
        "BudgetError",
        "ConfigError",
        "DataError",
        "FedmodelError",
        "ModelError",
        "PrivacyError",
        "ProtocolError",
        "QuorumError",
        "RefusedError",
        "RunFolderError",
    ),
    "fedmodel.export": ("export_run",),
    "fedmodel.job": ("Job",),
    "fedmodel.accounting": ("Plan", "Remaining"),
    "fedmodel.ledger": ("Ledger",),
    "fedmodel.runs": ("RunFolder",),
    "fedmodel.seeds": ("Entropy", "Seed"),
    "fedmodel.update": ("Update",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BudgetError",
    "ConfigError",
    "DataError",
    "Entropy",
    "FedmodelError",
    "FinishedRun",
    "Job",
    "Ledger",
    "ModelError",
    "Partition",
    "Plan",
    "PrivacyError",
    "ProtocolError",
    "QuorumError",
    "RefusedError",
    "Remaining",
    "Rows",
    "RunFolder",
    "RunFolderError",
    "Seed",
    "Source",
    "Update",
    "clinical_notes",
    "export_run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'fedmodel' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
