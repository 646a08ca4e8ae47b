"""How long a site has had no connection, and why: each time anew."""

import time
from pathlib import Path

import pytest

from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, wait_until


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
