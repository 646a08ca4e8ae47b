"""Ledgers that a statement is about, and what is missing of them.

A ledger that is gone looks like one that nothing was spent in. So whatever knows of one is asked:
the site's tree heads and leaves, the coordinator's memory, a run's summary.
"""

from dataclasses import dataclass
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, LedgerError, ProtocolError
from fedmodel.ledger import Ledger
from fedmodel.ledger.kept_heads import read_heads
from fedmodel.ledger.site_state import SiteState, is_state, sites_in
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs import RunFolder

__all__ = ["Found", "Looked", "Missing", "of_run", "of_state"]

_GONE = "nobody can tell from here what was spent; restore it from a copy"
_HEADLESS = (
    "so nothing beside the ledger would tell that it is an old copy. Restore it, or let the site "
    "join again: that signs a new one, where the coordinator knows of no newer ledger"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A ledger and whose it is."""

    site: str
    dataset: str
    ledger: Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A file that must once have been there.

    Args:
        site: whose it was; ``None`` where nothing here tells.
        dataset: of what; ``None`` likewise.
        why: what is missing, and what knows of it.
    """

    site: str | None
    dataset: str | None
    why: str

    def __str__(self) -> str:
        whose = [] if self.site is None else [f"site {self.site}"]
        what = [] if self.dataset is None else [f"dataset {self.dataset}"]
        return f"{', '.join([*whose, *what])}: {self.why}"


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found, and what is missing."""

    found: tuple[Found, ...]
    missing: tuple[Missing, ...]

    def of(self, site: str | None, dataset: str | None) -> "Looked":
        """Return what is, or may be, of one site and of one dataset; ``None``: of any."""
        # Where a ledger of the site is here, so is its key: what has no name is of another.
        named = site in {one.site for one in self.found}

        def asked(one: Found | Missing) -> bool:
            ours = site in (None, one.site) or (one.site is None and not named)
            return ours and (dataset is None or one.dataset in (None, dataset))

        found, missing = filter(asked, self.found), filter(asked, self.missing)
        return Looked(tuple(found), tuple(missing))


def of_state(root: Path) -> Looked:
    """Return the ledgers below a folder of sites' states, or in a site's own.

    Raises:
        LedgerError: for a ledger or a tree head that isn't valid.
        RollbackError: for a ledger that is older than a tree head.
    """
    look, alone = _Look(), is_state(root)
    for folder in [root] if alone else sites_in(root):
        look.into_state(folder)
    if not alone:
        look.into_memory(root / "coordinator" / "heads.json")
    return look.result()


def of_run(folder: RunFolder) -> Looked:
    """Return the ledgers in a run folder.

    Raises:
        ConfigError: for a run whose ledgers are at the sites.
        LedgerError: for a ledger or a tree head that isn't valid.
        RollbackError: for a ledger that is older than a tree head.
    """
    if folder.manifest.served:
        raise ConfigError(
            f"{folder.path} was played over the network, and a site's ledger is its own; at each "
            "site: fedmodel budget state=FOLDER"
        )
    look = _Look()
    kept = {path.stem for path in (folder.path / "ledger").glob("*.jsonl")}
    homes = {path.name for path in sites_in(folder.path / "sites")}
    spenders = _spenders(folder)
    for party in sorted(kept | homes | spenders):
        look.into_run(folder, party, party in spenders)
    look.into_memory(folder.tree_heads)
    return look.result()


class _Look:
    """What was found so far, and by which names others know of it."""

    def __init__(self) -> None:
        self._found: list[Found] = []
        self._missing: list[Missing] = []
        self._ledgers: dict[str, Ledger] = {}  # by the names that heads use
        self._lost: set[str] = set()  # likewise
        self._keys: dict[str, str] = {}  # public key → site

    def result(self) -> Looked:
        return Looked(tuple(self._found), tuple(self._missing))

    def into_state(self, folder: Path) -> None:
        """Look into one site's state."""
        state = SiteState(folder, folder.name)
        names, site, key = state.known_datasets(), folder.name, folder / "key"
        if key.exists():
            self._keys[state.key.public.hex()] = site
        for dataset in names:
            path, head_path = state.ledger_path(dataset), state.head_path(dataset)
            ledger, head, leaves = Ledger(path), _head(head_path), state.leaves_path(dataset)
            book = ledger.book()
            if book.opened is None:
                knows = head_path if head is not None else leaves
                if knows.exists():
                    self._lacks_ledger(site, dataset, path, head, knows)
                continue
            if book.opened.dataset != dataset:
                continue  # a copy of another's
            site = book.opened.site
            if key.exists():  # to write into
                ledger = SiteState(folder, site).ledger(dataset)
            self._note(ledger, dataset)
            if head is None:
                self._lacks(site, dataset, f"{head_path} is gone, {_HEADLESS}")
            else:
                ledger.check_extends(head)
            if book.dataset is not None and not leaves.exists():
                why = f"{leaves} is gone, but {path} knows of its rows; restore it from a copy"
                self._lacks(site, dataset, why)
        if names and not key.exists():
            self._lacks(site, None, f"{key} is gone, which signs its ledgers; restore it")

    def into_run(self, folder: RunFolder, party: str, spent: bool) -> None:
        """Look for one site's ledger in a run folder; ``spent``: the summary knows of it."""
        ledger, home = Ledger(folder.ledger(party)), folder.site_state(party)
        opened = ledger.book().opened
        heads = {path: _head(path) for path in sorted((home / "heads").glob("*.json"))}
        if opened is None:
            for path, head in heads.items():
                self._lacks_ledger(party, path.stem, ledger.path, head, path)
            if spent and not heads:
                summary = folder.path / "summary.json"
                self._lacks_ledger(party, None, ledger.path, None, summary)
            return
        self._note(ledger, opened.dataset)
        ours = [head for head in heads.values() if head and head.ledger == opened.ledger]
        for head in ours:
            ledger.check_extends(head)
        if is_state(home) and not ours:
            why = f"{home / 'heads'} has no tree head of it, {_HEADLESS}"
            self._lacks(opened.site, opened.dataset, why)

    def into_memory(self, path: Path) -> None:
        """Hold what was found against a coordinator's memory.

        Raises:
            RunFolderError: when that can't be read.
            RollbackError: when a ledger is older than what it knows.
        """
        for head in read_heads(path).values():
            if head.ledger in self._ledgers:
                self._ledgers[head.ledger].check_extends(head)
            elif head.ledger not in self._lost:
                why = f"ledger {head.ledger} isn't here, but {_knows(path, head)}: {_GONE}"
                self._lacks(self._keys.get(head.key), head.ledger.partition("/")[2], why)

    def _note(self, ledger: Ledger, dataset: str) -> None:
        opened = ledger.book().opened
        if opened is not None:
            self._found.append(Found(opened.site, dataset, ledger))
            self._ledgers[opened.ledger] = ledger
            self._keys[opened.key] = opened.site

    def _lacks(self, site: str | None, dataset: str | None, why: str) -> None:
        self._missing.append(Missing(site=site, dataset=dataset, why=why))

    def _lacks_ledger(
        self, site: str, dataset: str | None, path: Path, head: TreeHead | None, knows: Path
    ) -> None:
        state = "has no entry" if path.exists() else "is gone"
        self._lacks(site, dataset, f"{path} {state}, but {_knows(knows, head)}: {_GONE}")
        if head is not None:
            self._lost.add(head.ledger)
            self._keys[head.key] = site


def _spenders(folder: RunFolder) -> set[str]:
    """Return the sites that spent something, by the run's summary."""
    summary = folder.summary()
    sites = {} if summary is None or not summary.privacy.private else summary.privacy.sites
    return {name for name, site in sites.items() if site.steps or site.epsilon}


def _head(path: Path) -> TreeHead | None:
    try:
        return TreeHead.from_json(_files.read(path))
    except FileNotFoundError:
        return None
    except (OSError, ProtocolError) as error:
        raise LedgerError(f"{path} can't be read: {error}") from error


def _knows(path: Path, head: TreeHead | None) -> str:
    entries = "" if head is None else f" of {head.size} entries, signed at {head.time}"
    return f"{path} knows{entries or ' of it'}"
