"""Notes of refusals: said at once, and bounded whoever floods."""

import logging

import pytest

from fedmodel.errors import LedgerError
from fedmodel.transport import notes
from fedmodel.transport.notes import Notes


class Book:
    """Notes, their keeper, and a clock of theirs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rows: list[tuple[str, str, str]] = []
        self.notes = Notes(lambda *row: self.rows.append(row), lambda: self.now)

    def add(self, who: str = "north", why: str = "why") -> None:
        self.notes.add("link-refused", who, "127.0.0.1:9", why)


def test_a_note_says_who_where_and_why(caplog: pytest.LogCaptureFixture) -> None:
    book = Book()
    book.add("a\nb", "w\x1b[2J")
    assert book.rows == [("link-refused", "a\\nb at 127.0.0.1", "w\x1b[2J")]
    assert caplog.messages == ["link-refused: a\\nb at 127.0.0.1:9: w\\x1b[2J"]


def test_of_a_flood_of_one_the_first_are_noted_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = Book()
    for _ in range(1000):
        book.add()
    assert len(book.rows) == notes._MOST
    assert "more of it is only counted now" in caplog.messages[-1]
    assert set(book.rows) == {("link-refused", "north at 127.0.0.1", "why")}
    book.add("south")
    assert book.rows[-1] == ("link-refused", "south at 127.0.0.1", "why")
    book.now = notes._WINDOW_S
    book.add()
    assert caplog.messages[-1].endswith(f"why ({1000 - notes._MOST} more since the last of these)")
    book.add()
    assert caplog.messages[-1].endswith(": why")


def test_of_however_many_the_memory_is_bounded() -> None:
    book = Book()
    for number in range(3 * notes._KNOWN):
        book.add(f"site-{number}")
    assert len(book.notes._recent) == notes._KNOWN
    assert len(book.rows) == 3 * notes._KNOWN


@pytest.mark.parametrize(
    "error", [LedgerError("the disk is full"), OSError(28, "full"), KeyError()]
)
def test_a_keeper_that_fails_keeps_nobody_out(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def told(*row: str) -> None:
        raise error

    with caplog.at_level(logging.ERROR):
        Notes(told).add("link-refused", "north", "127.0.0.1:9", "why")
    assert "can't be written down" in caplog.messages[-1]
