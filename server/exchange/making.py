"""Choice of the exchange that a job asks for."""

from fedmodel.secagg.blame import Blame
from server.coordinator import Coordinator
from server.exchange.plain import Plain
from server.exchange.protocol import Exchange
from server.exchange.sealed import Sealed
from server.exchange.summed import Summed

__all__ = ["make_exchange"]


def make_exchange(coordinator: Coordinator, reached: int, blame: Blame | None = None) -> Exchange:
    """Begin a joining in which the sites' answers come as the job says.

    Args:
        coordinator: of the run.
        reached: the last round that it has finished.
        blame: what was found out about sites in earlier joinings of the run.

    Raises:
        ConfigError: when the coordinator lacks what that takes.
    """
    mode = coordinator.job.secagg.mode
    if mode == "on":
        return Summed(coordinator, reached, blame)
    if mode == "seal":
        return Sealed(coordinator)
    joining = "" if coordinator.keys is None else coordinator.entropy.bytes(32).hex()
    return Plain(coordinator.job, coordinator.initial.size, joining)
