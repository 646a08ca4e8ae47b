"""The network that ``join`` dials."""

from clients.line import Line
from fedmodel.errors import ConfigError

__all__ = ["over_network"]


def over_network(line: Line) -> None:
    """Dial the coordinator, and answer what it asks until somebody asks this process to end.

    Args:
        line: whom to dial, as whom, and who answers.

    Raises:
        ConfigError: as long as this version has no network transport.
    """
    raise ConfigError(
        f"{line.address} can't be dialled: this version has no network transport yet; fedmodel "
        "site check site=site.yaml checks the rest"
    )
