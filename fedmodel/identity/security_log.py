"""The security log: what a party has signed, issued, accepted, refused or taken back, and who did.

One line of canonical JSON for each, which names the SHA-256 of the line before it: one that is
edited, moved or taken out is noticed, though not whether the last ones were cut off by somebody
who could write the file. A line is on disk before :meth:`SecurityLog.add` returns. Of a crash there
is at worst a cut last line, whose bytes the next writer keeps in a line ``torn``.
"""

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.identity.validity import as_text, utc_now

__all__ = ["Row", "SecurityLog", "whoami"]

_FIRST = "0" * 64
_LONGEST = 1 << 13  # bytes of a line
_LONGEST_TEXT = 500  # characters of a value
_MOST = 20  # values
_NOBODY = (1 << 32) - 1  # nobody has logged in: a service
_TORN = 1000  # bytes that are kept of a cut line


def whoami() -> str:
    """Return the account that runs this process, and who has logged in, where that is another."""
    number = os.geteuid()
    try:
        login = int(_files.read(Path("/proc/self/loginuid"), 20))
    except (OSError, ValueError):
        login = _NOBODY
    if login in (number, _NOBODY):
        return _account(number)
    return f"{_account(number)} ({_account(login)})"


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the log.

    Args:
        schema: of the line.
        seq: 0, 1, 2, …
        prev: SHA-256 (hex) of the line before, without its newline; of the first, 64 zeros.
        time: when it was written, by this machine's clock, UTC.
        by: account that did it.
        event: what was done, a few words with hyphens.
        about: what with: names, fingerprints, hashes; of a refused job what was asked and allowed,
            which may be a number of the party's own. Never a secret, nor anything of a row.
    """

    schema: Literal["fedmodel.security/1"] = "fedmodel.security/1"
    seq: int
    prev: str
    time: str
    by: str
    event: str
    about: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        config.require_hex("prev", self.prev, 64)
        config.require_time(self.time)


class SecurityLog:
    """A party's security log.

    Args:
        path: of the file; its folder exists, the first line makes it.
        clock: tells the time.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self._clock = clock

    def add(self, event: str, **about: str) -> Row:
        """Write what was done; return the line once it is on disk.

        Args:
            event: what, a few words with hyphens.
            about: names, fingerprints and hashes that say what with. Long ones are cut.

        Raises:
            LedgerError: when the file can't be read or written, or its end isn't a line of it.
        """
        told = {key: value[:_LONGEST_TEXT] for key, value in sorted(about.items())[:_MOST]}
        try:
            with _files.locked(self.path, write=True) as file:
                last = self._settled(file)
                row = self._row(last, event, told)
                file.append(config.canonical(row) + b"\n")
                if last is None:
                    _files.sync_folder(self.path.parent)
        except OSError as error:
            raise LedgerError(f"can't write the security log {self.path}: {error}") from error
        return row

    def end(self) -> str:
        """Return the SHA-256 (hex) of the last line, once all have verified.

        Whoever notes it down elsewhere can tell later that lines before it were cut off.

        Raises:
            LedgerError: naming the first line that isn't right.
        """
        rows = self.rows()
        return config.digest(rows[-1]) if rows else _FIRST

    def rows(self) -> list[Row]:
        """Return all lines, once their chain has verified; none where there is no file.

        Raises:
            LedgerError: naming the first line that isn't right.
        """
        try:
            with _files.locked(self.path, write=False) as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerError(f"can't read the security log {self.path}: {error}") from error
        found: list[Row] = []
        prev = _FIRST
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn
            row = self._parsed(line, number)
            if (row.seq, row.prev) != (number - 1, prev):
                raise LedgerError(
                    f"{self.path}, line {number} doesn't follow the line before it: one was "
                    "edited, moved or taken out. Restore the file from a copy, and find out why"
                )
            found.append(row)
            prev = config.sha256(line)
        return found

    def _row(self, last: tuple[Row, bytes] | None, event: str, about: Mapping[str, str]) -> Row:
        return Row(
            seq=0 if last is None else last[0].seq + 1,
            prev=_FIRST if last is None else config.sha256(last[1]),
            time=as_text(self._clock()),
            by=whoami(),
            event=event,
            about=about,
        )

    def _settled(self, file: _files.LockedFile) -> tuple[Row, bytes] | None:
        """Deal with a cut last line; return the last whole one."""
        tail = file.tail(2 * _LONGEST)
        whole, newline, torn = tail.rpartition(b"\n")
        line = whole.rpartition(b"\n")[2]
        last = (self._parsed(line, None), line) if newline else None
        if torn:
            file.cut_end(len(torn))
            row = self._row(last, "torn", {"bytes": torn[:_TORN].hex()[:_LONGEST_TEXT]})
            line = config.canonical(row)
            file.append(line + b"\n")
            last = (row, line)
        return last

    def _parsed(self, line: bytes, number: int | None) -> Row:
        where = "its last line" if number is None else f"line {number}"
        if len(line) > _LONGEST:
            raise LedgerError(f"{self.path}, {where} has more than {_LONGEST} bytes")
        try:
            return config.parse(lambda m: config.build(Row, m), line)
        except ConfigError as error:
            raise LedgerError(
                f"{self.path}, {where} isn't a line of a security log ({error}); restore the file "
                "from a copy, and find out why"
            ) from error
