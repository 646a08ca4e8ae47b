"""A site's state from run to run: its key, its salt, and for each dataset a ledger.

::

    <state>/<site>/key                      Ed25519 seed, for its owner only
    <state>/<site>/salt                     of the commitments, for its owner only
    <state>/<site>/ledgers/<dataset>.jsonl  what was spent
    <state>/<site>/heads/<dataset>.json     its last signed tree head
    <state>/<site>/leaves/<dataset>.bin     salted hashes of its rows
    <state>/<site>/trust.json               whose rosters it takes (:mod:`fedmodel.identity.trust`)
    <state>/<site>/runs/<run>/              what it keeps from round to round of one run
    <state>/<site>/offers/<run>/            jobs that were offered, and what its people said
    <state>/<site>/approvers.json           who of them may decide, for its desk to show
    <state>/<site>/offered.json             offers of late, where its policy limits them
    <state>/<site>/security.jsonl           its security log; refusals.json: refusals of late in it

It is the site's own. Nothing in it but tree heads is ever sent.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, DataError, LedgerError
from fedmodel.identity import SigningKey, kept_secret
from fedmodel.identity.keyfile import Kind
from fedmodel.ledger import DatasetEntry, Ledger, SiteOwner
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.commitment import Commitment, Leaves, commit
from fedmodel.runs import run_folder_name
from fedmodel.seeds import Entropy

__all__ = ["SiteState", "dataset_name", "folder_name", "is_state", "sites_in"]

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_HASHED = re.compile(r"-[0-9a-f]{8}$")
_DATASET = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PARTS = ("key", "salt", "ledgers", "heads", "leaves")
_NEED = {"key": ("heads", "ledgers"), "salt": ("leaves",)}  # where these are, it can't be new
_RESTORE = (
    "so it can't be told whether two datasets share rows; restore the state folder whole from a "
    "backup"
)
_TAKEN = ("coordinator",)  # what the coordinator keeps beside the sites of a simulation


def folder_name(site: str) -> str:
    """Return the folder a site's name means: itself, or made of safe characters and a hash.

    Two names never share a folder, not even where case or accents make no difference to the disk.

    >>> folder_name("site-1"), folder_name("Ospedale Sant'Anna")
    ('site-1', 'ospedale-sant-anna-50d565c5')
    """
    if _PLAIN.fullmatch(site) and not _HASHED.search(site) and site not in _TAKEN:
        return site
    plain = re.sub(r"[^a-z0-9_]+", "-", site.lower()).strip("-")[:40]
    return f"{plain or 'site'}-{hashlib.sha256(site.encode()).hexdigest()[:8]}"


def is_state(folder: Path) -> bool:
    """Return whether a folder has some part of a site's state: one part may be lost."""
    return any((folder / part).exists() for part in _PARTS)


def sites_in(root: Path) -> list[Path]:
    """Return the folders of the sites whose state, or what is left of it, is below a folder."""
    folders = {path.parent for part in _PARTS for path in root.glob(f"*/{part}")}
    return sorted(folder for folder in folders if folder.name not in _TAKEN)


class SiteState:
    """One site's state, below its own folder. Hold on to it: its secrets are read once.

    Args:
        folder: of the site; made when it is first written to.
        site: its name.
        entropy: real randomness for keys, salts and nonces.
        passphrase: that its key and salt are sealed under; ``None``: they are in the clear.
    """

    def __init__(
        self,
        folder: Path,
        site: str,
        entropy: Entropy | None = None,
        passphrase: bytes | None = None,
    ) -> None:
        self.folder = folder
        self.site = site
        self._passphrase = passphrase
        self._entropy = entropy or Entropy()
        self._secrets: dict[str, bytes] = {}
        self._key: SigningKey | None = None

    def __repr__(self) -> str:
        return f"SiteState({str(self.folder)!r}, {self.site!r})"

    @property
    def key(self) -> SigningKey:
        """The site's signing key, made at the first time.

        Raises:
            LedgerError: when it can't be read or written, or is missing while ledgers are there.
            ConfigError: when others may read it.
        """
        if self._key is None:
            self._key = SigningKey(self._secret("key"))
        return self._key

    def ledger(
        self, dataset: str = "main", caps: Caps | None = None, path: Path | None = None
    ) -> Ledger:
        """Return the ledger of a dataset, to write into.

        Args:
            dataset: its declared name.
            caps: what may be spent on it.
            path: of the ledger's file, where it isn't the usual one.

        Raises:
            ConfigError: for a name that can't name a file.
            LedgerError: when the site's key can't be read or written.
        """
        owner = SiteOwner(
            signer=self.key,
            site=self.site,
            dataset=dataset_name(dataset),
            head=self.head_path(dataset),
        )
        return Ledger(path or self.ledger_path(dataset), owner, caps, entropy=self._entropy)

    def ledger_path(self, dataset: str) -> Path:
        """Return the usual path of a dataset's ledger."""
        return self.folder / "ledgers" / f"{dataset_name(dataset)}.jsonl"

    def run_folder(self, run: str) -> Path:
        """Return the folder of what is kept of one run: no other run's is in it."""
        return self.folder / "runs" / run_folder_name(run)

    def shown_path(self, run: str) -> Path:
        """Return the path of the coordinator's last tree head that the site was shown in a run."""
        return self.run_folder(run) / "coordinator-head.json"

    @property
    def offers(self) -> Path:
        """Return the folder of the jobs that were offered."""
        return self.folder / "offers"

    def datasets(self) -> list[str]:
        """Return the names of the datasets that have a ledger here."""
        return sorted(p.stem for p in (self.folder / "ledgers").glob("*.jsonl"))

    def known_datasets(self) -> list[str]:
        """Return the names of the datasets that a ledger, a tree head or leaves here are of."""
        heads = [path.stem for path in (self.folder / "heads").glob("*.json")]
        named = {*self.datasets(), *heads, *self._with_leaves()}
        return sorted(name for name in named if _DATASET.fullmatch(name))

    def head_path(self, dataset: str) -> Path:
        """Return the path of a dataset's last signed tree head."""
        return self.folder / "heads" / f"{dataset}.json"

    def leaves_path(self, dataset: str) -> Path:
        """Return the path of the hashes of a dataset's rows."""
        return self.folder / "leaves" / f"{dataset}.bin"

    def note_rows(
        self,
        ledger: Ledger,
        texts: Sequence[str],
        labels: Sequence[str],
        patients: Sequence[str] | None = None,
    ) -> DatasetEntry:
        """Write down which rows a run finds in a dataset, before anything is spent on them.

        Args:
            ledger: of the dataset.
            texts: of all rows that the run may touch.
            labels: likewise.
            patients: likewise, where known.

        Returns:
            The entry, with how many rows were added and removed since the last one.

        Raises:
            DataError: when some of the rows, or of their patients, are part of another dataset:
                what is spent on them in one ledger would be missing in the other.
            LedgerError: when something can't be read or written, or the leaves of some dataset are
                missing or older than its ledger.
        """
        if ledger.owner is None:
            raise ConfigError("this ledger was opened for reading; to write, give its owner")
        dataset = ledger.owner.dataset
        found = commit(self._secret("salt"), texts, labels, patients)
        self._secret("key")  # before the lock, which it takes too
        with self._locked():
            self._check_apart(dataset, found)
            noted = _noted(ledger)
            before = self._leaves(dataset, found.leaves.salt_id, noted)
            # In this order: after a crash in between, the leaves still have all that was noted.
            self._keep(dataset, found.to_keep(before, noted))
            return ledger.note_dataset(found.entry(before, noted[-1] if noted else None))

    def check_rows(
        self,
        dataset: str,
        texts: Sequence[str],
        labels: Sequence[str],
        patients: Sequence[str] | None = None,
    ) -> None:
        """Check that no row, and no patient, is part of another dataset; nothing is written down.

        Args:
            dataset: that the rows are of.
            texts: of the rows.
            labels: likewise.
            patients: likewise, where known.

        Raises:
            DataError: as :meth:`note_rows`, which asks the same again.
            LedgerError: likewise.
        """
        if not self.known_datasets():
            return  # no other, and perhaps no salt yet
        found = commit(self._secret("salt"), texts, labels, patients)
        self._secret("key")  # before the lock, which it takes too
        with self._locked():
            self._check_apart(dataset, found)

    def _check_apart(self, dataset: str, found: Commitment) -> None:
        for name in sorted({*self.datasets(), *self._with_leaves()} - {dataset}):
            noted = None
            if _DATASET.fullmatch(name) and self.ledger_path(name).exists():
                book = (other_ledger := self.ledger(name)).book()
                if book.opened is None or book.opened.dataset == name:  # else a copy of another's
                    noted = _noted(other_ledger)
            other = self._leaves(name, found.leaves.salt_id, noted)
            if other is not None and (count := found.shared(other)):
                raise DataError(
                    f"{count} texts or patients of dataset '{dataset}' are, or were, part of "
                    f"dataset '{name}' of this site: two ledgers would each hide what the "
                    f"other has spent on them. Use budget.dataset={name}, or leave them out"
                )

    def _with_leaves(self) -> list[str]:
        return [path.stem for path in (self.folder / "leaves").glob("*.bin")]

    def _leaves(
        self, dataset: str, salt_id: bytes, noted: Sequence[DatasetEntry] | None
    ) -> Leaves | None:
        """Return a dataset's leaves, held against its ledger's entries where that is known."""
        path = self.leaves_path(dataset)
        try:
            leaves = Leaves.from_bytes(_files.read(path))
        except FileNotFoundError:
            if not noted:
                return None
            raise LedgerError(f"{path} is missing, {_RESTORE}") from None
        except OSError as error:
            raise LedgerError(f"can't read {path}: {error.strerror}") from error
        except LedgerError as error:
            raise LedgerError(f"{path}: {error}; restore it from a copy") from error
        if leaves.salt_id != salt_id:
            raise LedgerError(
                f"{path} was made with another salt than {self.folder / 'salt'}; restore the salt "
                "from a copy"
            )
        if noted is not None and not leaves.belong_to(noted):
            raise LedgerError(f"{path} is older than the dataset's ledger, {_RESTORE}")
        return leaves

    def _keep(self, dataset: str, leaves: Leaves) -> None:
        path = self.leaves_path(dataset)
        try:
            _files.make_folder(path.parent)
            _files.write_atomic(path, leaves.to_bytes(), mode=0o600)
        except OSError as error:
            raise LedgerError(f"can't write {path}: {error.strerror}") from error

    def _secret(self, kind: Kind) -> bytes:
        if kind not in self._secrets:
            with self._locked():
                needed = any((self.folder / part).exists() for part in _NEED[kind])
                entropy = None if needed else self._entropy
                self._secrets[kind] = kept_secret(
                    self.folder / kind, kind, entropy, self._passphrase
                )
        return self._secrets[kind]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            _files.make_folder(self.folder)
            with _files.locked(self.folder / ".lock", write=True):
                yield
        except OSError as error:
            raise LedgerError(f"can't write in {self.folder}: {error.strerror}") from error


def _noted(ledger: Ledger) -> list[DatasetEntry]:
    return [entry for entry in ledger.entries() if isinstance(entry, DatasetEntry)]


def dataset_name(dataset: str) -> str:
    """Return a dataset's declared name, if it can name a file.

    Raises:
        ConfigError: if it can't.
    """
    if not _DATASET.fullmatch(dataset):
        raise ConfigError(
            f"budget.dataset={dataset!r} can't name a file; use at most 64 small letters, digits "
            "and . _ -, beginning with a letter or digit"
        )
    return dataset
