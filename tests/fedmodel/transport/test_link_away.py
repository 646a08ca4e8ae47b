"""How long a site has had no connection, and why: each time anew."""

import errno
import logging
import time
from pathlib import Path

import pytest

from fedmodel.transport.caller import _said
from fedmodel.transport.frames import Bye, Chunk, Head
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
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    consortium = Consortium(tmp_path)
    north = consortium.sites["north"]
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        with Site(north, coordinator.address):
            coordinator.wait_for(1)
            assert told(coordinator.ask(b"one", [1])[0]) == b"one"
        inbox = north.folder / "runs" / "run-1" / "link" / "inbox.bin"
        whole = inbox.read_bytes()
        inbox.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
        with Site(north, coordinator.address, explain=False) as site:
            # It dials again and again, and the end of a stream may overtake what was said on it.
            wait_until(lambda: any("the site says" in each[2] for each in coordinator.refusals))
            event, who, why = next(e for e in coordinator.refusals if "the site says" in e[2])
            assert (event, who) == ("link-refused", f"{north.read().owner.tls} at 127.0.0.1")
            assert why == (
                "no greeting: the site says: what it keeps of this run can't be read or written; "
                "its own log says why"
            )
            wait_until(lambda: str(inbox) in site.link.said)
            assert str(inbox.parent.parent) not in why
            inbox.write_bytes(whole)
            coordinator.wait_for(1)  # without a restart at either end


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
