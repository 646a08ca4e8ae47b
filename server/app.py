"""The coordinator's Flower ``ServerApp``."""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmodel.errors import ProtocolError
from fedmodel.update import Vector
from server import rounds
from server.coordinator import Coordinator

_coordinators: dict[int, Coordinator] = {}
_results: dict[int, Vector] = {}

app = ServerApp()


def register(run_id: int, coordinator: Coordinator) -> None:
    """Tell this process what to coordinate; whoever starts the app does it."""
    _coordinators[run_id] = coordinator


def take_result(run_id: int) -> Vector:
    """Return a finished run's parameters."""
    return _results.pop(run_id)


def forget(run_id: int) -> None:
    """Drop everything a run left in this process."""
    _coordinators.pop(run_id, None)
    _results.pop(run_id, None)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job that was registered for this run."""
    if context.run_id not in _coordinators:
        raise ProtocolError("this ServerApp was started without a job; use 'fedmodel simulate'")
    _results[context.run_id] = rounds.run(grid, _coordinators[context.run_id])
