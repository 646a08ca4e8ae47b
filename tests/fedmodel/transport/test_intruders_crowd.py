"""A crowd at the port: as many connections as there may be, which keeps no honest site out."""

import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.fedmodel.transport.loris import Loris
from tests.fedmodel.transport.test_intruders_floods import World
from tests.fedmodel.transport.world import Site, wait_until

pytestmark = pytest.mark.long

MOST = 32


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("fedmodel.transport.options._MOST", MOST)
    # No time runs out for them: it is by their number alone that any are closed.
    monkeypatch.setattr("fedmodel.transport.options._HANDSHAKE", 600_000)
    monkeypatch.setattr("fedmodel.transport.options._IDLE", 600_000)
    monkeypatch.setattr("fedmodel.transport.notes._MOST", 1 << 30)
    made = World(tmp_path)
    with made.coordinator, Site(made.south, made.coordinator.address):
        made.coordinator.wait_for(1)
        yield made


class Crowd:
    """Connections of one certificate that ask for nothing; each that is closed is opened again.

    Args:
        world: at whose port.
        tls: shake hands, as north; else they are anybody's.
    """

    def __init__(self, world: World, *, tls: bool) -> None:
        self._world, self._tls = world, tls
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._flood)
        self.opened = 0

    def __enter__(self) -> "Crowd":
        self._thread.start()
        wait_until(lambda: self.opened > 2 * MOST)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _flood(self) -> None:
        with ExitStack() as stack:
            held: list[Loris] = []
            while not self._over.wait(0.005):  # all there may be, in a fifth of a second
                # Only where something has come: to look at each would take too long for a flood.
                ready = select.select([each.link for each in held], [], [], 0)[0]
                for each in [h for h in held if h.link in ready and h.is_closed()]:
                    each.link.close()
                    held.remove(each)
                if len(held) < MOST + 8:
                    with suppress(OSError):
                        held.append(stack.enter_context(self._one()))
                        self.opened += 1

    def _one(self) -> Loris:
        world = self._world
        made = Loris(world.coordinator.server.port)
        try:
            if self._tls:
                made.greet_tls(world.consortium, world.papers, world.root)
        except OSError:
            made.link.close()
            raise
        return made


@pytest.mark.parametrize("tls", [True, False], ids=["of a member", "of strangers"])
def test_a_crowd_that_fills_all_connections_keeps_nobody_out(tls: bool, world: World) -> None:
    with Crowd(world, tls=tls):
        world.check_round(3)
        world.check_joins()
        world.check_round(3)
    assert world.coordinator.hub.callers.keys() >= {2}
    assert any("closed" in why for why in world.noted())
