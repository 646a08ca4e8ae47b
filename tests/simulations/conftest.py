"""Small federations through the real apps, with a grid that a test may tamper with."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from simulations.federation import Parties, play

from clients.site import Site
from fedmodel.data import Rows
from fedmodel.errors import FedmodelError
from fedmodel.job import Aggregation, Federation, Job, Model, Privacy, SecAgg, Train
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.runs import RunFolder
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.sums import cohort_size
from fedmodel.training.learner import resident
from fedmodel.update import Vector
from server.coordinator import Outcome, Silent
from simulations import federation
from simulations.faults import Fault, FaultyGrid
from tests.conftest import new_run

TEXTS = [f"note {i}: {'fever and cough' if i % 3 else 'pain in the knee'}" for i in range(20)]
ROWS = Rows(TEXTS, ["ab"[i % 3 == 0] for i in range(20)])


@dataclass(frozen=True)
class Crossed:
    """One message that crossed the grid, as bytes."""

    kind: str
    node: int
    reply: bool
    message: Message

    @property
    def arrays(self) -> dict[str, bytes]:
        """Every array's bytes, by record and name."""
        return {
            f"{name}/{key}": bytes(array.data)
            for name, record in self.message.content.items()
            if isinstance(record, ArrayRecord)
            for key, array in record.items()
        }

    @property
    def names(self) -> set[str]:
        """Names of all numbers and texts, by record."""
        return {
            f"{name}/{key}"
            for name, record in self.message.content.items()
            if isinstance(record, MetricRecord | ConfigRecord)
            for key in record
        }

    @property
    def raw(self) -> bytes:
        """All bytes and numbers of it."""
        texts = [
            repr(dict(record)).encode()
            for record in self.message.content.values()
            if isinstance(record, MetricRecord | ConfigRecord)
        ]
        return b"\0".join([*self.arrays.values(), *texts])


class Watched(FaultyGrid):
    """Keeps all that crosses; ``relay`` may change a reply, ``before`` sees each message."""

    relay: Callable[[str, int, Message], Message] = staticmethod(lambda kind, node, reply: reply)
    before: Callable[[str, int, Message], Message] = staticmethod(lambda kind, node, sent: sent)

    def __init__(self, *parts: Any, faults: Sequence[Fault] = (), **hooks: Any) -> None:
        super().__init__(*parts, faults=faults)
        self.crossed: list[Crossed] = []
        self.replay: int | None = None  # a node to which every message is sent again
        self.replayed: list[tuple[str, str]] = []  # kind of message, why it wasn't answered
        for name, hook in hooks.items():
            setattr(self, name, hook)

    def _deliver(self, message: Message) -> Message:
        kind, node = message.metadata.message_type, message.metadata.dst_node_id
        message = self.before(kind, node, message)
        self.crossed.append(Crossed(kind, node, False, message))
        reply = super()._deliver(message)
        if node == self.replay and kind not in ("query.join", "query.leave"):
            again = super()._deliver(message)
            self.replayed.append((kind, (again.error.reason or "") if again.has_error() else ""))
        if not reply.has_error():
            reply = self.relay(kind, node, reply)
            self.crossed.append(Crossed(kind, node, True, reply))
        return reply

    @property
    def hidden_session(self) -> str:
        """What the offers named this joining."""
        (offer, *_) = [c for c in self.crossed if c.kind == "query.join" and not c.reply]
        return str(offer.message.content["config"]["session"])

    def replies(self, kind: str, node: int | None = None) -> list[Crossed]:
        return [c for c in self.crossed if c.reply and c.kind == kind and node in (None, c.node)]


@dataclass
class Ran:
    """A federation that has run."""

    job: Job
    start: Vector
    folder: RunFolder
    grid: Watched
    sites: dict[int, Site]
    vector: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    outcome: Outcome = field(default_factory=Outcome)
    error: FedmodelError | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.folder.metrics()]

    def spent(self, node: int) -> list[SpendEntry]:
        path = self.sites[node].ledger
        entries = Ledger(path).entries() if path.exists() else []
        return [e for e in entries if isinstance(e, SpendEntry)]


class Lab:
    """Makes jobs and runs them."""

    rows = ROWS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def sites(self, count: int = 5, each: int = 4) -> dict[str, Rows]:
        """Return a few rows for each site; a site named by a letter is node 2, 3, …"""
        order = [[(each * i + j) % len(ROWS) for j in range(each)] for i in range(count)]
        names = [f"s{i:02}" for i in range(count)]
        return {name: ROWS.take(at) for name, at in zip(names, order, strict=True)}

    def job(
        self,
        secagg: Any = "on",
        privacy: Privacy | None = None,
        *,
        sites: dict[str, Rows] | None = None,
        aggregation: dict[str, Any] | None = None,
        federation: dict[str, Any] | None = None,
        hide: dict[str, Any] | None = None,
        **train: Any,
    ) -> Job:
        """Return a complete job."""
        shared = privacy is not None and privacy.mechanism == "distributed"
        usual: dict[str, Any] = {
            "method": "head",
            "rounds": 2,
            "steps": 1 if shared else 2,
            "batch_size": 4,
        }
        job = Job(
            model=Model(labels=("a", "b"), max_length=16),
            train=Train(**(usual | train)),
            privacy=privacy or Privacy(),
            secagg=SecAgg(mode=secagg, **(hide or {})),
            aggregation=Aggregation(**(aggregation or {})),
            federation=Federation(**({"min_rows": 1} | (federation or {}))),
        )
        return self.complete(job, sites or self.sites())

    @staticmethod
    def complete(job: Job, sites: dict[str, Rows]) -> Job:
        return federation._complete(job, sites, ("a", "b"), public_test=True)

    def run(
        self,
        job: Job,
        sites: dict[str, Rows] | None = None,
        *,
        faults: Iterable[Fault] = (),
        folder: RunFolder | None = None,
        error: type[FedmodelError] | None = None,
        watch: Callable[[Watched], None] = lambda grid: None,
        **hooks: Any,
    ) -> Ran:
        """Run a job through the apps.

        Args:
            job: complete.
            sites: name → rows.
            faults: of the grid.
            folder: of a run to go on with.
            error: that the run must end with.
            watch: is given the grid before anything is sent.
            hooks: of the grid.
        """
        self.count += 1
        learner = resident(job, torch.device("cpu"))
        parties = Parties(
            job=job, sites=sites or self.sites(), test=ROWS, learner=learner, rows_sha256=""
        )
        found = folder or new_run(self.folder / f"run-{self.count}")
        grids: list[Watched] = []
        kept: list[dict[int, Site]] = []

        def made(*parts: Any) -> Watched:
            grids.append(Watched(*parts, faults=tuple(faults), **hooks))
            watch(grids[-1])
            return grids[-1]

        with pytest.MonkeyPatch.context() as patch:
            real = federation._provision

            def provision(sites: dict[int, Site], *rest: Any) -> Any:
                kept.append(sites)
                return real(sites, *rest)

            patch.setattr(federation, "_provision", provision)
            start = learner.initial.copy()
            partial = functools.partial(play, parties, found, "cpu", Silent(), grid=made)
            if error is None:
                vector, outcome, nodes = partial()
                return Ran(job, start, found, grids[0], nodes, vector, outcome)
            with pytest.raises(error) as caught:
                partial()
        return Ran(job, start, found, grids[0], kept[0], error=caught.value)

    @staticmethod
    def bound(job: Job) -> float:
        """Return by how much fixed point may put a round's uniform mean off."""
        fixed = FixedPoint(
            bits=job.secagg.bits or 24, parties=cohort_size(job), range=job.secagg.range
        )
        return fixed.step / 2 + 1e-7


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
