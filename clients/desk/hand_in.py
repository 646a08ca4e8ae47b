"""A site's hand-in: what a third party needs of it to verify a run, signed by the site."""

from pathlib import Path

from clients.desk.taken import taken
from fedmodel import _files
from fedmodel.audit.bundles.packing import in_memory, pack
from fedmodel.audit.bundles.statement import Claim, Packer
from fedmodel.audit.bundles.verb import say
from fedmodel.errors import ConfigError, FedmodelError, LedgerError
from fedmodel.identity.roster import LARGEST
from fedmodel.identity.signed_roster import read_roster
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import LARGEST as LARGEST_HEAD

__all__ = ["write_hand_in"]


def write_hand_in(state: SiteState, dataset: str, run: str, to: str | None) -> None:
    """Pack a site's ledger, the last tree heads of it and of the coordinator's, and its roster.

    It says so.

    Args:
        state: of the site.
        dataset: whose ledger it is.
        run: its name, as it was typed.
        to: file to write.

    Raises:
        ConfigError: when it isn't said where, there is something else, or the ledger has nothing of
            the run.
        LedgerError: when the ledger can't be read.
    """
    if to is None:
        raise ConfigError("site hand-in needs to=<a file to write, such as my-site.zip>")
    path, head = state.ledger_path(dataset), state.head_path(dataset)
    found = Ledger(path).book()
    held = taken(found.of(), run, str(path))
    run, site = held[-1].entry.run, state.site if found.opened is None else found.opened.site
    try:
        # The head first: a ledger that grows meanwhile still has what the head was signed for.
        parts = {f"sites/{site}/heads/{dataset}.json": _files.read(head)} if head.exists() else {}
        parts[f"ledger/{site}.jsonl"] = _files.read(path)
        if (shown := state.shown_path(run)).exists():
            inner = f"runs/{shown.parent.name}/{shown.name}"
            parts[f"sites/{site}/{inner}"] = _files.read(shown, LARGEST_HEAD)
    except OSError as error:
        raise LedgerError(f"{error.filename} can't be read: {error.strerror}") from error
    parts |= _roster(state.folder / "roster.json")
    claim = Claim(
        run=run,
        job_sha256=held[-1].entry.job,
        packer=Packer(key=state.key.public.hex(), role="site", name=site),
    )
    say(Path(to).expanduser(), pack(Path(to).expanduser(), claim, in_memory(parts), state.key))


def _roster(path: Path) -> dict[str, bytes]:
    """Return the roster that the site goes by, under the name of its content."""
    if not path.exists():
        return {}
    try:
        text = _files.read(path, LARGEST)
        return {f"rosters/{read_roster(text).sha256}.json": text}
    except OSError as error:
        raise LedgerError(f"{path} can't be read: {error.strerror}") from error
    except FedmodelError as error:
        raise LedgerError(f"{path}: {error}") from error
