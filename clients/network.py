"""The network that ``join`` dials: gRPC with mutual TLS 1.3."""

import logging
import threading

from clients.line import Line
from fedmodel._paths import source_digest
from fedmodel.errors import RefusedError, UnavailableError
from fedmodel.identity.keys import SigningKey
from fedmodel.transport.host import Host
from fedmodel.transport.inbox import Inbox
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.link import Link, LinkConfig
from fedmodel.transport.proxy import route_to
from fedmodel.transport.spool import spool

__all__ = ["over_network"]

logger = logging.getLogger(__name__)

_LOOK_S = 0.2  # how often it is looked whether to go on
_FINISH_S = 10.0  # what is being done may take so long to come to its end


def over_network(line: Line) -> None:
    """Dial the coordinator, and answer what it asks until somebody asks this process to end.

    Args:
        line: whom to dial, as whom, and who answers.

    Raises:
        UnavailableError: when the coordinator wasn't there for too long.
        RefusedError: when another process of this site has taken its place.
        ConfigError: when the proxy that applies can't be used.
    """
    # What can't be used is said before anything is dialled.
    logger.info("dialling %s %s", line.address, route_to(line.address, line.proxy))
    with spool(line.home.folder) as folder:
        link = Link(
            LinkConfig(
                home=line.home,
                passphrase=line.passphrase,
                signer=SigningKey(line.home.secret("key", line.passphrase)),
                address=line.address,
                route=lambda: route_to(line.address, line.proxy),
                sources=source_digest(),
                folder=folder,
                inbox=Inbox(InboxStore(line.runs)),
            )
        )
        host = threading.Thread(target=Host(line.site_app.app, link).run, daemon=True)
        link.run_beside()
        host.start()
        try:
            _stay(link, line)
        finally:
            link.close("the site's process was asked to stop")
            host.join(_FINISH_S)


def _stay(link: Link, line: Line) -> None:
    """Wait until the process is asked to end, or there is no use in going on."""
    while not line.stop.wait(_LOOK_S):
        if link.final is not None:
            raise RefusedError(f"the coordinator has ended the connection for good: {link.final}")
        if line.patience is not None and link.away_for() > line.patience:
            raise UnavailableError(
                f"no connection to the coordinator at {line.address} for patience="
                f"{line.patience:g} seconds: {link.said or 'it has gone'}"
            )
