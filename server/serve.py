"""The verb ``serve``: a coordinator, from a composed configuration to a finished run folder.

Exit codes: 0 done, or asked to stop (SIGTERM, SIGINT); 1 the run failed or was refused; 2 wrong
usage or input; 3 something isn't there now that may come (too few sites, say, the approval of their
people, or room on a disk): the same command with ``resume=true`` may be given again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmodel._escape import escaped
from fedmodel._signals import Stopped, asked_to_stop
from fedmodel.errors import (
    ConfigError,
    FedmodelError,
    QuorumError,
    RunFolderError,
    UnavailableError,
    exit_code,
)
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.job import Job
from fedmodel.logs import kept, lines_to_stderr
from fedmodel.report.page import write_page
from fedmodel.report.tables import summary_tables
from fedmodel.report.terminal import Terminal
from fedmodel.runs import (
    RunFolder,
    RunTime,
    Summary,
    Traffic,
    check_unchanged,
    continued,
    manifest_of,
    run_path,
)
from server import app
from server.ask import ANEW, Ask
from server.assemble import make_coordinator
from server.coordinator import Coordinator, RunResult
from server.display import Display
from server.exchange.hub import Carrier, Hub, Listening
from server.gathering import gather
from server.membership import quorum
from server.network import over_network
from server.office import Office, home_of, node_names, roster_of
from server.outcome import Ended, summarise
from server.proposed import Proposed, propose
from server.shown import show_job
from server.told import most_spent, told_of_sites

__all__ = ["main", "serve"]

logger = logging.getLogger(__name__)

_WORDS = 64 << 20  # bytes of an answer beside its numbers, at most


def main(
    mapping: dict[str, Any], given: Sequence[str] = (), *, carrier: Carrier = over_network
) -> int:
    """Coordinate one run.

    Args:
        mapping: the composed configuration.
        given: keys that were given.
        carrier: carries the messages.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a key that isn't of this verb, or has a wrong value.
    """
    ask = Ask.of(mapping)
    with lines_to_stderr(ask.format):
        try:
            if ask.check:
                roster = roster_of(ask, home_of(ask))
                show_job(propose(ask, mapping, len(roster.members), given=given), roster, ask)
                return 0
            with asked_to_stop():
                _show(serve(mapping, given=given, carrier=carrier), ask)
        except Stopped:
            logger.info(
                "asked to stop: what the sites hold for the run stays; it goes on with run=%s "
                "resume=true",
                ask.run or "NAME",
            )
        except QuorumError as error:
            logger.error("%s", error)
            return _lacking(error, ask)
        except (FedmodelError, OSError) as error:
            logger.error("%s", escaped(str(error)))
            return _ended(error, ask)
    return 0


def serve(
    mapping: dict[str, Any], *, given: Sequence[str] = (), carrier: Carrier = over_network
) -> Summary:
    """Run (or go on with) one job and return its summary.

    Args:
        mapping: the composed configuration.
        given: keys that were given for it.
        carrier: carries the messages.

    Raises:
        FedmodelError: if the job can't be run; what it had done stays in the run folder.
    """
    started, mapping = time.perf_counter(), _absolute(mapping)
    ask = Ask.of(mapping)
    path = run_path(ask.run)
    folder = RunFolder.open(path) if ask.resume and (path / "manifest.json").exists() else None
    if folder is None:
        RunFolder.check_new(path)
    else:
        mapping = continued(folder, mapping, given, ANEW)
        ask = Ask.of({**mapping, "run": ask.run, "resume": True})
        if (finished := _finished(folder)) is not None:
            return finished
    office = Office.open(ask)
    names = node_names(office.roster)
    begun = None if folder is None else _begun(folder, office.roster)
    proposed = propose(ask, mapping, len(names), given=given, begun=begun)
    if folder is None:
        folder = _created(path, proposed, mapping, names)
    else:
        check_unchanged(folder, proposed.job, proposed.rows_sha256)
    run = _Run(ask=ask, office=office, folder=folder, proposed=proposed, names=names)
    with folder.locked(), kept(folder.log, beside=lambda record: True):
        if (finished := _finished(folder)) is not None:  # by another process, since it was asked
            return finished
        logger.info("run %s, job %s", folder.run, proposed.job.sha256)
        coordinator = run.coordinator()
        result, traffic = run.play(coordinator, carrier)
        run_time = RunTime(total_s=time.perf_counter() - started)
        summary = run.summary(coordinator, result, run_time, traffic, resumed=begun is not None)
        folder.write_model(coordinator.named(result.vector))
        folder.write_summary(summary)
        write_page(folder, summary)
        logger.info("finished: %s", path)
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run, with all that it takes."""

    ask: Ask
    office: Office
    folder: RunFolder
    proposed: Proposed
    names: Mapping[int, str]

    def coordinator(self) -> Coordinator:
        """Return the coordinator, before anything listens: what is wrong with it shows first."""
        job, train = self.proposed.job, self.proposed.job.train
        made = make_coordinator(
            job,
            self.folder,
            self.office.known(self.folder, self.ask, private=job.privacy.private),
            performance=self.proposed.performance,
            test=self.proposed.test,
            reporter=Display(
                _NoBars(), Terminal(quiet=True), train.rounds, train.steps, self.names
            ),
            timeout=self.ask.deadline,
        )
        # Before a round that too few are there for, who is away may come back.
        return replace(made, grace=self.ask.grace)

    def play(self, coordinator: Coordinator, carrier: Carrier) -> tuple[RunResult, Traffic | None]:
        """Listen, wait for the sites, and play the rounds that are left; what has crossed, too."""
        listening = Listening(
            home=self.office.home,
            passphrase=self.office.passphrase,
            roster=self.office.roster,
            listen=self.ask.listen,
            run=self.folder.path,
            grace=self.ask.grace,
            # An update as numbers or sealed, or masked in a field of up to 64 bits; and words.
            largest=8 * coordinator.initial.size + _WORDS,
        )
        with carrier(listening) as hub:
            host = self.ask.listen.rpartition(":")[0]
            logger.info("listening on %s:%d", host, hub.port)
            self._gather(hub, coordinator)
            return app.play(hub.grid, coordinator), hub.traffic()

    def _gather(self, hub: Hub, coordinator: Coordinator) -> None:
        asked = {n: name for n, name in self.names.items() if n not in coordinator.exclude}
        needed, _ = quorum(coordinator.job, len(self.names))
        if needed > len(asked):
            raise ConfigError(
                f"federation.exclude leaves {len(asked)} sites, and {needed} are needed"
            )
        gather(hub.present, asked.values(), needed, wait=self.ask.wait, grace=self.ask.grace)

    def summary(
        self,
        coordinator: Coordinator,
        result: RunResult,
        time: RunTime,
        traffic: Traffic | None,
        *,
        resumed: bool,
    ) -> Summary:
        """Return what came of the run, as far as a coordinator can know it."""
        job = self.proposed.job
        sites = told_of_sites(job, result, self.names, coordinator.memory, resumed=resumed)
        return summarise(
            Ended(
                job=job,
                result=result,
                parameters=self.proposed.learner.layout.total,
                rounds=list(self.folder.metrics()),
                names=self.names,
                sites=sites,
                basis="plan",
                spent=most_spent(job),
                time=time,
                traffic=traffic,
            )
        )


class _NoBars:
    """Nobody is shown where the rounds are: lines say it."""

    def round_started(self, number: int, rounds: int, steps: int) -> None:
        """Show nothing."""

    def round_ended(self) -> None:
        """Show nothing."""


def _finished(folder: RunFolder) -> Summary | None:
    """Return what came of a run, and say that it is finished; ``None``: it isn't."""
    summary = folder.summary()
    if summary is not None:
        write_page(folder, summary, anew=False)  # a kill may have come before it
        logger.info("%s is finished already", folder.path)
    return summary


def _created(
    path: Path, proposed: Proposed, mapping: Mapping[str, Any], names: Mapping[int, str]
) -> RunFolder:
    begun = {**mapping, "resume": False, "sites": list(names.values())}
    manifest = manifest_of(
        path.name, proposed.job, rows_sha256=proposed.rows_sha256, configuration=begun
    )
    return RunFolder.create(path, manifest)


def _absolute(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Make the path of the test rows absolute, so that a run goes on from another folder."""
    made = {k: dict(v) if isinstance(v, Mapping) else v for k, v in mapping.items()}
    test = (made.get("data") or {}).get("test")
    if isinstance(test, str) and Path(test).expanduser().exists():
        made["data"]["test"] = str(Path(test).expanduser().resolve())
    return made


def _begun(folder: RunFolder, roster: SignedRoster) -> Job:
    """Return the job of a run that goes on, if it is of the same sites still.

    Raises:
        RunFolderError: if it isn't, or of another version.
    """
    names = [each.name for each in roster.members]
    if (before := folder.manifest.config.get("sites")) != names:
        raise RunFolderError(
            f"{folder.path} was begun with the sites {before}, and the roster has {names} now: "
            "another roster's sites make another run; start one with run=NAME"
        )
    if folder.manifest.job.get("format") != Job.format:
        raise RunFolderError(
            f"{folder.path} was begun by fedmodel {folder.manifest.fedmodel}, whose jobs are of "
            "another format; go on with that version, or start another run"
        )
    return Job.from_mapping(dict(folder.manifest.job))


def _lacking(error: QuorumError, ask: Ask) -> int:
    """Say what is to be done where sites are lacking, and return the exit code."""
    if not error.attainable:
        return error.exit_code
    if error.unapproved:
        logger.info(
            "%d site(s) wait for their people's approval, which each site gives by fedmodel site "
            "approve RUN site=site.yaml; nothing else is wrong",
            error.unapproved,
        )
    if error.ahead:
        logger.info(
            "%d site(s) have a newer roster than this run's: take it over: fedmodel provision "
            "role=coordinator home=%s roster=PATH; then the run goes on if its sites are the same",
            error.ahead, ask.folder,
        )  # fmt: skip
    _say_again(ask)
    return UnavailableError.exit_code


def _ended(error: FedmodelError | OSError, ask: Ask) -> int:
    """Say whether the run goes on later, and return the exit code."""
    code = exit_code(error)
    if code == UnavailableError.exit_code:
        _say_again(ask)
    return code


def _say_again(ask: Ask) -> None:
    logger.info("try again later: the same command, run=%s resume=true", ask.run or "NAME")


def _show(summary: Summary, ask: Ask) -> None:
    for note in summary.notes:
        logger.warning("%s", note)
    if summary.stopped:
        logger.warning("stopped early: %s", summary.stopped)
    if ask.format == "lines":
        console = Terminal()
        for table in summary_tables(summary):
            console.print(table)
