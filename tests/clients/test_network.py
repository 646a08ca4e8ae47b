"""The network that a site dials: how, and that this is told."""

import logging
import threading
from pathlib import Path

import pytest

from clients.app import SiteApp
from clients.line import Line
from clients.network import over_network
from tests.fedmodel.transport.consortium import Consortium


@pytest.mark.long
def test_it_is_told_how_the_coordinator_is_dialled_and_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, stop = Consortium(tmp_path).sites["north"], threading.Event()
    stop.set()
    caplog.set_level(logging.INFO)
    over_network(
        Line(
            site_app=SiteApp(lambda _: pytest.fail("nobody has asked anything")),
            home=home,
            passphrase=None,
            address="localhost:1",
            proxy="http://ward:secret@127.0.0.1:9",
            patience=None,
            runs=lambda run: tmp_path / run,
            stop=stop,
        )
    )
    told = "dialling localhost:1 through the proxy http://127.0.0.1:9 (coordinator.proxy)"
    assert told in caplog.messages
    assert "secret" not in caplog.text
