"""A site's ledger: what was promised, reserved and spent on a dataset, over all runs.

``entries`` are its lines, ``book`` what they add up to, ``journal`` the file, ``owner`` whose it
is, ``request`` what a job asks for, ``ledger`` all of it together.
"""

from fedmodel.ledger.book import Book, Reservation
from fedmodel.ledger.entries import (
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
from fedmodel.ledger.ledger import Ledger
from fedmodel.ledger.owner import Owner
from fedmodel.ledger.request import Request

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
    "Request",
    "Reservation",
    "ReserveEntry",
    "SpendEntry",
    "TornEntry",
]
