"""Untold ends of runs: whom a coordinator couldn't tell that one has ended, for its next contact.

What a run had reserved at a site stays held until the site hears of its end. Who was away then is
told before it next joins any run of the coordinator.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmodel import _files, config
from fedmodel.errors import RunFolderError
from fedmodel.runs.files import read_json, read_record, to_json

__all__ = ["Ending", "Untold", "without"]

logger = logging.getLogger(__name__)

_SCHEMA = "fedmodel.untold/1"
_MOST = 200  # endings that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a run that some sites haven't heard of.

    Args:
        run: which one.
        job: SHA-256 (hex) of its job.
        failed: it didn't come to its end.
        members: public key (hex) of each of these sites → entries of its ledger, as far as known.
    """

    run: str
    job: str
    failed: bool
    members: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    schema: str = _SCHEMA
    endings: tuple[Ending, ...] = ()


class Untold:
    """The endings in a coordinator's own folder, for all of its runs and processes.

    Args:
        home: the folder.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "untold.json"

    def endings(self) -> tuple[Ending, ...]:
        """Return them, from the oldest.

        Raises:
            RunFolderError: when the file is damaged.
        """
        if not self._path.exists():
            return ()
        return read_record(_Record, read_json(self._path), _SCHEMA, str(self._path)).endings

    def put(self, ending: Ending) -> None:
        """Keep an ending, durably, in place of what there was of its run and job.

        Args:
            ending: of a run; without members it is forgotten.

        Raises:
            RunFolderError: when it can't be read or written.
        """

        def changed(known: list[Ending]) -> list[Ending]:
            others = [e for e in known if (e.run, e.job) != (ending.run, ending.job)]
            return [*others, ending] if ending.members else others

        self._change(changed)

    def drop(self, run: str, job: str) -> None:
        """Forget that a run has ended, for it goes on.

        Args:
            run: which one.
            job: SHA-256 (hex) of its job: another one of that name has ended all the same.

        Raises:
            RunFolderError: when it can't be read or written.
        """
        self._change(lambda known: [e for e in known if (e.run, e.job) != (run, job)])

    def told(self, ending: Ending, members: set[str]) -> None:
        """Take note of who has heard of an ending; it is the last now to be told again.

        Args:
            ending: as it was read; one that was forgotten meanwhile, by a process with which the
                run goes on, stays forgotten.
            members: public keys (hex) of who has.

        Raises:
            RunFolderError: when it can't be read or written.
        """

        def changed(known: list[Ending]) -> list[Ending]:
            same = [e for e in known if (e.run, e.job) == (ending.run, ending.job)]
            left = [without(e, members) for e in same]
            return [*(e for e in known if e not in same), *(e for e in left if e.members)]

        self._change(changed)

    def _change(self, change: Callable[[list[Ending]], list[Ending]]) -> None:
        before = list(self.endings())
        if change(before) == before:
            return
        try:
            _files.make_folder(self._path.parent)
            with _files.locked(self._path.with_name(".untold.json.lock"), write=True):
                found = change(list(self.endings()))
                for lost in found[:-_MOST]:
                    logger.warning(
                        "more than %d ends of runs are untold; that of %s is no longer kept: its "
                        "sites give up what it holds by 'fedmodel budget release=%s'",
                        _MOST, lost.run, lost.run,
                    )  # fmt: skip
                record = _Record(endings=tuple(found[-_MOST:]))
                _files.write_atomic(self._path, to_json(config.to_mapping(record)))
        except OSError as error:
            raise RunFolderError(f"can't write {self._path}: {error.strerror}; free space") from (
                error
            )


def without(ending: Ending, told: set[str]) -> Ending:
    """Return an ending that some more sites have heard of.

    Args:
        ending: before.
        told: their public keys (hex).
    """
    left = {key: entries for key, entries in ending.members.items() if key not in told}
    return replace(ending, members=left)
