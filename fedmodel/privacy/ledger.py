"""What a site has spent: an append-only file that the site owns.

One line per entry, in canonical JSON (RFC 8785), each naming the SHA-256 of the line before it, so
that a line that is edited, moved or taken out is noticed. Taking lines off the *end* leaves a valid
ledger: that takes somebody else's memory of the last hash to notice.

An entry is on disk before :meth:`Ledger.spend` returns, and noise is drawn only after it returns.
So of a crash in between there is, at worst, an entry too many:

* A last line without its newline is an append that never returned. Where the entry is whole it
  counts; the next append puts the newline. Where it is cut, nothing was released for it; it doesn't
  count, and the next append replaces it by an entry ``torn`` that keeps its bytes as evidence.
* Whatever else isn't as it should be is an error that names the line: nothing is skipped, since a
  skipped line would be a spend that isn't counted.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedmodel.errors import FedmodelError, RunFolderError
from fedmodel.privacy.accounting import Spend
from fedmodel.privacy.entries import Entry, SpendEntry, TornEntry, decode, encode
from fedmodel.privacy.plan import Plan

__all__ = ["Ledger"]

_FIRST = "0" * 64


class Ledger:
    """A site's ledger in one file.

    Args:
        path: of the file; it and its folder are made by the first spend.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._seen = b""  # the whole lines that were read and checked
        self._entries: list[Entry] = []
        self._last = _FIRST

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries after checking every line and the chain.

        A file that doesn't exist is a ledger nothing was spent in.

        Raises:
            RunFolderError: naming the first line that isn't as it should be, or that isn't what
                this object has read or written there before.
        """
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
                raw = _read(file)
        except FileNotFoundError:
            raw = b""
        except OSError as error:
            raise RunFolderError(f"can't read the ledger {self.path}: {error}") from error
        tail = self._check(raw)
        whole = self._whole(tail) if tail else None
        return (*self._entries, whole) if whole else tuple(self._entries)

    def spends(self, run: str | None = None, job: str | None = None) -> list[Spend]:
        """Return what was spent, for the accountant: all, or of one run or job (SHA-256)."""
        return [
            entry.spend()
            for entry in self.entries()
            if isinstance(entry, SpendEntry)
            and run in (None, entry.run)
            and job in (None, entry.job)
        ]

    def spend(
        self, plan: Plan, steps: int, *, run: str, job: str, site: str, round: int, attempt: int = 1
    ) -> SpendEntry:
        """Write down that steps of a plan are spent; return once that is on disk.

        When this raises, draw no noise: whether the spend is on disk is then unknown, and if it
        is, it counts.

        Args:
            plan: the site's plan.
            steps: how many steps, ≥ 1.
            run: name of the run.
            job: SHA-256 (hex) of the job.
            site: name of the site.
            round: of the run, ≥ 0.
            attempt: of the round, ≥ 0.

        Returns:
            The entry as written.

        Raises:
            RunFolderError: when the ledger can't be read, isn't valid or can't be written.
            ConfigError: when a value isn't usable.
            PrivacyError: when the steps can't be accounted.
        """
        entry = SpendEntry(
            seq=0,
            prev=_FIRST,
            run=run,
            job=job,
            site=site,
            round=round,
            attempt=attempt,
            rate=repr(float(plan.rate)),
            noise_multiplier=repr(float(plan.noise_multiplier)),
            clip=repr(float(plan.clip)),
            delta=repr(float(plan.delta)),
            unit=plan.unit,
            adjacency=plan.adjacency,
            steps=steps,
        )
        encode(entry)  # all that can be wrong with it, before the file is touched
        try:
            _make_folder(self.path.parent)
            with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as file:
                return self._append(file, entry)
        except OSError as error:
            raise RunFolderError(
                f"can't write the ledger {self.path}: {error}. Nothing may be released for this "
                "spend; make room or repair the disk, then start again"
            ) from error

    def _append(self, file: int, entry: SpendEntry) -> SpendEntry:
        raw = _read(file)
        tail = self._check(raw)
        before = (len(self._entries), self._seen, self._last)
        try:
            lead = self._repair(file, raw, tail) if tail else b""
            entry = replace(entry, seq=len(self._entries), prev=self._last)
            line = encode(entry) + b"\n"
            written = os.write(file, lead + line)
            if written != len(lead + line):
                raise OSError(f"only {written} of {len(lead + line)} bytes were written")
            os.fsync(file)
            _sync_folder(self.path.parent)
        except OSError:
            count, self._seen, self._last = before
            del self._entries[count:]
            raise
        self._note(entry, line)
        return entry

    def _check(self, raw: bytes) -> bytes:
        """Take in the whole lines of a file; return what follows the last newline."""
        if not raw.startswith(self._seen):
            pairs = enumerate(zip(self._seen.split(b"\n"), [*raw.split(b"\n"), b""], strict=False))
            number = next((i for i, (known, now) in pairs if known != now), len(self._entries))
            raise RunFolderError(
                f"{self.path}, line {number + 1} isn't what this process has read or written "
                "there: somebody has changed the ledger. Restore it from a copy; without it nobody "
                "knows what was spent"
            )
        *lines, tail = raw[len(self._seen) :].split(b"\n")
        for line in lines:
            self._note(self._parse(line), line + b"\n")
        return tail

    def _parse(self, line: bytes) -> Entry:
        number = len(self._entries) + 1
        try:
            entry = decode(line)
        except FedmodelError as error:
            raise RunFolderError(f"{self.path}, line {number}: {error}") from error
        if entry.seq != len(self._entries) or entry.prev != self._last:
            raise RunFolderError(
                f"{self.path}, line {number} doesn't follow the line before it: expected entry "
                f"{number - 1}, got {entry.seq}; a line was edited, moved or taken out. Restore "
                "the ledger from a copy; without it nobody knows what was spent"
            )
        return entry

    def _whole(self, tail: bytes) -> Entry | None:
        """Return the entry of a last line that lacks nothing but its newline."""
        try:
            # No proper prefix of a canonical JSON object is one, so a cut line never passes.
            decode(tail)
        except FedmodelError:
            return None
        return self._parse(tail)

    def _repair(self, file: int, raw: bytes, tail: bytes) -> bytes:
        """Deal with a last line without newline; return what goes ahead of the next entry."""
        whole = self._whole(tail)
        if whole:
            self._note(whole, tail + b"\n")
            return b"\n"
        os.ftruncate(file, len(raw) - len(tail))
        torn = TornEntry.of(tail, len(self._entries), self._last)
        line = encode(torn) + b"\n"
        self._note(torn, line)
        return line

    def _note(self, entry: Entry, line: bytes) -> None:
        self._entries.append(entry)
        self._seen += line
        self._last = hashlib.sha256(line[:-1]).hexdigest()

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        file = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, lock)
            yield file
        finally:
            os.close(file)


def _read(file: int) -> bytes:
    parts = []
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable: fsync of the file alone doesn't."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
