"""The network that a site dials: how, that this is told, and when it gives up."""

import logging
import threading
from pathlib import Path

import pytest

from clients import network
from clients.app import SiteApp
from clients.line import Line
from clients.network import over_network
from fedmodel.errors import RefusedError, UnavailableError
from fedmodel.identity.home import PartyHome
from fedmodel.transport.link import Link
from tests.fedmodel.transport.consortium import Consortium

pytestmark = pytest.mark.long


def line_of(
    home: PartyHome, stop: threading.Event, proxy: str = "none", patience: float | None = None
) -> Line:
    return Line(
        site_app=SiteApp(lambda _: pytest.fail("nobody has asked anything")),
        home=home,
        passphrase=None,
        address="localhost:1",
        proxy=proxy,
        patience=patience,
        runs=lambda run: home.folder / "runs" / run,
        stop=stop,
    )


def test_it_is_told_how_the_coordinator_is_dialled_and_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, stop = Consortium(tmp_path).sites["north"], threading.Event()
    stop.set()
    caplog.set_level(logging.INFO)
    over_network(line_of(home, stop, proxy="http://ward:secret@127.0.0.1:9"))
    told = "dialling localhost:1 through the proxy http://127.0.0.1:9 (coordinator.proxy)"
    assert told in caplog.messages
    assert "secret" not in caplog.text


def test_it_gives_up_after_so_many_seconds_and_no_sooner(tmp_path: Path) -> None:
    home, stop = Consortium(tmp_path).sites["north"], threading.Event()
    late = threading.Timer(30, stop.set)
    late.start()
    with pytest.raises(UnavailableError, match=r"at localhost:1 for patience=0\.5 seconds"):
        over_network(line_of(home, stop, patience=0.5))
    late.cancel()


def test_where_another_process_has_taken_its_place_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(Link):
        def run_beside(self) -> None:
            super().run_beside()
            self.final = "another process of this site has come"

    monkeypatch.setattr(network, "Link", Replaced)
    home = Consortium(tmp_path).sites["north"]
    with pytest.raises(RefusedError, match="for good: another process of this site has come"):
        over_network(line_of(home, threading.Event(), patience=20.0))
