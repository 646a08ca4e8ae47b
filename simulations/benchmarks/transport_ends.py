"""Both ends of fedmodel's network, each a program: the coordinator's, and a site's or many.

``python -m simulations.benchmarks.transport_ends coordinator HOME SOCKET`` obeys what comes over
the socket; ``… sites ADDRESS HOME…`` is connected until it is ended.
"""

import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from fedmodel.identity import SigningKey
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now
from fedmodel.seeds import Entropy
from fedmodel.transport.grid import HubGrid
from fedmodel.transport.host import Host
from fedmodel.transport.hub import Hub, HubConfig
from fedmodel.transport.inbox import Inbox
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.link import Link, LinkConfig
from fedmodel.transport.options import server_options
from fedmodel.transport.server import Server
from fedmodel.transport.tls import server_credentials
from simulations.benchmarks.transport_app import Asker, client, obey

__all__ = ["consortium"]

_GRACE = 600.0  # s: the longest cut that is measured is shorter


def consortium(folder: Path, sites: int) -> tuple[Path, list[Path]]:
    """Make a consortium; return the coordinator's folder, and the sites'.

    Args:
        folder: in which its folders are made.
        sites: how many.
    """
    home = ConsortiumHome(folder / "consortium")
    home.make("benchmark")
    parties = [PartyHome(folder / "coordinator")]
    parties[0].make("coordinator", "coordinator", "localhost")
    for number in range(1, sites + 1):
        parties.append(PartyHome(folder / f"site-{number:03d}"))
        parties[-1].make("site", parties[-1].folder.name, None)
    with home.opened() as found:
        for party in parties:
            found = found.admit(party.request(), utc_now())
        home.save(found.issued(utc_now()))
    for party in parties:
        certificate = home.certificate_path(party.read().owner.tls).read_text()
        party.take(signed_roster_in(home.roster_path), certificate, confirmed=True)
    return parties[0].folder, [party.folder for party in parties[1:]]


class Coordinator(Asker):
    """A coordinator's end that does what the benchmark orders.

    Args:
        home: its folder.
        folder: for letters under way.
    """

    def __init__(self, home: PartyHome, folder: Path) -> None:
        hub = Hub(
            HubConfig(
                run="benchmark",
                epoch=1,
                start=Entropy().bytes(16).hex(),
                roster=home.current_roster(),
                signer=SigningKey(home.secret("key")),
                newest=home.current_roster,
                folder=folder,
                most=1 << 34,
                grace=_GRACE,
                sources="0" * 64,
            )
        )
        hub.run_beside()
        self._server = Server(hub, server_credentials(home, None), server_options())
        self._server.start("127.0.0.1:0")
        super().__init__(HubGrid(hub))

    def port(self) -> int:
        """Return where it listens."""
        return self._server.port


def linked(home: PartyHome, address: str) -> Host:
    """Return a site whose link runs."""
    spool = home.folder / "spool"
    spool.mkdir(exist_ok=True)
    link = Link(
        LinkConfig(
            home=home,
            signer=SigningKey(home.secret("key")),
            address=address,
            sources="0" * 64,
            folder=spool,
            inbox=Inbox(InboxStore(lambda run: home.folder / "runs" / run)),
        )
    )
    link.run_beside()
    return Host(client, link)


def main(argv: Sequence[str]) -> int:
    """Be one end, until it is ended."""
    role, first, *rest = argv
    if role == "coordinator":
        with tempfile.TemporaryDirectory(dir=first) as folder:
            obey(rest[0], Coordinator(PartyHome(Path(first)), Path(folder)))
        return 0
    hosts = [linked(PartyHome(Path(each)), first) for each in rest]
    threads = [threading.Thread(target=host.run, daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
