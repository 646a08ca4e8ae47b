"""What a coordinator shows of its ledger: a proof from each head that a site may have seen last."""

from pathlib import Path

import pytest

from fedmodel.ledger.coordinator_entries import RoundEntry
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger, CoordinatorOwner
from fedmodel.wire import MOST_PROOFS
from server.witnesses import Witnesses
from tests.clients.four_sites import SIGNER


class Kept:
    """A ledger, and its witnesses."""

    def __init__(self, folder: Path) -> None:
        owner = CoordinatorOwner(signer=SIGNER, head=folder / "head.json", run="r")
        self.ledger = CoordinatorLedger(folder / "coordinator.jsonl", owner)
        self.witnesses = Witnesses(self.ledger)
        self.note()

    def note(self) -> int:
        self.ledger.note(RoundEntry(kind="train", round=1, model="0" * 64, members=()))
        self.witnesses.changed()
        return self.ledger.head().size

    def proofs(self, node: int) -> list[int]:
        shown = self.witnesses.show(node)
        assert shown is not None
        assert shown.head == self.ledger.head()
        for size, proof in shown.proofs.items():
            assert list(proof) == self.ledger.prove(size)
        return sorted(shown.proofs)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_who_has_seen_nothing_is_shown_the_head_alone(kept: Kept) -> None:
    kept.witnesses.joined(7, 0)
    assert kept.proofs(7) == kept.proofs(8) == []
    assert Witnesses(None).show(7) is None


def test_from_what_a_site_has_answered_last_and_all_it_was_sent_since(kept: Kept) -> None:
    kept.witnesses.joined(7, 1)
    assert kept.proofs(7) == [1]
    assert kept.proofs(7) == [1]  # another attempt, and nothing new in the ledger
    kept.note()
    assert kept.proofs(7) == [1, 2]  # whether it has seen 2 isn't known
    kept.witnesses.answered(7)
    kept.note()
    assert kept.proofs(7) == [3]
    kept.witnesses.joined(7, 2)  # its process died, and it knows no more
    assert kept.proofs(7) == [2]
    kept.witnesses.answered(9)
    assert kept.proofs(9) == []


def test_of_a_site_that_never_answers_some_are_let_go_of(kept: Kept) -> None:
    kept.witnesses.joined(7, 1)
    for _ in range(MOST_PROOFS + 10):
        found = kept.proofs(7)
        assert len(found) <= MOST_PROOFS
        assert found[:1] in ([1], [])
        kept.note()
    assert len(found) == MOST_PROOFS - 1 or len(found) == MOST_PROOFS


def test_a_site_that_was_shown_more_than_there_is_gets_no_proof(kept: Kept) -> None:
    kept.witnesses.joined(7, 99)
    assert kept.proofs(7) == []
