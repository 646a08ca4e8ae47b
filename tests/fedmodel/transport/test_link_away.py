"""How long a site has had no connection, and why: each time anew."""

import asyncio
import errno
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fedmodel.transport.caller import Caller, _said
from fedmodel.transport.frames import Bye, Chunk, Frame, Head
from fedmodel.transport.goodbyes import LOST, NOT_NOW
from fedmodel.transport.inbox import Inbox
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, told, wait_until


@pytest.mark.long
def test_how_long_a_site_is_away_and_why_goes_by_its_last_connection(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path)
    with (
        Coordinator(consortium, tmp_path / "run") as coordinator,
        Forwarder(1) as line,
        Site(consortium.sites["north"], f"127.0.0.1:{line.port}", explain=False) as site,
    ):
        link = site.link
        wait_until(lambda: link.said != "")
        assert link.away_for() > 0
        for _ in range(2):
            line.lead_to(coordinator.server.port)
            wait_until(lambda: link.connected and link.said == "")
            assert link.away_for() == 0
            line.lead_to(1)
            cut = time.monotonic()
            line.cut()
            wait_until(lambda: link.said != "" and not link.connected)
            away = link.away_for()
            assert 0 < away <= time.monotonic() - cut


def test_the_coordinator_is_told_of_a_site_that_cant_read_its_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium(tmp_path)
    slow_to_read(monkeypatch)
    north = consortium.sites["north"]
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        with Site(north, coordinator.address):
            coordinator.wait_for(1)
            assert told(coordinator.ask(b"one", [1])[0]) == b"one"
        inbox = north.folder / "runs" / "run-1" / "link" / "inbox.bin"
        whole = inbox.read_bytes()
        inbox.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
        with Site(north, coordinator.address, explain=False) as site:
            wait_until(lambda: bool(coordinator.refusals))
            event, who, why = coordinator.refusals[0]
            assert (event, who) == ("link-refused", f"{north.read().owner.tls} at 127.0.0.1")
            assert why == (
                "no greeting: the site says: what it keeps of this run can't be read or written; "
                "its own log says why"
            )
            wait_until(lambda: str(inbox) in site.link.said)
            assert str(inbox.parent.parent) not in why
            inbox.write_bytes(whole)
            coordinator.wait_for(1)  # without a restart at either end


def slow_to_read(patch: pytest.MonkeyPatch, seconds: float = 0.3) -> None:
    """Make a coordinator that is late to look at what has come: an end comes with it, then."""
    read = Caller._next

    async def late(caller: Caller, *args: Any) -> Frame:
        await asyncio.sleep(seconds)
        return await read(caller, *args)

    patch.setattr(Caller, "_next", late)


def test_the_coordinator_hears_why_a_site_goes_however_busy_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium(tmp_path)
    caplog.set_level(logging.INFO)
    slow_to_read(monkeypatch)
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        with Site(consortium.sites["north"], coordinator.address) as site:
            wait_until(lambda: site.link.connected)
            site.link.close("it is evening")
        wait_until(lambda: not coordinator.hub.present())
        assert "site north goes: it is evening" in caplog.text


def test_an_order_that_comes_after_the_goodbye_isnt_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium(tmp_path)
    slow_to_read(monkeypatch, 1.0)
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        with Site(consortium.sites["north"], coordinator.address) as site:
            wait_until(lambda: site.link.connected)
            call = site.link._call
            assert call is not None
            closing = threading.Thread(target=site.link.close)
            closing.start()
            wait_until(lambda: call.connection.closed)
            coordinator.wait_for(1)  # it hasn't read that yet
            (answered,) = coordinator.ask(b"one", [1], timeout=5)
            closing.join()
        assert answered.payload is None
        assert site.done == []


def test_a_coordinator_that_is_late_with_its_greeting_is_dialled_again_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium(tmp_path)
    late = "the coordinator hasn't answered the greeting in time"
    with Coordinator(consortium, tmp_path / "run") as coordinator, monkeypatch.context() as patch:
        slow_to_read(patch)
        patch.setattr("fedmodel.transport.call._GREETING_S", 0.2)
        with Site(consortium.sites["north"], coordinator.address) as site:
            wait_until(lambda: site.link.said == late)
            patch.undo()
            coordinator.wait_for(1)


def test_a_site_goes_although_its_coordinator_listens_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmodel.transport.call._HEARD_S", 0.2)
    consortium = Consortium(tmp_path)
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        go_on = threading.Event()
        with Site(consortium.sites["north"], coordinator.address) as site:
            coordinator.wait_for(1)
            coordinator.hub.loop.call_soon_threadsafe(go_on.wait, 30)
            site.link.close("it is evening")
            assert not site.link._thread.is_alive()
        go_on.set()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (Bye(code=LOST, reason="the connection was lost"), "the site has gone, or"),
        (Bye(code=NOT_NOW, reason=""), "the site has gone, or"),
        (Bye(code=NOT_NOW, reason="\x1b[2J" + "x" * 400), "the site says: \\x1b[2Jxxx"),
        (Chunk(seq=1, offset=0), "the site has gone, or"),
    ],
)
def test_what_a_site_says_instead_of_a_greeting_is_escaped(head: Head, said: str) -> None:
    assert _said(head).startswith(said)


def test_the_coordinator_is_told_of_a_site_whose_disk_fails_at_its_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By then it has been let in, and what it says is no refusal."""

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    consortium = Consortium(tmp_path)
    north = consortium.sites["north"]
    caplog.set_level(logging.INFO)
    with Coordinator(consortium, tmp_path / "run") as coordinator, monkeypatch.context() as patch:
        patch.setattr(Inbox, "obey", failing)
        with Site(north, coordinator.address, explain=False) as site:
            wait_until(lambda: "site north goes: what it keeps of this run can't" in caplog.text)
            wait_until(lambda: "Input/output error" in site.link.said)
            patch.undo()
            coordinator.wait_for(1)
