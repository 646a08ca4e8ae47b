"""Small federations through the real apps, with a grid that a test may tamper with."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.clientapp import ClientApp

import clients.assemble
from clients.app import SiteApp
from clients.declared import count_units
from clients.site import Site
from fedmodel.agreement import Facts, complete, complete_model
from fedmodel.data import Rows
from fedmodel.errors import FedmodelError
from fedmodel.job import (
    Job,
    Proposal,
    ProposedAggregation,
    ProposedFederation,
    ProposedModel,
    ProposedPrivacy,
    ProposedSecAgg,
    Train,
)
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.ledger.site_state import SiteState
from fedmodel.runs import RunFolder
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.seeds import Seed
from fedmodel.training.learner import network, resident
from fedmodel.update import Vector
from server.coordinator import RunResult, Silent
from simulations import play as playing
from simulations.faults import Fault, FaultyGrid, KnowingGrid
from simulations.parties import Parties
from simulations.play import Played
from simulations.scenario import Homes
from tests.conftest import new_run
from tests.jobs import CPU

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

    def __init__(
        self, *parts: Any, faults: Sequence[Fault] = (), anew: Any = None, **hooks: Any
    ) -> None:
        super().__init__(*parts, faults=faults, anew=anew)
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
        return str(offer.message.content["config"]["joining"])

    def replies(self, kind: str, node: int | None = None) -> list[Crossed]:
        return [c for c in self.crossed if c.reply and c.kind == kind and node in (None, c.node)]


class Knowing(Watched, KnowingGrid):
    """Knows besides which process of a site is there."""


@dataclass
class Ran:
    """A federation that has run."""

    job: Job
    start: Vector
    folder: RunFolder
    grid: Watched
    sites: dict[int, Site]
    played: Played | None = None
    error: FedmodelError | None = None

    @property
    def result(self) -> RunResult:
        assert self.played is not None
        return self.played.result

    @property
    def vector(self) -> Vector:
        return self.result.vector

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.folder.metrics()]

    def spent(self, node: int) -> list[SpendEntry]:
        path = self.sites[node].ledger_file
        entries = Ledger(path).entries() if path.exists() else []
        return [e for e in entries if isinstance(e, SpendEntry)]


class Lab:
    """Makes jobs and runs them."""

    rows = ROWS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.state: Path | None = None  # of the sites, for runs to share

    def sites(self, count: int = 5, each: int = 4) -> dict[str, Rows]:
        """Return a few rows for each site; a site named by a letter is node 2, 3, …"""
        order = [[(each * i + j) % len(ROWS) for j in range(each)] for i in range(count)]
        names = [f"s{i:02}" for i in range(count)]
        return {name: ROWS.select(at) for name, at in zip(names, order, strict=True)}

    def job(
        self,
        secagg: Any = "on",
        privacy: ProposedPrivacy | None = None,
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
        proposal = Proposal(
            model=ProposedModel(max_length=16),
            train=Train(**(usual | train)),
            privacy=privacy or ProposedPrivacy(),
            secagg=ProposedSecAgg(mode=secagg, **(hide or {})),
            aggregation=ProposedAggregation(**(aggregation or {})),
            federation=ProposedFederation(**({"min_rows": 1} | (federation or {}))),
            performance=CPU,
        )
        return self.complete(proposal, sites or self.sites())

    @staticmethod
    def complete(proposal: Proposal, sites: dict[str, Rows]) -> Job:
        facts = Facts(
            labels=("a", "b"),
            weights="",
            units=tuple(count_units(proposal.privacy, rows) for rows in sites.values()),
            rows=max(map(len, sites.values())),
            public_test=True,
        )
        model = complete_model(proposal, facts)
        weights = network(model, proposal.train, Seed(proposal.seed), CPU).digest
        return complete(proposal, replace(facts, weights=weights))

    def run(
        self,
        job: Job,
        sites: dict[str, Rows] | None = None,
        *,
        faults: Iterable[Fault] = (),
        folder: RunFolder | None = None,
        error: type[FedmodelError] | None = None,
        watch: Callable[[Watched], None] = lambda grid: None,
        kind: type[Watched] = Watched,
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
            kind: of grid.
            hooks: of the grid.
        """
        self.count += 1
        learner = resident(job, CPU)
        parties = Parties(
            job=job,
            performance=CPU,
            sites=sites or self.sites(),
            test=ROWS,
            learner=learner,
            rows_sha256="",
        )
        found = folder or new_run(self.folder / f"run-{self.count}")
        grids: list[Watched] = []
        made: list[Site] = []

        def anew(node: int) -> ClientApp:
            """Start a node's site anew: all that it has is what it has written."""
            site = made[node - 2]
            state = SiteState(site.state.folder, site.name)
            return SiteApp(lambda context: replace(site, state=state)).app

        def grid(*parts: Any) -> Watched:
            grids.append(kind(*parts, faults=tuple(faults), anew=anew, **hooks))
            watch(grids[-1])
            return grids[-1]

        with pytest.MonkeyPatch.context() as patch:
            real = clients.assemble.make_site

            def make_site(*arguments: Any, **named: Any) -> Site:
                made.append(self.changed(len(made) + 2, real(*arguments, **named)))
                return made[-1]

            patch.setattr(playing, "make_site", make_site)
            start = learner.initial.copy()
            homes = Homes(state=self.state)
            partial = functools.partial(
                playing.play, parties, found, Silent(), homes=homes, grid=grid
            )
            if error is None:
                played = partial()
                return Ran(job, start, found, grids[0], dict(enumerate(made, 2)), played)
            with pytest.raises(error) as caught:
                partial()
        return Ran(job, start, found, grids[0], dict(enumerate(made, 2)), error=caught.value)

    def changed(self, node: int, site: Site) -> Site:
        """Return a site as a test would have it instead; as it is, unless a test sets this."""
        return site

    @staticmethod
    def bound(job: Job) -> float:
        """Return by how much fixed point may put a round's uniform mean off."""
        sums = job.secagg.masked
        fixed = FixedPoint(bits=sums.bits, parties=job.federation.cohort, range=sums.range)
        return fixed.step / 2 + 1e-7


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
