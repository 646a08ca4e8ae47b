"""A site that is shown the coordinator's ledger: it may only grow, and nothing else is believed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.witness import Witness
from fedmodel import wire
from fedmodel.errors import EquivocationError, ProtocolError, RunFolderError, UnsignedError
from fedmodel.identity import SigningKey
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.ledger.coordinator_entries import RoundEntry
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger, CoordinatorOwner
from fedmodel.ledger.site_line import Begun
from fedmodel.wire import Shown
from tests.clients.four_sites import RECORD, SIGNER, Talk, job_of

MODEL = "0" * 64


class Books:
    """A coordinator's ledger of a run, and what is shown of it.

    Args:
        folder: of the ledger.
        signer: whose it is.
        run: of which run.
    """

    def __init__(self, folder: Path, signer: SigningKey = SIGNER, run: str = "test") -> None:
        owner = CoordinatorOwner(signer=signer, head=folder / "head.json", run=run)
        self.ledger = CoordinatorLedger(folder / "coordinator.jsonl", owner)

    def grown(self, entries: int) -> "Books":
        for _ in range(entries):
            self.ledger.note(RoundEntry(kind="train", round=1, model=MODEL, members=()))
        return self

    def shown(self, *since: int) -> Shown:
        proofs = {size: tuple(self.ledger.prove(size)) for size in since}
        return Shown(head=self.ledger.head(), proofs=proofs)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "one").grown(2)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path / "site")


def test_a_ledger_that_grows_is_seen_and_kept_over_restarts(talk: Talk, books: Books) -> None:
    witness = Witness(talk.site, "test")
    assert witness.begun(MODEL) == Begun(model=MODEL)
    for expected, since in ((3, ()), (3, (3,)), (6, (3,)), (9, (3, 6))):
        if expected > books.ledger.head().size:
            books.grown(3)
        witness.take(books.shown(*since))
        assert witness.entries == expected
        witness = Witness(talk.site, "test")
        root = books.ledger.head().root
        assert witness.begun(MODEL) == Begun(model=MODEL, entries=expected, root=root)
    assert Witness(talk.site, "other").entries == 0


def lies(folder: Path, books: Books) -> dict[str, tuple[type[Exception], str, Shown | None]]:
    """Return what is shown after a head of three entries, and what a site makes of it."""
    other = Books(folder / "other").grown(2)
    same, short = other.shown(), Books(folder / "short").grown(1).shown()
    rewritten = other.grown(2).shown(3)
    stranger = Books(folder / "stranger", SigningKey(b"\x42" * 32)).grown(4).shown(3)
    elsewhere = Books(folder / "elsewhere", run="elsewhere").grown(4).shown(3)
    good = books.grown(2).shown(3)
    bent = {3: tuple("0" * 64 for _ in good.proofs[3])}
    return {
        "two of one size": (EquivocationError, "two tree heads of 3 entries", same),
        "rolled back": (EquivocationError, "had 3 entries, and now has 2", short),
        "rewritten": (EquivocationError, "it isn't proved that", rewritten),
        "no proof": (EquivocationError, "it isn't proved that", replace(good, proofs={})),
        "no hex": (EquivocationError, "it isn't proved that", replace(good, proofs={3: ("xy",)})),
        "another proof": (EquivocationError, "it isn't proved that", replace(good, proofs=bent)),
        "another key": (UnsignedError, "signed by the coordinator of this site's", stranger),
        "another run": (UnsignedError, "got one of .*elsewhere", elsewhere),
        "none any more": (EquivocationError, "comes without the tree head", None),
    }


NAMES = (
    *("two of one size", "rolled back", "rewritten", "no proof", "no hex", "another proof"),
    *("another key", "another run", "none any more"),
)


@pytest.mark.parametrize("lie", NAMES)
def test_a_coordinator_that_lies_is_refused(
    tmp_path: Path, talk: Talk, books: Books, lie: str
) -> None:
    witness = Witness(talk.site, "test")
    witness.take(books.shown())
    before = witness.begun()
    told = lies(tmp_path, books)
    assert set(told) == set(NAMES)
    error, why, shown = told[lie]
    with pytest.raises(error, match=why):
        witness.take(shown)
    assert witness.begun() == Witness(talk.site, "test").begun() == before
    witness.take(books.shown(3))  # the true one is taken all the same


def test_without_a_roster_or_a_ledger_nothing_is_looked_at(talk: Talk, books: Books) -> None:
    talk.restart(roster=None)
    witness = Witness(talk.site, "test")
    witness.take(books.shown())
    witness.take(None)
    assert witness.entries == 0
    assert not talk.kept.exists()


def test_what_was_lost_of_the_file_stands_in_the_ledger(talk: Talk, books: Books) -> None:
    witness = Witness(talk.site, "test", Begun(entries=3, root=books.ledger.head().root))
    assert witness.entries == 3
    witness.take(books.grown(1).shown(3))
    assert Witness(talk.site, "test", Begun(entries=3, root="0" * 64)).entries == 4


def test_a_damaged_file_is_named(talk: Talk, books: Books) -> None:
    Witness(talk.site, "test").take(books.shown())
    (path,) = talk.kept.glob("coordinator-head.json")
    path.write_bytes(path.read_bytes().replace(b'"size":3', b'"size":4'))
    with pytest.raises(RunFolderError, match=r"coordinator-head\.json can't be read"):
        Witness(talk.site, "test")


# -- in orders -----------------------------------------------------------------------------------


def order(talk: Talk, round_: int, shown: Shown | None) -> Any:
    content = wire.encode_order("test", round_, talk.job.sha256, wire.pack(talk.initial))
    return talk.send("train", wire.show(content, shown))


def test_a_spend_says_what_was_shown_and_a_lie_spends_nothing(
    tmp_path: Path, talk: Talk, books: Books
) -> None:
    job = job_of("off", RECORD)
    reply = talk.offer(job)
    assert wire.decode_seen(reply.content) == 0
    assert not order(talk, 1, books.shown()).has_error()
    talk.restart()
    assert wire.decode_seen(talk.offer(job).content) == 3
    refused = order(talk, 2, Books(tmp_path / "other").grown(4).shown(3))
    assert "has rewritten its ledger" in (refused.error.reason or "")
    talk.offer(job)
    assert not order(talk, 2, books.grown(2).shown(3)).has_error()
    entries = Ledger(talk.site.ledger_file).entries()
    spends = [entry for entry in entries if isinstance(entry, SpendEntry)]
    assert [(each.round, each.coordinator_entries) for each in spends] == [(1, 3), (2, 5)]
    assert spends[1].coordinator_root == books.ledger.head().root
    end = wire.Leave(run="test", job_sha256=job.sha256, failed=False)
    leave = wire.show(wire.encode_leave(end), books.grown(1).shown(5))
    assert not talk.send("query.leave", leave).has_error()
    last = Ledger(talk.site.ledger_file).entries()[-1]
    assert (last.type, getattr(last, "coordinator_entries", None)) == ("give-back", 6)
    assert (talk.kept / "coordinator-head.json").exists()  # others may ask for it


def test_what_is_held_is_given_back_to_a_liar_too(
    tmp_path: Path, talk: Talk, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of("off", RECORD)
    talk.offer(job)
    assert not order(talk, 1, books.shown()).has_error()
    end = wire.Leave(run="test", job_sha256=job.sha256, failed=False)
    lie = Books(tmp_path / "other").grown(1).shown()
    assert not talk.send("query.leave", wire.show(wire.encode_leave(end), lie)).has_error()
    last = Ledger(talk.site.ledger_file).entries()[-1]
    assert (last.type, getattr(last, "coordinator_entries", None)) == ("give-back", 0)
    assert "has rewritten its ledger" in caplog.text


@pytest.mark.parametrize(
    "proofs",
    ["3", "0:", "x:", "3:;3:", "1:" + "a" * 200_000, ";".join(f"{n}:" for n in range(1, 40)), 5],
)
def test_what_is_malformed_is_refused(books: Books, proofs: Any) -> None:
    content = wire.encode_leave(wire.Leave(run="test-01234567", job_sha256="ab" * 32, failed=False))
    wire.show(content, books.shown(1, 2))
    assert wire.decode_leave(content).shown == books.shown(1, 2)
    content.config_records["config"]["own-proofs"] = proofs
    if proofs == "3":
        assert wire.decode_leave(content).shown == replace(books.shown(), proofs={3: ()})
        return
    with pytest.raises(ProtocolError):
        wire.decode_leave(content)


@pytest.mark.parametrize("seen", [-1, "3", True])
def test_what_a_site_says_that_it_has_seen_is_a_number(seen: Any) -> None:
    content = wire.say_seen(wire.encode_reply(), 3)
    assert wire.decode_seen(content) == 3
    assert wire.decode_seen(wire.encode_reply()) is None
    content.config_records["config"]["own-seen"] = seen
    with pytest.raises(ProtocolError):
        wire.decode_seen(content)
