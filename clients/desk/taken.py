"""Runs that a site has taken, by its ledger: found by the names that people type."""

from contextlib import suppress

from fedmodel import config
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.ledger import Ledger, Reservation
from fedmodel.ledger.site_state import SiteState
from fedmodel.runs import is_called

__all__ = ["require_unasked", "taken"]


def taken(held: list[Reservation], name: str, where: str) -> list[Reservation]:
    """Return a run's reservations, of those in a ledger.

    Args:
        held: all of them, in order.
        name: the run's, as it was typed: also without the last digits, or a job's hash.
        where: the ledger is, for messages.

    Raises:
        ConfigError: when no run is called so, or more than one.
    """
    found = [each for each in held if is_called(each.entry.run, each.entry.job, name)]
    runs = list(dict.fromkeys(each.entry.run for each in found))
    if len(runs) == 1:
        return found
    if runs:
        raise ConfigError(
            f"{len(runs)} runs are called {name!r}; say which: {', '.join(runs[:10])}"
        )
    known = list(dict.fromkeys(each.entry.run for each in reversed(held)))
    raise ConfigError(
        f"{where} has nothing of run {name!r}{config.suggest(name, known)}; its runs are: "
        f"{', '.join(known[:10]) or 'none'}. Runs of another dataset are in its own: dataset=NAME"
    )


def require_unasked(state: SiteState, dataset: str, name: str) -> None:
    """Check that no run is called so that the site has taken without asking its people.

    There is no offer of such a run to show or to decide on, and it is stopped by other means.

    Raises:
        ConfigError: when one is, with what those are.
    """
    path = state.ledger_path(dataset)
    found: list[Reservation] = []
    with suppress(LedgerError, ConfigError):  # of what can't be read the ledger's own verbs tell
        found = taken(Ledger(path).book().of(), name, str(path))
    if not found:
        return
    run = found[-1].entry.run
    why = f"run {run} was never offered to this site's people: its policy took it (approval: auto)"
    if all(each.end is not None for each in found):
        raise ConfigError(
            f"{why}. It holds nothing here any more; fedmodel budget state={state.folder} shows "
            "what it has spent"
        )
    raise ConfigError(
        f"{why}. To stop it: fedmodel budget state={state.folder} release={run} gives back what it "
        "holds, and it can spend nothing more. So that it isn't taken anew, end fedmodel join "
        "before that, and start it again with approval: each in site.yaml, or a rule that the job "
        "breaks"
    )
