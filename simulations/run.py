"""The verb ``simulate``: from a composed configuration to a finished run folder."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clients.limits import Limits
from fedmodel import tasks
from fedmodel.errors import ConfigError, FedmodelError, QuorumError, RunFolderError
from fedmodel.ledger.site_state import sites_in
from fedmodel.logs import kept, silenced
from fedmodel.report.page import write_page
from fedmodel.report.tables import summary_tables
from fedmodel.report.terminal import Terminal, say
from fedmodel.runs import (
    RunFolder,
    Summary,
    check_unchanged,
    continued,
    manifest_of,
    run_folder_name,
    run_path,
)
from fedmodel.watch import Watch
from server.display import Display
from simulations.idle import check as check_given
from simulations.notices import counts_table
from simulations.outcome import summarise
from simulations.parties import Parties, gather, rows_digest
from simulations.play import Played, excluded, node_names, play
from simulations.progress import Progress
from simulations.scenario import Asked, Homes, Scenario
from simulations.sweep import sweep
from simulations.unbegun import discard

__all__ = ["main", "run_quietly", "simulate"]

_CAPS = ("epsilon", "delta", "run_epsilon", "unit")
_FLOORS = ("cohort", "survivors", "honest", "threshold", "colluders")
_MACHINE = ("device", "train.physical_batch", "train.gradient_checkpointing", "privacy.engine")
# What a resume may set anew: where and how it runs, and what the sites allow.
_OF_THE_PROCESS = {
    "run",
    "resume",
    "purpose",
    "approval",
    "approvers",
    "needed",
    "federation.exclude",
    *_MACHINE,
    *(f"budget.{key}" for key in _CAPS),
    *(f"floors.{key}" for key in _FLOORS),
    *(f"policy.{each.name}" for each in fields(Limits)),
}


def main(
    mappings: Sequence[dict[str, Any]],
    *,
    given: Sequence[Sequence[str]] = ((),),
    labels: Sequence[str] | None = None,
) -> int:
    """Run one job, or each job of a sweep.

    Args:
        mappings: composed configurations.
        given: keys that stood on the command line, for each job (a resume compares only those).
        labels: what tells a sweep's jobs apart; ``None`` for a single job.

    Returns:
        The exit code.
    """
    console = Terminal()
    if labels is None:
        _checked(mappings[0], console, given[0])
        return 0
    # Every job is checked before the first one runs.
    check_given([Scenario.from_mapping(mapping) for mapping in mappings], given)
    whole = [_absolute(dict(mapping), Asked.of(mapping)) for mapping in mappings]
    return sweep(whole, labels, given, console, lambda m, c, keys: simulate(m, c, given=keys))


def run_quietly(
    mapping: dict[str, Any], given: Sequence[str], *, show: bool = False
) -> tuple[RunFolder, Summary]:
    """Run one job from Python, and return its folder and summary.

    Args:
        mapping: composed configuration.
        given: keys that were given for it.
        show: print what the command line prints.

    Raises:
        FedmodelError: if the job can't be run.
    """
    path = run_path(Asked.of(mapping).run)
    console = Terminal(quiet=not show)
    summary = _checked({**mapping, "run": str(path.absolute())}, console, given)
    return RunFolder.open(path), summary


def _checked(mapping: dict[str, Any], console: Console, given: Sequence[str]) -> Summary:
    """Run one job in which every key counts that was given."""
    if not Asked.of(mapping).resume:
        check_given([Scenario.from_mapping(mapping)], [given])
    return simulate(mapping, console, given=given)


def simulate(mapping: dict[str, Any], console: Console, *, given: Sequence[str] = ()) -> Summary:
    """Run (or resume) one job and return its summary.

    Args:
        mapping: composed configuration.
        console: where to.
        given: keys that were given for it.

    Raises:
        FedmodelError: if the job can't be run; what it had done stays in the run folder.
    """
    with Progress(console) as progress:
        return _simulate(mapping, console, given, progress)


def _simulate(
    mapping: dict[str, Any], console: Console, given: Sequence[str], progress: Progress
) -> Summary:
    started = time.perf_counter()
    asked = Asked.of(mapping)
    mapping = _absolute(mapping, asked)
    path = run_path(asked.run)
    if asked.resume:
        if asked.run is None:
            raise ConfigError("resume=true needs run=<the run's name or folder>")
        folder, scenario = _reopen(path, mapping, given)
        if (finished := folder.summary()) is not None:
            _check_same_rows(folder, scenario, console, progress)
            _say_finished(folder, finished, console)
            return finished
    else:
        folder, scenario = None, Scenario.from_mapping(mapping)
        RunFolder.check_new(path)
    parties = _gathered(scenario, console, progress)
    if folder is None:
        folder = _created(path, parties, mapping)
    else:
        check_unchanged(folder, parties.job, parties.rows_sha256)
    with folder.locked(), kept(folder.log):
        if (finished := folder.summary()) is not None:  # by another process, since it was asked
            _say_finished(folder, finished, console)
            return finished
        try:
            played = _play(parties, folder, scenario, console, progress)
            total = time.perf_counter() - started
            summary = summarise(parties, played, list(folder.metrics()), total)
            folder.write_summary(summary)
        except FedmodelError:
            if not asked.resume and discard(folder, scenario.homes.state):
                say(console, f"nothing was begun: {path} is free again", "yellow")
            else:
                _say_who_decides(folder, scenario.homes, console)
            raise
    _report(summary, parties, folder, console)
    return summary


def _gathered(scenario: Scenario, console: Console, progress: Progress) -> Parties:
    """Bring all parties together, and say what is to be known of them before anything is made."""
    _say_how_far_a_cap_reaches(scenario.homes, console)
    parties = gather(scenario, progress)
    _say_delta(scenario, parties, console)
    console.print(_counts(parties))
    excluded(parties, scenario.homes)  # a name that no site has is noticed here
    return parties


def _say_finished(folder: RunFolder, summary: Summary, console: Console) -> None:
    write_page(folder, summary, anew=False)  # a kill may have come before it
    say(console, f"{folder.path} is finished already")


def _say_who_decides(folder: RunFolder, homes: Homes, console: Console) -> None:
    root = homes.state or folder.path / "sites"
    # A site whose people aren't asked keeps no offer; which are may stand in a file of its own.
    if not any((site / "offers" / run_folder_name(folder.run)).exists() for site in sites_in(root)):
        return
    state = shlex.quote(str(root))
    say(
        console,
        f"each site's people decide: fedmodel site jobs state={state} site=NAME, then fedmodel "
        f"site approve {shlex.quote(folder.run)} state={state} site=NAME; the run goes on with "
        "resume=true",
        "yellow",
    )


def _report(summary: Summary, parties: Parties, folder: RunFolder, console: Console) -> None:
    """Show what came of the run, on the console and as a page."""
    rows = {name: len(rows) for name, rows in parties.sites.items()}
    for table in summary_tables(summary, rows):
        console.print(table)
    write_page(folder, summary)
    _say_more(summary, parties, console)
    say(console, f"run folder: {folder.path}", wrap=False)


def _created(path: Path, parties: Parties, mapping: Mapping[str, Any]) -> RunFolder:
    begun = manifest_of(
        path.name,
        parties.job,
        rows_sha256=parties.rows_sha256,
        configuration={**mapping, "resume": False},
    )
    return RunFolder.create(path, begun)


def _counts(parties: Parties) -> Table:
    task = tasks.of(parties.job.model.task)
    return counts_table(parties.sites, parties.held_out, parties.test, task)


def _say_how_far_a_cap_reaches(homes: Homes, console: Console) -> None:
    cap = homes.policy.caps.epsilon
    if cap is not None and homes.state is None:
        say(
            console,
            f"budget.epsilon={cap:g} holds within this run only: without state=DIR the sites begin "
            "new ledgers in its folder. Give state=DIR for a cap over all runs.",
            "yellow",
        )


def _say_delta(scenario: Scenario, parties: Parties, console: Console) -> None:
    privacy = parties.job.privacy
    if privacy.private and scenario.proposal.privacy.delta is None:
        sites = "of all sites together" if privacy.shared else "of the largest site"
        say(console, f"δ = {privacy.delta:g}: below a tenth of 1/{privacy.unit}s {sites}")


def _absolute(mapping: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Make paths absolute, so that a resume or export from another folder finds them."""
    made = {k: dict(v) if isinstance(v, dict) else v for k, v in mapping.items()}
    for part, key in (("data", "train"), ("data", "test"), ("model", "path")):
        value = made[part].get(key) if isinstance(made.get(part), dict) else None
        if isinstance(value, str) and Path(value).expanduser().exists():
            made[part][key] = str(Path(value).expanduser().resolve())
    if asked.state is not None:
        made["state"] = str(Path(asked.state).expanduser().resolve())
    return made


def _reopen(
    path: Path, mapping: dict[str, Any], given: Sequence[str]
) -> tuple[RunFolder, Scenario]:
    folder = RunFolder.open(path)
    goes_on = continued(folder, mapping, given, _OF_THE_PROCESS)
    return folder, Scenario.from_mapping(goes_on)


def _check_same_rows(folder: RunFolder, scenario: Scenario, console: Console, watch: Watch) -> None:
    """Check that a finished run is of the rows that are there now, as far as these can be read."""
    begun = folder.manifest.rows_sha256
    # Another version may share the same rows out in another way, and made-up ones don't change.
    if scenario.source.kind == "synthetic" or folder.manifest.fedmodel != version("fedmodel"):
        return
    try:
        with silenced():
            now = rows_digest(scenario, watch)
    except FedmodelError as error:
        say(console, f"whether the rows are still the same can't be told ({error})", "yellow")
        return
    if begun not in (None, now):
        raise RunFolderError(
            f"{folder.path} is finished, but the rows have changed since ({begun!s:.16} then, "
            f"{now:.16} now), so its figures aren't theirs; bring back the rows that were, or "
            "choose another run=NAME for those that are there now"
        )


def _play(
    parties: Parties, folder: RunFolder, scenario: Scenario, console: Console, progress: Progress
) -> Played:
    train = parties.job.train
    display = Display(progress, console, train.rounds, train.steps, node_names(parties))
    try:
        played = play(parties, folder, display, progress, scenario.homes, candid=True)
    except QuorumError as error:
        raise QuorumError(display.unsaid(str(error))) from error.__cause__ or error
    folder.write_model(parties.learner.layout.named(played.result.vector))
    return played


def _say_more(summary: Summary, parties: Parties, console: Console) -> None:
    for note in summary.notes:
        say(console, note, "yellow")
    if summary.stopped:
        say(console, f"stopped early: {summary.stopped}", "yellow")
    smallest = min(len(rows) for rows in parties.sites.values())
    if parties.job.privacy.private and parties.job.train.method != "head" and smallest < 1000:
        say(
            console,
            f"The smallest site has {smallest} rows: under DP a federation of that size is often "
            "served best by train=head; compare with it.",
            "yellow",
        )


if __name__ == "__main__":
    sys.exit("run it as: fedmodel simulate …")
