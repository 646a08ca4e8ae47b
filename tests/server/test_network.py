"""The network that serve listens on: what its hub is given, and what sites are told at the end."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from fedmodel.errors import UnavailableError
from fedmodel.transport import server
from fedmodel.transport.hub import Hub
from fedmodel.transport.port import require_port
from server import network
from server.exchange.hub import Listening
from tests.conftest import new_run
from tests.fedmodel.transport.consortium import Consortium

pytestmark = pytest.mark.long


class Seen(Hub):
    """Remembers how its sites were told the end."""

    made: ClassVar[list[Hub]] = []
    ended: ClassVar[list[bool]] = []

    def run_beside(self) -> None:
        self.made.append(self)
        super().run_beside()

    def close_callers(self, *, ended: bool) -> None:
        self.ended.append(ended)
        super().close_callers(ended=ended)


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


@pytest.fixture
def listening(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listening]:
    monkeypatch.setattr(network, "NetworkHub", Seen)
    home = consortium.coordinator
    yield Listening(
        home=home,
        passphrase=None,
        roster=home.current_roster(),
        listen="127.0.0.1:0",
        run=new_run(tmp_path / "run").path,
        grace=17.0,
        largest=1 << 20,
    )
    Seen.made.clear()
    Seen.ended.clear()


def test_who_is_revoked_and_a_certificate_that_is_renewed_are_seen_while_it_listens(
    consortium: Consortium, listening: Listening
) -> None:
    home = listening.home
    with network.over_network(listening):
        (hub,) = Seen.made
        config, old = hub.config, home.certificate()
        assert (config.grace, config.most, config.roster) == (17.0, 1 << 20, listening.roster)
        assert config.own is not None
        assert config.own() == old
        home.renew()
        consortium.admit(home)
        consortium.hand_out(home)
        assert config.own() == home.certificate() != old
        consortium.revoke("north")
        assert [member.name for member in config.newest().members] == ["south"]


def test_sites_are_told_that_a_run_is_over_only_where_it_is(listening: Listening) -> None:
    with network.over_network(listening):
        pass
    with suppress(ZeroDivisionError), network.over_network(listening):
        raise ZeroDivisionError
    assert Seen.ended == [True, False]


def test_a_port_that_is_taken_is_worth_another_try(listening: Listening) -> None:
    with network.over_network(listening) as hub:
        taken = replace(listening, listen=f"127.0.0.1:{hub.port}")
        with pytest.raises(UnavailableError, match="in use"), network.over_network(taken):
            pass


def test_a_port_that_is_taken_while_it_is_looked_at_is_worth_another_try(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def free_at_first(listen: str) -> None:
        looked.append(listen)
        if len(looked) > 1:
            require_port(listen)

    with network.over_network(listening) as hub:
        taken = replace(listening, listen=f"127.0.0.1:{hub.port}")
        monkeypatch.setattr(server, "require_port", free_at_first)
        with pytest.raises(UnavailableError, match="in use"), network.over_network(taken):
            pass
