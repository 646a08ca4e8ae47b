"""The verb's way from what is asked to what is shown. Only ``release`` writes to a ledger."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmodel import config
from fedmodel.accounting.planning import plan_of
from fedmodel.budget.ledgers import Found, Looked, of_run, of_state
from fedmodel.budget.show import tables
from fedmodel.budget.statement import Statement, WhatIf, statement, what_if
from fedmodel.errors import ConfigError, LedgerError, RunFolderError
from fedmodel.job import Job
from fedmodel.ledger import Request
from fedmodel.ledger.caps import Caps
from fedmodel.runs import RunFolder, is_called, job_in, run_path

__all__ = ["main"]

_FORMATS = ("table", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        state: folder of sites' states, or of one.
        run: a run folder.
        site: only this one.
        dataset: only this one.
        what_if: a job.
        release: a run whose reservations are given back.
        format: ``table`` or ``json``.
        budget: the caps.
    """

    state: str | None = None
    run: str | None = None
    site: str | None = None
    dataset: str | None = None
    what_if: str | None = None
    release: str | None = None
    format: str = "table"
    budget: Caps = field(default_factory=Caps)

    def __post_init__(self) -> None:
        if (self.state is None) == (self.run is None):
            raise ConfigError(
                "budget needs state=<folder of the sites' state> or run=<a run's name>, one of them"
            )
        if self.state is not None and not self.state.strip():
            raise ConfigError("state is empty; give the folder of the sites' state")
        if self.format not in _FORMATS:
            raise ConfigError(f"format={self.format} isn't a choice; expected one of: table, json")
        if self.release is not None and self.state is None:
            raise ConfigError("release=<run> needs state=<folder of the sites' state>")


def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Show budgets.

    Args:
        mapping: the composed configuration.
        given: keys that stood on the command line.

    Returns:
        The exit code: 0, or 1 when the job that is asked about would be refused at a site.

    Raises:
        ConfigError: for a missing or wrong value.
        LedgerError: for a ledger that isn't valid, or when something here knows of one that is
            gone: what there is is shown before (as a table), for it isn't all.
    """
    ask = config.build(Ask, mapping)
    caps = _caps(ask, given)
    looked = _look(ask)
    found = looked.found
    if looked.missing and (ask.release is not None or ask.format == "json"):
        raise _incomplete(looked)
    if ask.release is not None:
        _give_back(found, ask.release)
    job = None if ask.what_if is None else _job(ask.what_if)
    books = [f.ledger.book() for f in found]
    shown = [statement(book, caps) for book in books]
    costs = [] if job is None else [what_if(book, _request(job), caps) for book in books]
    _show(ask, shown, costs)
    if looked.missing:
        raise _incomplete(looked)
    return 1 if any(cost.refusal for cost in costs) else 0


def _incomplete(looked: Looked) -> LedgerError:
    told = "; ".join(str(each) for each in looked.missing)
    return LedgerError(f"this isn't all that was spent. Missing: {told}")


def _show(ask: Ask, shown: Sequence[Statement], costs: Sequence[WhatIf]) -> None:
    if ask.format == "json":
        whole = {
            "schema": "fedmodel.budget/1",
            "ledgers": _plain(config.to_mapping(list(shown))),
            "what_if": None if ask.what_if is None else _plain(config.to_mapping(list(costs))),
        }
        print(json.dumps(whole, indent=2, allow_nan=False))
        return
    from fedmodel.report.terminal import Terminal

    console = Terminal()
    for table in tables(shown, costs):
        console.print(table)


def _plain(value: Any) -> Any:
    """Return a value as JSON can say it: an unbounded ε is text."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


# -- which ledgers -------------------------------------------------------------------------------


def _caps(ask: Ask, given: Sequence[str]) -> Caps:
    """Return the caps asked about; for a run folder, the run's own unless others are given."""
    if ask.run is None or any(key.startswith("budget") for key in given):
        return ask.budget
    kept = RunFolder.open(run_path(ask.run)).manifest.config.get("budget") or {}
    known = ("epsilon", "delta", "run_epsilon", "unit")
    return config.build(Caps, {k: v for k, v in kept.items() if k in known}, "budget")


def _look(ask: Ask) -> Looked:
    """Return what is asked about.

    Raises:
        RunFolderError: when there is no ledger, and nothing that knows of one.
        ConfigError: when there is none of the site or dataset, or no such folder.
    """
    if ask.state is None:
        where = run_path(ask.run)
        looked = of_run(RunFolder.open(where))
    else:
        where = Path(ask.state).expanduser()
        if not where.is_dir():
            raise ConfigError(
                f"there is no folder {where}; give state= the one of the sites' state"
            )
        looked = of_state(where)
    asked = looked.of(ask.site, ask.dataset)
    if asked.found or asked.missing:
        return asked
    if not looked.found and not looked.missing:
        raise RunFolderError(
            f"{where} has no ledger, and nothing that knows of one (a tree head, leaves, a "
            "coordinator's memory); nothing was spent there, or it isn't a folder of sites' state"
        )
    known = ", ".join(sorted({f"site={f.site} dataset={f.dataset}" for f in looked.found}))
    raise ConfigError(
        f"no ledger of site={ask.site} dataset={ask.dataset}; there are: {known or 'none'}"
    )


def _give_back(found: Sequence[Found], run: str) -> None:
    every = [r.entry for f in found for r in f.ledger.book().open_ones()]
    held = sorted({entry.run for entry in every})
    # A ledger knows a run as its folder's name and eight digits; the name will do if it is clear.
    meant = sorted({entry.run for entry in every if is_called(entry.run, entry.job, run)})
    if len(meant) != 1:
        raise ConfigError(
            f"{len(meant)} runs with an open reservation are called '{run}'"
            f"{config.suggest(run, held)}; open are: {', '.join(held) or 'none'}"
        )
    for each in found:
        each.ledger.give_back_run(meant[0])


# -- the job that is asked about -----------------------------------------------------------------


def _job(name: str) -> Job:
    path = Path(name).expanduser()
    if not path.is_file():
        path = (path if path.is_dir() else run_path(name)) / "manifest.json"
    return job_in(path)


def _request(job: Job) -> Request | None:
    """Return what a job would spend; ``None`` for one that spends nothing."""
    if not job.privacy.private:
        return None
    return Request.of(plan_of(job))
