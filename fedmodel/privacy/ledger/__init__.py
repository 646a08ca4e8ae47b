"""A site's ledger: what was promised, reserved and spent on a dataset, over all runs.

``entries`` are its lines, ``book`` what they add up to, ``journal`` the file, ``owner`` whose it
is, ``terms`` what a job asks for, ``ledger`` all of it together.
"""

from fedmodel.privacy.ledger.book import Book, Reservation
from fedmodel.privacy.ledger.entries import (
    AbortEntry,
    DatasetEntry,
    Entry,
    OpenEntry,
    Part,
    ReleaseEntry,
    ReserveEntry,
    SpendEntry,
    TornEntry,
)
from fedmodel.privacy.ledger.ledger import Ledger
from fedmodel.privacy.ledger.owner import Owner
from fedmodel.privacy.ledger.terms import Terms

__all__ = [
    "AbortEntry",
    "Book",
    "DatasetEntry",
    "Entry",
    "Ledger",
    "OpenEntry",
    "Owner",
    "Part",
    "ReleaseEntry",
    "Reservation",
    "ReserveEntry",
    "SpendEntry",
    "Terms",
    "TornEntry",
]
