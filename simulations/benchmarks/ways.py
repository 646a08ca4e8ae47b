"""The workload without an engine, and through fedmodel's real apps."""

import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from flwr.app import Context, RecordDict
from flwr.supercore.run import Run
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import clients.app
import server.app
from fedmodel.runs import RunFolder, manifest_of
from fedmodel.training import local
from fedmodel.update import Vector
from server.coordinator import Coordinator, RunResult, Silent
from simulations.benchmarks.clock import Clock
from simulations.benchmarks.workload import PERFORMANCE, Workload
from simulations.loopback import LoopbackGrid

__all__ = ["bare", "fedmodel", "handwritten"]

LocalTraining = Callable[[int, int, Vector], tuple[Vector, float]]


def bare(work: Workload, clock: Clock, train: LocalTraining | None = None) -> Vector:
    """Call the local training function directly and add the mean of the changes; nothing else."""
    ready = work.prepare()
    timed = clock.timed(train or ready.train)
    vector = ready.learner.initial
    for round_ in range(1, work.total + 1):
        total = np.zeros_like(vector)
        for site in range(work.sites):
            total += timed(site, round_, vector)[0]
        vector = vector + total / np.float32(work.sites)
        clock.round_ended(round_)
    return vector


def handwritten(work: Workload, clock: Clock) -> Vector:
    """Do the same with twenty lines of PyTorch that use none of fedmodel's training code."""
    ready = work.prepare()
    everything = np.arange(work.rows)
    data = [(e.batch(everything)["features"], e.labels(everything)) for e in ready.examples]
    classes, width = len(ready.job.model.labels), data[0][0].shape[1]
    bias = ready.learner.initial.size - classes * width

    def train(site: int, round_: int, vector: Vector) -> tuple[Vector, float]:
        features, labels = data[site]
        linear = torch.nn.Linear(width, classes, bias=bias > 0)
        with torch.no_grad():
            vector_to_parameters(torch.from_numpy(vector.copy()), _sorted(linear))
        optimizer = torch.optim.SGD(linear.parameters(), lr=ready.job.train.head_lr)
        seed = ready.job.root_seed.child("site", str(site), round_).child("batches")
        size, total = ready.job.train.batch_size, 0.0
        for rows in local.shuffled(seed, work.rows, size, work.steps):
            optimizer.zero_grad(set_to_none=True)
            index = torch.from_numpy(rows)
            loss = cross_entropy(linear(features[index]), labels[index])
            torch.autograd.backward(loss)
            total += loss.item()
            optimizer.step()
        after = parameters_to_vector(_sorted(linear)).detach().numpy()
        return after - vector, total / work.steps

    return bare(work, clock, train)


def _sorted(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter for _, parameter in sorted(module.named_parameters())]


class _Reporter(Silent):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        self._clock.round_ended(number)


def fedmodel(work: Workload, clock: Clock, folder: Path, *, record: bool = False) -> Vector:
    """Run the real ``server.app`` and ``clients.app`` over the ``LoopbackGrid``.

    Args:
        work: what to do.
        clock: told of every round.
        folder: for the sites' own files, and the run folder.
        record: keep a run folder: metrics and a checkpoint every round, each with its fsyncs.
    """
    ready, run_id = work.prepare(), secrets.randbits(62) + 1
    sites = {number + 2: work.site(number, folder) for number in range(work.sites)}
    contexts = {node: Context(run_id, node, {}, RecordDict(), {}) for node in sites}
    coordinator = Coordinator(
        job=ready.job,
        performance=PERFORMANCE,
        folder=RunFolder.create(folder / "run", manifest_of("run", ready.job)) if record else None,
        initial=ready.learner.initial,
        named=ready.learner.layout.named,
        from_named=ready.learner.layout.from_named,
        reporter=_Reporter(clock),
    )
    site_app = clients.app.make_app(lambda context: sites[context.node_id])
    results: list[RunResult] = []
    server_app = server.app.make_app(lambda context: coordinator, results.append)
    grid = LoopbackGrid(site_app, contexts, Run.create_empty(run_id))
    with patch.object(local, "train", clock.timed(local.train)):
        server_app(grid, Context(run_id, 1, {}, RecordDict(), {}))
    return results[0].vector
