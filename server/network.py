"""The network that ``serve`` listens on: gRPC with mutual TLS 1.3."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fedmodel.identity.keys import SigningKey
from fedmodel.identity.refusals import RefusalLog
from fedmodel.runs import RunFolder, Traffic
from fedmodel.seeds import Entropy
from fedmodel.transport.epoch import next_epoch
from fedmodel.transport.grid import HubGrid
from fedmodel.transport.hub import Hub as NetworkHub
from fedmodel.transport.hub import HubConfig
from fedmodel.transport.options import server_options
from fedmodel.transport.server import Server
from fedmodel.transport.spool import spool
from fedmodel.transport.tls import CurrentMaterial, credentials_in_use
from fedmodel.transport.versions import check_versions
from server.assemble import MOST_REFUSALS
from server.exchange.hub import Hub, Listening

__all__ = ["over_network"]

logger = logging.getLogger(__name__)


@contextmanager
def over_network(listening: Listening) -> Iterator[Hub]:
    """Listen for the sites, and carry messages to them while the context lasts.

    Args:
        listening: on what, as whom, and for whom.

    Raises:
        ConfigError: when it can't be listened there, or TLS wouldn't be 1.3 only.
        IdentityError: when the coordinator's certificate can't be relied on.
        RunFolderError: when it can't be written down that the coordinator has started.
    """
    home, entropy = listening.home, Entropy()
    current = CurrentMaterial(home, listening.passphrase, "coordinator")
    credentials = credentials_in_use(current)
    # On disk before anything is signed: of two starts the later one counts.
    epoch, start = next_epoch(listening.run, entropy)
    refusals = RefusalLog(home.folder, most=MOST_REFUSALS)
    with spool(listening.run) as folder:
        hub = NetworkHub(
            HubConfig(
                run=RunFolder.open(listening.run).run,
                epoch=epoch,
                start=start,
                roster=listening.roster,
                signer=SigningKey(home.secret("key", listening.passphrase)),
                newest=home.current_roster,
                folder=folder,
                most=listening.largest,
                own=lambda: current.read().certificate,
                grace=listening.grace,
                told=lambda event, who, why: refusals.add(event, (who, why), who=who, why=why),
                entropy=entropy,
            )
        )
        hub.run_beside()
        try:
            yield from _listening(hub, listening, Server(hub, credentials, server_options()))
        finally:
            hub.close()


def _listening(hub: NetworkHub, listening: Listening, server: Server) -> Iterator[Hub]:
    server.start(listening.listen)
    ended = False
    try:
        host = listening.listen.rpartition(":")[0]
        check_versions(f"{host}:{server.port}", listening.home)
        yield _Listening(hub, server.port)
        ended = True
    finally:
        # A run that goes on later isn't over: its sites keep what they hold for it.
        hub.close_callers(ended=ended)
        server.stop()


class _Listening:
    """A hub as ``serve`` knows it."""

    def __init__(self, hub: NetworkHub, port: int) -> None:
        self._hub = hub
        self.grid = HubGrid(hub)
        self.port = port

    def present(self) -> Collection[str]:
        """Return the names of the sites that are connected."""
        roster = self._hub.config.roster
        return [roster.member(number).name for number in self._hub.present()]

    def traffic(self) -> Traffic:
        """Return what has crossed by now: payloads, without what frames add to them.

        What a cut made go out again counts again; an answer counts once it is whole.
        """
        crossed = self.grid.traffic
        return Traffic(bytes_up=crossed.up, bytes_down=crossed.down)
