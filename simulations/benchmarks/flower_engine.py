"""The workload in Flower's own simulation engine (Ray); run as a program, one run a process.

``python -m simulations.benchmarks.flower_engine SITES ROUNDS WARM STEPS ROWS FILE`` writes the cost
of a round to ``FILE``, and the final parameters beside it.
"""

import json
import subprocess
import sys
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedmodel.update import Vector
from simulations.benchmarks.clock import Clock, Cost, time_call
from simulations.benchmarks.workload import Workload

__all__ = ["available", "measure"]

_TIMEOUT = 600
_WORKERS = 1  # as many as a LoopbackGrid has, so that wall seconds compare


def available() -> bool:
    """Whether Ray is installed."""
    return find_spec("ray") is not None


def measure(work: Workload, folder: Path) -> tuple[Cost, Vector]:
    """Run the engine in a process of its own and return its cost and final parameters.

    Raises:
        subprocess.SubprocessError: if it fails or takes longer than ten minutes.
    """
    out = folder / "flower.json"
    sizes = (work.sites, work.rounds, work.warm, work.steps, work.rows)
    command = [sys.executable, "-m", __name__, *map(str, sizes), str(out)]
    with open(folder / "flower.log", "wb") as log:
        subprocess.run(command, check=True, timeout=_TIMEOUT, stdout=log, stderr=log)
    return Cost(**json.loads(out.read_text())), np.load(out.with_suffix(".npy"))


def _client_app(work: Workload) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        ready = work.prepare()  # once per Ray worker
        site = int(context.node_config["partition-id"])
        round_ = int(message.content.config_records["config"]["server-round"])  # type: ignore[arg-type]
        vector = message.content.array_records["arrays"]["vector"].numpy()
        (change, _), wall, cpu = time_call(lambda: ready.train(site, round_, vector))
        content = RecordDict(
            {
                "arrays": ArrayRecord({"vector": Array(vector + change)}),
                "metrics": MetricRecord({"num-examples": work.rows, "wall": wall, "cpu": cpu}),
            }
        )
        return Message(content, reply_to=message)

    return app


def _server_app(work: Workload, clock: Clock, out: Path) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        def round_ended(number: int, arrays: ArrayRecord) -> None:
            clock.round_ended(number)

        def add_up(contents: list[RecordDict], _: str) -> MetricRecord:
            found = [content.metric_records["metrics"] for content in contents]
            wall = sum(cast(float, f["wall"]) for f in found)
            cpu = sum(cast(float, f["cpu"]) for f in found)
            clock.trained(wall, cpu)
            return MetricRecord({"wall": wall, "cpu": cpu})

        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_train_nodes=work.sites,
            min_available_nodes=work.sites,
            train_metrics_aggr_fn=add_up,
        )
        initial = ArrayRecord({"vector": Array(work.prepare().learner.initial)})
        result = strategy.start(grid, initial, num_rounds=work.total, evaluate_fn=round_ended)
        np.save(out.with_suffix(".npy"), result.arrays["vector"].numpy())

    return app


def _run(work: Workload, out: Path) -> None:
    from flwr.simulation import run_simulation

    clock = Clock(work.warm, work.total)
    with warnings.catch_warnings():
        # The successor, `flwr run`, starts the same engine from a daemon, some seconds later.
        warnings.simplefilter("ignore")
        run_simulation(
            _server_app(work, clock, out),
            _client_app(work),
            num_supernodes=work.sites,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {"num_cpus": _WORKERS, "include_dashboard": False},
            },
        )
    out.write_text(json.dumps(asdict(clock.cost())))


if __name__ == "__main__":
    # As a module with its own name, so that Ray's workers can import what they are sent.
    from simulations.benchmarks import flower_engine

    sites, rounds, warm, steps, rows = (int(a) for a in sys.argv[1:6])
    flower_engine._run(
        Workload(sites=sites, rounds=rounds, warm=warm, steps=steps, rows=rows), Path(sys.argv[6])
    )
