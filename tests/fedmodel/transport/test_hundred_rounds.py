"""A hundred rounds of letters: nothing is left of those that are over, at either end."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmodel.transport.call import Call
from fedmodel.transport.hub import Hub
from fedmodel.transport.inbox import Inbox
from fedmodel.transport.inbox_store import InboxStore
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.world import Coordinator, Site, told
from tests.rooms import Room, grown

pytestmark = [pytest.mark.long, pytest.mark.slow]

SIZE = 80_000  # bytes of a letter each way: one that has a file of its own
# A coordinator keeps number and digest of each order on purpose, some 150 bytes; and either end the
# hashes of the last signatures that have verified, some 4,000.
OBJECTS, BYTES = 1.0, 1_500  # of a round of two sites, both ends together


@pytest.fixture(autouse=True)
def _counted_from_here() -> Iterator[None]:
    """Nothing that other tests have left is looked at: it may go while this one runs."""
    gc.collect()
    gc.freeze()
    tracemalloc.start(1)
    yield
    tracemalloc.stop()
    gc.unfreeze()


def play(folder: Path, rounds: int, every: int) -> tuple[dict[str, float], int]:
    """Play some rounds; return what grows in a round, and the files that are left of letters."""
    consortium, rooms = Consortium(folder), list[Room]()
    with (
        Coordinator(consortium, folder / "run") as coordinator,
        Site(consortium.sites["north"], coordinator.address),
        Site(consortium.sites["south"], coordinator.address),
    ):
        coordinator.wait_for(2)
        for number in range(1, rounds + 1):
            said = number.to_bytes(2, "big") * (SIZE // 2)
            answers = coordinator.ask(said, [1, 2])
            assert [told(answer) for answer in answers] == [said, said]
            del answers, said
            if number % every == 0:
                rooms.append(Room.at_rest())
    files = len(list(folder.rglob("reply-*.bin")))
    return grown(rooms[len(rooms) // 4 :], every), files


def test_a_hundred_rounds_leave_nothing(tmp_path: Path) -> None:
    found, files = play(tmp_path, rounds=100, every=10)
    assert found["objects"] <= OBJECTS, found
    assert found["bytes"] <= BYTES, found
    assert files <= 4


def _keeps_orders(patch: pytest.MonkeyPatch) -> None:
    over, kept = Hub._over, list[Any]()

    def keeping(self: Hub, seq: int) -> Any:
        kept.append(over(self, seq))
        return kept[-1]

    patch.setattr(Hub, "_over", keeping)


def _keeps_replies(patch: pytest.MonkeyPatch) -> None:
    acknowledged = Call._acknowledged

    def keeping(self: Call, seq: int) -> None:
        assert self.taken is not None
        reply = self.taken.replies.get(seq)
        acknowledged(self, seq)
        if reply is not None:
            self.taken.replies[seq] = reply

    patch.setattr(Call, "_acknowledged", keeping)


def _keeps_what_came(patch: pytest.MonkeyPatch) -> None:
    acknowledged = Call._acknowledged

    def keeping(self: Call, seq: int) -> None:
        assert self.taken is not None
        whole = dict(self.taken.whole)
        acknowledged(self, seq)
        self.taken.whole.update(whole)

    patch.setattr(Call, "_acknowledged", keeping)


def _keeps_stamps(patch: pytest.MonkeyPatch) -> None:
    note = Inbox._note

    def keeping(self: Inbox, run: str, noted: Any) -> None:
        over = set(self._over)
        note(self, run, noted)
        self._over |= over

    patch.setattr(Inbox, "_note", keeping)


def _keeps_files(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None: ...

    patch.setattr(InboxStore, "_let_go", nothing)


LEAKS = {
    "orders": _keeps_orders,
    "replies": _keeps_replies,
    "what came": _keeps_what_came,
    "stamps": _keeps_stamps,
    "files": _keeps_files,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_one_letter_kept_of_each_round_shows(
    leak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant: Callable[[pytest.MonkeyPatch], None] = LEAKS[leak]
    plant(monkeypatch)
    found, files = play(tmp_path, rounds=40, every=5)
    assert found["objects"] > OBJECTS or files > 4, found
