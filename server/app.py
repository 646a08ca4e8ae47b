"""The coordinator's Flower ``ServerApp``."""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

from collections.abc import Callable
from typing import TypeAlias

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedmodel.errors import ProtocolError
from server.coordinator import Coordinator, RunResult
from server.exchange.channel import Channel
from server.rounds import run

__all__ = ["app", "make_app", "play"]

_SELF = 1  # the coordinator's own node

CoordinatorOf: TypeAlias = Callable[[Context], Coordinator]


def make_app(coordinator_of: CoordinatorOf, done: Callable[[RunResult], None]) -> ServerApp:
    """Return a ``ServerApp`` that plays one run.

    Args:
        coordinator_of: of the run; it may refuse.
        done: gets the result: Flower has no place for one.
    """
    made = ServerApp()

    @made.main()
    def main(grid: Grid, context: Context) -> None:
        coordinator = coordinator_of(context)
        done(run(Channel(grid, coordinator.timeout), coordinator))

    return made


def play(grid: Grid, coordinator: Coordinator) -> RunResult:
    """Play one run over a grid, through the ``ServerApp``.

    Args:
        grid: to the sites.
        coordinator: of the run.

    Raises:
        FedmodelError: if the run fails.
    """
    results: list[RunResult] = []
    played = make_app(lambda context: coordinator, results.append)
    played(grid, Context(grid.run.run_id, _SELF, {}, RecordDict(), {}))
    return results[0]


def _nobody(context: Context) -> Coordinator:
    raise ProtocolError("this ServerApp was started without a job; use 'fedmodel simulate'")


app = make_app(_nobody, lambda result: None)
