"""Play of all parts of a run at once, through the real apps over a ``LoopbackGrid``."""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

import clients.app
import server.app
from clients.assemble import SiteConfig, make_site, open_state
from clients.declared import Declared
from clients.report import SiteReport, SiteWork, report_of
from clients.site import Site
from clients.site_file import SITE_FILE, SiteFile
from clients.start import check_numbers
from fedmodel._text import listed
from fedmodel.data import Rows
from fedmodel.errors import ConfigError, FedmodelError, QuorumError
from fedmodel.identity import Roster
from fedmodel.identity.provision import CoordinatorKeys, provision
from fedmodel.identity.trust import TRUST, accept
from fedmodel.identity.validity import utc_now
from fedmodel.ledger.site_state import SiteState, folder_name
from fedmodel.runs import RunFolder, Traffic, write_atomic
from fedmodel.seeds import Entropy
from fedmodel.watch import UNWATCHED, Watch
from fedmodel.wire.grids import FIRST_SITE
from server.assemble import Known, excluded_nodes, make_coordinator
from server.coordinator import Reporter, RunResult
from server.ledger_memory import other_memories
from simulations.loopback import LoopbackGrid
from simulations.parties import Parties
from simulations.scenario import Homes

__all__ = ["Played", "excluded", "node_names", "play"]

logger = logging.getLogger(__name__)

MakeGrid: TypeAlias = Callable[[ClientApp, Mapping[int, Context], Run], LoopbackGrid]


def node_names(parties: Parties) -> dict[int, str]:
    """Return which node is which site."""
    return dict(enumerate(sorted(parties.sites), start=FIRST_SITE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a run, told by each party.

    Args:
        result: by the coordinator.
        reports: by each site's operator: node id → report.
        traffic: what crossed the grid.
    """

    result: RunResult
    reports: Mapping[int, SiteReport]
    traffic: Traffic


def play(
    parties: Parties,
    folder: RunFolder,
    reporter: Reporter,
    watch: Watch = UNWATCHED,
    homes: Homes | None = None,
    grid: MakeGrid = LoopbackGrid,
    *,
    candid: bool = False,
) -> Played:
    """Run the job through the real apps.

    Args:
        parties: who takes part.
        folder: where the run is written; a run that was begun there is continued.
        reporter: who is told how it goes.
        watch: who is told what each party is doing.
        homes: what the sites have of their own.
        grid: makes what carries the messages: one that loses some, say
            (:mod:`simulations.faults`).
        candid: let the sites tell in full why they refuse: their logs and the run's are one
            person's.
    """
    run_id, homes = secrets.randbits(62) + 1, homes or Homes()
    configs = _configs(parties, folder, homes)
    states = {node: open_state(config) for node, config in configs.items()}
    keys = _provision(states, _coordinator_home(folder, homes))
    sites = {
        node: _site(parties, config, states[node], keys.roster) for node, config in configs.items()
    }
    site_app = clients.app.SiteApp(lambda c: sites[c.node_id], watch, candid=candid)
    contexts = {n: Context(run_id, n, {}, RecordDict(), {}) for n in sites}
    carrier = grid(site_app.app, contexts, Run.create_empty(run_id))
    coordinator = make_coordinator(
        parties.job,
        folder,
        _known(parties, folder, homes, states, keys),
        performance=parties.performance,
        test=parties.test,
        reporter=reporter,
        watch=watch.of("coordinator"),
    )
    work: dict[int, SiteWork] = {}
    try:
        result = server.app.play(carrier, coordinator)
    except BaseException as error:  # an interruption too: it goes on later, by its ledgers
        _copy_ledgers(_reports(parties, folder.run, sites, work, failed=True), folder)
        if isinstance(error, QuorumError) and error.__cause__ is None:
            # Its words may quote a row, so no log has them; who called from Python is shown them.
            error.__cause__ = site_app.surprise
        raise
    work = {node: site_app.work(run_id, node) for node in sites}
    reports = _reports(parties, folder.run, sites, work)
    _copy_ledgers(reports, folder)
    traffic = Traffic(bytes_up=carrier.traffic.up, bytes_down=carrier.traffic.down)
    return Played(result=result, reports=reports, traffic=traffic)


def _configs(parties: Parties, folder: RunFolder, homes: Homes) -> dict[int, SiteConfig]:
    """Return what each hospital would have written down for itself, by node."""

    def home(name: str) -> Path:
        return folder.site_state(name) if homes.state is None else homes.state / folder_name(name)

    names = node_names(parties)
    if own := [name for name in names.values() if (home(name) / SITE_FILE).exists()]:
        logger.warning("%s: what stands in its own %s counts there", listed(own, 5), SITE_FILE)
    return {node: _config(parties, folder, homes, name, home(name)) for node, name in names.items()}


def _config(parties: Parties, folder: RunFolder, homes: Homes, name: str, home: Path) -> SiteConfig:
    rows, test = parties.sites[name], parties.held_out.get(name)
    # What a hospital would have published, a simulation declares in its stead.
    config = SiteConfig(
        name=name,
        declared=Declared.of(rows, test),
        home=home,
        dataset=homes.dataset,
        policy=homes.policy,
        # Who proposes it and who decides are one person here.
        performance=parties.performance,
        # A simulation without a state of its own keeps the ledgers together.
        ledger=folder.ledger(name) if homes.state is None else None,
        before=folder.site_state(name),
    )
    if not (home / SITE_FILE).exists():
        return config
    return _by_its_own_file(config, SiteFile.read(home / SITE_FILE), rows, test)


def _by_its_own_file(
    config: SiteConfig, file: SiteFile, rows: Rows, test: Rows | None
) -> SiteConfig:
    """Return a site's configuration by the file in its home: it outranks what a simulation says.

    Raises:
        ConfigError: for another site's file.
        DataError: for rows that don't keep to what the file declares.
    """
    if file.name != config.name:
        raise ConfigError(
            f"{config.home / SITE_FILE} is of the site {file.name!r}, and stands in the folder of "
            f"{config.name!r}"
        )
    declared = file.declared or config.declared
    check_numbers(config.name, declared, rows, test)
    return replace(
        config,
        declared=declared,
        dataset=file.dataset,
        policy=file.policy,
        performance=file.performance or config.performance,
    )


def _site(parties: Parties, config: SiteConfig, state: SiteState, roster: Roster | None) -> Site:
    rows, test = parties.sites[config.name], parties.held_out.get(config.name)
    return make_site(config, state, rows, test, roster=roster)


def _provision(states: Mapping[int, SiteState], home: Path) -> CoordinatorKeys:
    """Do what a consortium does once: everybody knows everybody, whatever the job hides."""
    made = provision(home, {each.site: each.key for each in states.values()}, Entropy())
    for each in states.values():
        # As a hospital's operator does who has compared the consortium's fingerprint.
        accept(each.folder / TRUST, made.roster, utc_now(), confirmed=True)
    return made


def _known(
    parties: Parties,
    folder: RunFolder,
    homes: Homes,
    states: Mapping[int, SiteState],
    keys: CoordinatorKeys,
) -> Known:
    exclude = excluded(parties, homes)
    if not parties.job.privacy.private:
        return Known(
            keys=keys,
            exclude=exclude,
            purpose=homes.purpose,
            home=_coordinator_home(folder, homes),
        )
    # What a roster tells in the real world: which key is whose.
    public = {node: state.key.public.hex() for node, state in states.items()}
    memory, copies = [folder.tree_heads], list[Path]()
    if homes.state is not None:
        memory.append(homes.state / "coordinator" / "heads.json")
        copies = other_memories(folder.tree_heads, public)
    return Known(
        keys=keys,
        site_keys=public,
        memory=memory,
        copies=copies,
        exclude=exclude,
        purpose=homes.purpose,
        home=_coordinator_home(folder, homes),
    )


def _coordinator_home(folder: RunFolder, homes: Homes) -> Path:
    return (homes.state or folder.path) / "coordinator"


def excluded(parties: Parties, homes: Homes) -> frozenset[int]:
    """Return the nodes of the sites that the coordinator's operator leaves out.

    Raises:
        ConfigError: for a name that no site has.
    """
    return excluded_nodes(node_names(parties), homes.exclude)


def _reports(
    parties: Parties,
    run: str,
    sites: Mapping[int, Site],
    work: Mapping[int, SiteWork],
    *,
    failed: bool = False,
) -> dict[int, SiteReport]:
    """Return the sites' reports; of a run that failed those that can be had."""
    found = {}
    for node, site in sites.items():
        try:
            found[node] = report_of(site, run, parties.job, work.get(node, SiteWork()))
        except FedmodelError as error:
            if not failed:
                raise
            logger.warning("site %s: its ledger can't be reported: %s", site.name, error)
    return found


def _copy_ledgers(reports: Mapping[int, SiteReport], folder: RunFolder) -> None:
    """Put a copy of each ledger that is kept elsewhere into the run folder.

    What goes wrong is logged: the run has ended, and how it ended matters more than a copy.
    """
    for report in reports.values():
        copy = folder.ledger(report.site)
        try:
            if report.ledger is not None and report.ledger.path != copy:
                write_atomic(copy, report.ledger.text)
        except (FedmodelError, OSError) as error:
            logger.warning("site %s: its ledger wasn't copied: %s", report.site, error)
