"""All parties of a simulated run, wired to the real apps over a ``LoopbackGrid``."""

import hashlib
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

import clients.app
import server.app
from clients import policy as rules
from clients.site import Site
from fedmodel import tasks
from fedmodel._files import make_folder
from fedmodel._hazmat import x25519_public
from fedmodel.accounting.plan import plan_of
from fedmodel.data import Rows, check_test, hold_out, labels_of, load, split
from fedmodel.errors import ConfigError, DataError, FedmodelError
from fedmodel.identity import Member, Roster, SigningKey, kept_secret
from fedmodel.job import Job, Privacy
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState, folder_name
from fedmodel.runs import RunFolder, write_atomic
from fedmodel.secagg.sums import cohort_size, completed
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training.evaluate import evaluate
from fedmodel.training.learner import Learner, pick_device, resident
from fedmodel.training.optim import rates
from fedmodel.update import Vector
from server.coordinator import Coordinator, Outcome, Reporter
from server.ledger_memory import LedgerMemory
from simulations.loopback import LoopbackGrid, Traffic
from simulations.scenario import Homes, Scenario

__all__ = ["Parties", "gather", "play", "public_rate"]

logger = logging.getLogger(__name__)

MakeGrid: TypeAlias = Callable[[ClientApp, Mapping[int, Context], Run], LoopbackGrid]

_FIRST_NODE = 2
_SITE_NAME = re.compile(r"\w[\w .'()&,-]{0,63}")


@dataclass(slots=True, kw_only=True)
class Parties:
    """A scenario with its rows handed out and its job complete.

    Args:
        job: with labels, model digest and sampling rate.
        sites: name → training rows.
        held_out: name → test rows of that site's own; empty with a public test set.
        test: rows the researcher evaluates on: the public ones, or all that are held out.
        learner: this process's model.
        rows_sha256: of all rows.
        traffic: what crossed the grid.
    """

    job: Job
    sites: dict[str, Rows]
    test: Rows
    learner: Learner
    rows_sha256: str
    held_out: dict[str, Rows] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)


def gather(scenario: Scenario) -> Parties:
    """Load the rows, hand them to the sites and complete the job.

    Raises:
        DataError: if the rows aren't usable.
        ModelError: if the model isn't.
    """
    seed = Seed(scenario.job.seed).child("data")
    task = tasks.of(scenario.job.model.task)
    tables = load(scenario.source, seed, scenario.job.federation.sites, task)
    sites = split(tables.train, scenario.partition, seed.child("partition"))
    _check_names(sites)
    held_out: dict[str, Rows] = {}
    if tables.test is None:
        for name, rows in sites.items():
            fraction = scenario.source.test_fraction
            sites[name], held_out[name] = hold_out(rows, fraction, seed.child("test", name))
    test = Rows.concat(held_out.values()) if tables.test is None else tables.test
    if not len(test):
        raise DataError(
            "no site has held out a row to test on (each falls there with probability "
            f"{scenario.source.test_fraction:g}); raise data.test_fraction, give more rows, or "
            "set data.test=FILE"
        )
    labels = labels_of(Rows.concat(sites.values()), task)
    check_test(test, labels, task)
    job = _complete(scenario.job, sites, labels, public_test=tables.test is not None)
    learner = resident(job, pick_device(scenario.device))
    job = replace(job, model=replace(job.model, digest=learner.digest))
    return Parties(
        job=job,
        sites=sites,
        held_out=held_out,
        test=test,
        learner=learner,
        rows_sha256=_digest(sites, test),
    )


def _complete(
    job: Job, sites: Mapping[str, Rows], labels: tuple[str, ...], *, public_test: bool
) -> Job:
    """Fill in what follows from the scenario's data: in the real world, what is agreed on."""
    if job.federation.patience is not None and not public_test:
        # Held-out rows are the sites' own: stopping by them would release something about them.
        raise ConfigError(
            "federation.patience stops early by a public test set, but the test rows are held out "
            "from the sites' own; give data.test=PATH or leave patience null"
        )
    federation = replace(
        job.federation, sites=len(sites), test="public" if public_test else "held-out"
    )
    weighted = job.aggregation.weights == "examples"
    job = replace(
        job,
        model=replace(job.model, labels=labels),
        privacy=_with_rate(job, sites),
        secagg=job.secagg.completed(
            cohort_size(replace(job, federation=federation)),
            weighted=_public_size(sites) if weighted else None,
        ),
        federation=federation,
    )
    return completed(job, plan_of(job) if job.privacy.shared else None)


def _with_rate(job: Job, sites: Mapping[str, Rows]) -> Privacy:
    """Return the job's promise with its sampling rate filled in.

    Raises:
        ConfigError: when δ is too large for all sites' units together, where they share the noise.
    """
    privacy = job.privacy
    if not privacy.private:
        return privacy
    if privacy.mechanism == "site":
        if privacy.delta * len(sites) >= 1:
            raise ConfigError(
                f"privacy.delta={privacy.delta:g} must be below 1/sites, and there are "
                f"{len(sites)}; lower it"
            )
        return replace(privacy, rate=1.0)
    units = [rules.count_units(privacy, rows) for rows in sites.values()]
    if privacy.shared and privacy.delta * sum(units) >= 1:
        raise ConfigError(
            f"privacy.delta={privacy.delta:g} must be below 1/{privacy.unit}s of all sites "
            "together, for they are one pool here; lower it"
        )
    if privacy.rate is None:
        return replace(privacy, rate=public_rate(job.train.batch_size, units))
    return privacy


def _public_size(sites: Mapping[str, Rows]) -> int:
    """Return a bound on a site's rows that sites would agree on: a power of two."""
    return 1 << max(map(len, sites.values())).bit_length()


def public_rate(batch_size: int, units: Sequence[int]) -> float:
    """Return the sampling rate that sites would agree on from figures they have published.

    It is the batch over the mean number of units at a site, at most 1, rounded up to two
    significant digits. Every site uses it, whatever its own size: the larger ones take more units
    into a step and the smaller ones fewer, and neither rate nor noise tells one from another. In
    the real world the mean comes from annual reports, not from the sites' rows; a simulation
    declares it in their stead, and so it isn't charged.

    Args:
        batch_size: expected units in a step, ≥ 1.
        units: how many each site has.

    >>> public_rate(64, [1000, 3000])
    0.032
    >>> public_rate(64, [900, 2000]), public_rate(64, [10, 20])
    (0.045, 1.0)
    """
    share = Fraction(batch_size * len(units), max(1, sum(units)))
    if share >= 1:
        return 1.0
    digits = int(10 ** (1 - math.floor(math.log10(share))))
    return math.ceil(share * digits) / digits


def _check_names(sites: Mapping[str, Rows]) -> None:
    for number, name in enumerate(sites, start=1):
        if not _SITE_NAME.fullmatch(name):
            # Not shown: a wrong data.site=… makes it some other column's text.
            raise DataError(
                f"the name of site {number} of {len(sites)} ({len(name)} characters) can't name a "
                "file; use at most 64 letters, digits, spaces and _ . - ' ( ) & , and check that "
                "data.site is the column of the site"
            )


def _digest(parties: Mapping[str, Rows], test: Rows) -> str:
    """Return the SHA-256 of all rows, to notice at a resume that they changed."""
    rows = [(name, r.texts, r.labels, r.patients) for name, r in sorted(parties.items())]
    whole = json.dumps([*rows, ("", test.texts, test.labels)], ensure_ascii=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _sites(
    parties: Parties, folder: RunFolder, device: str, homes: Homes, on_step: Callable[[], None]
) -> list[Site]:
    run = folder.run
    sites = []
    for name, rows in sorted(parties.sites.items()):
        home, ledger = folder.site_state(name), folder.ledger(name)
        if homes.state is not None:
            home = homes.state / folder_name(name)
            ledger = SiteState(home, name).ledger_path(homes.dataset)
        site = Site(
            name=name,
            rows=rows,
            test=parties.held_out.get(name),
            device=device,
            ledger=ledger,
            state=folder.site_state(name),
            home=home,
            dataset=homes.dataset,
            caps=homes.caps,
            floors=homes.floors,
            run=run,
            on_step=on_step,
        )
        sites.append(site)
    return sites


def _heads(sites: Mapping[int, Site], job: Job, folder: RunFolder, homes: Homes) -> LedgerMemory:
    """Return the coordinator's memory of the sites' ledgers; without DP they have none."""
    if not job.privacy.private:
        return LedgerMemory()
    files = [folder.heads]
    if homes.state is not None:
        files.append(homes.state / "coordinator" / "heads.json")
    # What a roster tells in the real world: which key is whose.
    return LedgerMemory(files, {node: site.books.key.public.hex() for node, site in sites.items()})


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the coordinator is known by, and the roster of all."""

    roster: Roster | None = None
    signer: SigningKey | None = None
    seal: bytes | None = field(default=None, repr=False)


def _provision(sites: Mapping[int, Site], job: Job, folder: RunFolder, homes: Homes) -> _Keys:
    """Make the coordinator's keys, and hand every site the roster, where updates are hidden.

    In the real world a consortium does that, once.
    """
    if job.secagg.mode == "off":
        return _Keys()
    home = (homes.state or folder.path) / "coordinator"
    make_folder(home)
    signer = SigningKey(kept_secret(home / "key", "key", Entropy()))
    seal = kept_secret(home / "seal-key", "seal-key", Entropy())
    members = [Member(name=s.name, key=s.books.key.public.hex()) for _, s in sorted(sites.items())]
    roster = Roster(
        coordinator=signer.public.hex(), seal=x25519_public(seal).hex(), members=tuple(members)
    )
    for site in sites.values():
        site.roster = roster
    return _Keys(roster, signer, seal)


def _rates(parties: Parties) -> Vector | None:
    """Return the learning rates by which the coordinator takes steps, where it does."""
    if parties.job.privacy.mechanism != "distributed":
        return None
    return rates(parties.learner.module, parties.learner.layout, parties.job.train)


def _copy_ledgers(sites: Iterable[Site], folder: RunFolder) -> None:
    """Put a copy of each ledger that is kept elsewhere into the run folder.

    What goes wrong is logged: the run has ended, and how it ended matters more than a copy.
    """
    for site in sites:
        try:
            if site.ledger != folder.ledger(site.name) and site.ledger.exists():
                write_atomic(folder.ledger(site.name), Ledger(site.ledger).text())
        except (FedmodelError, OSError) as error:
            logger.warning("site %s: its ledger wasn't copied: %s", site.name, error)


def play(
    parties: Parties,
    folder: RunFolder,
    device: str,
    reporter: Reporter,
    on_step: Callable[[], None] = lambda: None,
    homes: Homes | None = None,
    grid: MakeGrid = LoopbackGrid,
) -> tuple[Vector, Outcome, dict[int, Site]]:
    """Run the job through the real apps.

    Args:
        parties: who takes part.
        folder: where the run is written; a run that was begun there is continued.
        device: of the sites.
        reporter: who is told how it goes.
        on_step: called after every local step of a site.
        homes: what the sites have of their own.
        grid: makes what carries the messages: one that loses some, say
            (:mod:`simulations.faults`).

    Returns:
        The final parameters, how the run ended, and node id → site.
    """
    run_id, homes = secrets.randbits(62) + 1, homes or Homes()
    sites = dict(enumerate(_sites(parties, folder, device, homes, on_step), start=_FIRST_NODE))
    contexts = {n: Context(run_id, n, {}, RecordDict(), {}) for n in sites}
    carrier = grid(clients.app.app, contexts, Run.create_empty(run_id))
    keys = _provision(sites, parties.job, folder, homes)
    coordinator = Coordinator(
        job=parties.job,
        folder=folder,
        initial=parties.learner.initial,
        named=parties.learner.layout.named,
        from_named=parties.learner.layout.from_named,
        evaluate=_evaluator(parties),
        heads=_heads(sites, parties.job, folder, homes),
        roster=keys.roster,
        signer=keys.signer,
        seal_key=keys.seal,
        rates=_rates(parties),
        reporter=reporter,
    )
    for node, site in sites.items():
        clients.app.register(run_id, node, site)
    server.app.register(run_id, coordinator)
    try:
        server.app.app(carrier, Context(run_id, 1, {}, RecordDict(), {}))
        vector = server.app.take_result(run_id)
    finally:
        clients.app.forget(run_id)
        server.app.forget(run_id)
        _copy_ledgers(sites.values(), folder)
    parties.traffic = carrier.traffic
    return vector, coordinator.outcome, sites


def _evaluator(parties: Parties) -> Callable[[Vector], dict[str, float]]:
    model = parties.job.model
    tensors = rows_as_tensors.prepare(
        parties.learner, parties.test.texts, parties.test.labels, model.labels, model.max_length
    )

    def on_test(vector: Vector) -> dict[str, float]:
        parties.learner.load_vector(vector)
        return evaluate(parties.learner, tensors)

    return on_test
