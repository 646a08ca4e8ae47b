"""What the tests of ledgers share: a site, and a ledger of five lines."""

from pathlib import Path

import pytest

from fedmodel.accounting.spends import Spend
from fedmodel.ledger import Ledger
from fedmodel.ledger.entries import Part, SpendEntry
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState

JOB = "ab" * 32
FIVE = Part.of(Spend(0.1, 1.25, 5), DPSGD)
TERMS = Request(
    unit="record",
    adjacency="add-remove",
    epsilon=8.0,
    delta=1e-5,
    parts=(Part.of(Spend(0.1, 1.25, 100), DPSGD),),
)


def spend(ledger: Ledger, round: int = 0) -> SpendEntry:
    return ledger.spend(FIVE, run="r", job=JOB, round=round, clip=0.5)


@pytest.fixture
def site(tmp_path: Path) -> SiteState:
    return SiteState(tmp_path / "state" / "a", "a")


@pytest.fixture
def five(site: SiteState) -> Ledger:
    """open, reserve, and three spends: lines 1 to 5."""
    ledger = site.ledger()
    ledger.reserve(TERMS, run="r", job=JOB, code="test")
    for i in range(3):
        spend(ledger, i)
    return ledger
