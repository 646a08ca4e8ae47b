"""A crowd at a port: who goes, and in which order, by plain connections."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from fedmodel.transport import crowd
from fedmodel.transport.crowd import Crowd, place_of
from fedmodel.transport.notes import Notes

MOST = 16


class Port:
    """A port at which connections are taken, and nothing is said."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listens = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.number: int = self._listens.getsockname()[1]
        self.kept: set[str] = set()
        self.rows: list[tuple[str, str, str]] = []
        notes = Notes(lambda *row: self.rows.append(row))
        self.crowd = Crowd(self.number, MOST, lambda: self.kept, notes)
        self._came: dict[str, socket.socket] = {}

    def open(self, count: int) -> list[str]:
        """Dial so many times; return from where."""
        made = []
        for _ in range(count):
            line = socket.create_connection(("127.0.0.1", self.number))
            self._stack.enter_context(line)
            self._stack.enter_context(self._listens.accept()[0])
            host, port = line.getsockname()
            made.append(f"{host}:{port}")
            self._came[made[-1]] = line
        return made

    def closed(self) -> list[str]:
        return [place for place, line in self._came.items() if _ended(line)]


def _ended(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def port() -> Iterator[Port]:
    with ExitStack() as stack:
        yield Port(stack)


def test_where_there_is_room_nobody_goes(port: Port) -> None:
    port.open(MOST // 2)
    assert port.crowd.thin(0.0) == 0
    assert port.closed() == []
    assert port.rows == []


def test_of_too_many_the_oldest_go_and_who_is_let_in_never_does(port: Port) -> None:
    first = port.open(6)
    assert port.crowd.thin(0.0) == 0
    port.kept = set(first[:2])
    later = port.open(6)
    # 14 may come beside those two; over half of them, all go but a quarter.
    assert port.crowd.thin(1.0) == 7
    closed = port.closed()
    assert set(first[2:]) < set(closed)
    assert not port.kept & set(closed)
    assert len(set(later) & set(closed)) == 3
    ((event, who, why),) = port.rows
    assert (event, who) == (
        "link-crowded",
        "connections that nobody was let in on at 127.0.0.1",
    )
    assert why == "7 of 10 were closed, 7 of them from there; there may be 16 in all"


def test_other_files_and_other_ports_are_left_alone(port: Port) -> None:
    with ExitStack() as stack:
        other = Port(stack)
        other.open(MOST)
        assert port.crowd.thin(0.0) == 0
        assert other.closed() == []


@pytest.mark.parametrize("system", [sys.platform, "another"])
def test_open_files_are_counted_whether_or_not_the_system_tells_how_many(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    before = crowd._open()
    with ExitStack() as stack:
        files = [stack.enter_context(open(os.devnull)) for _ in range(40)]
        assert crowd._open() == before + 40
        for each in files[:30]:  # what is closed leaves gaps in their numbers
            each.close()
        assert crowd._open() == before + 10


@pytest.mark.parametrize(("files", "closed"), [(MOST // 8 - 1, 0), (MOST // 8, MOST * 3 // 4)])
def test_a_process_with_few_files_has_no_crowd(
    files: int, closed: int, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    port.open(MOST)
    monkeypatch.setattr(crowd, "_open", lambda: files)
    assert port.crowd.thin(0.0) == closed


def test_an_older_linux_that_doesnt_tell_how_many_has_its_files_listed(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def untold(path: str) -> os.stat_result:
        return os.stat_result((*stat(path)[:6], 0, *stat(path)[7:10]))  # its size

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(crowd, "os", SimpleNamespace(**{**vars(os), "stat": untold}))
    port.open(MOST)
    assert port.crowd.thin(0.0) == MOST - MOST // 4


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("[2001:db8::1]:443", "2001:db8::1:443"),
        ("[2001:db8:0::1]:443", "2001:db8::1:443"),
        ("[fe80::1%eth0]:443", "fe80::1:443"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1:443"),
    ],
)
def test_a_place_has_one_spelling(address: str, place: str) -> None:
    assert place_of(address) == place
