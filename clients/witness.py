"""Witness of the coordinator's own ledger at a site: it may only grow, and is the same for all.

A site keeps the last signed tree head that it was shown in a run, in the run's folder, and writes
into its own ledger what it was shown, before it spends. Who rewrites the coordinator's ledger, or
shows two sites two of them, has signed for both.
"""

from pathlib import Path

from clients.site import Site
from fedmodel import _files, _hazmat
from fedmodel.errors import EquivocationError, ProtocolError, RunFolderError, UnsignedError
from fedmodel.ledger import merkle
from fedmodel.ledger.site_line import NOWHERE, Begun
from fedmodel.ledger.tree_head import LARGEST, TreeHead
from fedmodel.wire import Shown

__all__ = ["Witness"]

_MEANS = (
    "the coordinator has rewritten its ledger, brought back an old copy of it, or keeps two. "
    "Nothing is done; keep {path}, and ask the coordinator's operator"
)


class Witness:
    """What one site was shown of the coordinator's ledger of one run.

    Args:
        site: with its roster, by which the coordinator's key is known. Without one nothing is
            looked at, for nobody knows whose head it would be.
        run: its name.
        before: what the site's own ledger says that it was shown.

    Raises:
        RunFolderError: when what was kept can't be read.
    """

    def __init__(self, site: Site, run: str, before: Begun = NOWHERE) -> None:
        self._key = None if site.roster is None else site.roster.coordinator
        self._run = run
        self._path = site.state.shown_path(run)
        self._seen = Begun()
        if self._key is None:
            return
        # What a power cut has taken of the file stands in the ledger.
        self._seen = max(_kept(self._path), before, key=lambda each: each.entries)

    @property
    def entries(self) -> int:
        """How many entries the last head had; 0: there was none."""
        return self._seen.entries

    def begun(self, model: str = "") -> Begun:
        """Return what a ledger's entry says of it.

        Args:
            model: SHA-256 (hex) of the parameters that steps start from.
        """
        return Begun(model=model, entries=self._seen.entries, root=self._seen.root)

    def take(self, shown: Shown | None) -> None:
        """Check what is shown against what was shown before, and keep it.

        Args:
            shown: with an order; ``None``: nothing is.

        Raises:
            UnsignedError: when it isn't signed by the coordinator of the site's roster, or is of
                another run.
            EquivocationError: when the coordinator's ledger isn't the one of before, grown.
            RunFolderError: when it can't be kept.
        """
        if self._key is None:
            return
        if shown is None:
            if self._seen.entries:
                raise EquivocationError(
                    f"the order comes without the tree head of the coordinator's ledger, and one "
                    f"of {self._seen.entries} entries came before: {self._means}"
                )
            return
        self._check_whose(shown.head)
        self._check_grown(shown)
        if shown.head.size > self._seen.entries:
            self._keep(shown.head)

    @property
    def _means(self) -> str:
        return _MEANS.format(path=self._path)

    def _check_whose(self, head: TreeHead) -> None:
        expected = f"{_hazmat.fingerprint(bytes.fromhex(self._key or ''))}/{self._run}"
        if (head.key, head.ledger) != (self._key, expected):
            raise UnsignedError(
                f"expected the tree head of {expected}, signed by the coordinator of this site's "
                f"roster, got one of {head.ledger:.120}. Nothing is done"
            )

    def _check_grown(self, shown: Shown) -> None:
        head, seen = shown.head, self._seen
        if head.size == 0 or head.size < seen.entries:
            raise EquivocationError(
                f"the coordinator's ledger had {seen.entries} entries, and now has {head.size}: "
                f"{self._means}"
            )
        if head.size == seen.entries:
            if head.root != seen.root:
                raise EquivocationError(
                    f"two tree heads of {head.size} entries of the coordinator's ledger differ: "
                    f"{self._means}"
                )
            return
        if seen.entries == 0:
            return
        roots = bytes.fromhex(seen.root), bytes.fromhex(head.root)
        try:
            nodes = [bytes.fromhex(node) for node in shown.proofs[seen.entries]]
            merkle.check_consistency(seen.entries, head.size, *roots, nodes)
        except (KeyError, ValueError, ProtocolError) as error:
            raise EquivocationError(
                f"it isn't proved that the coordinator's ledger of {head.size} entries has grown "
                f"from that of {seen.entries} that this site was shown: {self._means}"
            ) from error

    def _keep(self, head: TreeHead) -> None:
        try:
            if not self._path.parent.is_dir():
                _files.make_folder(self._path.parent)
            # A power cut may bring an older one back, from which the next has grown as well.
            _files.write_atomic(self._path, head.to_json() + b"\n", mode=0o600, durable=False)
        except OSError as error:
            raise RunFolderError(
                f"can't write {self._path}: {error.strerror}. Nothing was spent; free space"
            ) from error
        self._seen = Begun(entries=head.size, root=head.root)


def _kept(path: Path) -> Begun:
    try:
        head = TreeHead.from_json(_files.read(path, LARGEST))
    except FileNotFoundError:
        return Begun()
    except (OSError, ProtocolError) as error:
        raise RunFolderError(
            f"{path} can't be read as the coordinator's tree head ({error}); restore it. It would "
            "tell that the coordinator has rewritten its ledger"
        ) from error
    return Begun(entries=head.size, root=head.root)
