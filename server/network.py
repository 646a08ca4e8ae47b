"""The network that ``serve`` listens on."""

from contextlib import AbstractContextManager

from fedmodel.errors import ConfigError
from server.exchange.hub import Hub, Listening

__all__ = ["over_network"]


def over_network(listening: Listening) -> AbstractContextManager[Hub]:
    """Begin to listen for the sites.

    Args:
        listening: on what, as whom, and for whom.

    Raises:
        ConfigError: as long as this version has no network transport.
    """
    raise ConfigError(
        f"nothing can listen on {listening.listen}: this version has no network transport yet; "
        "check=true shows what would be asked of the sites"
    )
