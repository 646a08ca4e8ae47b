"""A site's ledger: what was promised, reserved and spent on a dataset, over all runs.

``entries`` are what it says, ``lines`` how that is written, ``book`` what it adds up to,
``journal`` the file, ``owner`` whose it is, ``request`` what a job asks for, ``ledger`` all of it
together.
"""

from fedmodel.ledger.book import Book, Reservation
from fedmodel.ledger.entries import (
    AbortEntry,
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OpenEntry,
    OutcomeEntry,
    Part,
    RepeatEntry,
    ReserveEntry,
    SpendEntry,
    TornEntry,
)
from fedmodel.ledger.grounds import Approval, CapsInForce, Grounds
from fedmodel.ledger.ledger import Ledger, Snapshot
from fedmodel.ledger.mechanism import Mechanism
from fedmodel.ledger.owner import SiteOwner
from fedmodel.ledger.request import Request, part_of

__all__ = [
    "AbortEntry",
    "Approval",
    "Book",
    "CapsInForce",
    "DatasetEntry",
    "Entry",
    "GiveBackEntry",
    "Grounds",
    "Ledger",
    "Mechanism",
    "OpenEntry",
    "OutcomeEntry",
    "Part",
    "RepeatEntry",
    "Request",
    "Reservation",
    "ReserveEntry",
    "SiteOwner",
    "Snapshot",
    "SpendEntry",
    "TornEntry",
    "part_of",
]
