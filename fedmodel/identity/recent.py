"""Things that were noted of late, in a file that never grows beyond so many of them.

Each is known by a key; what was noted is still known after a restart, and how many were new within
24 hours is counted from the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.identity.validity import as_text, as_time

__all__ = ["DAY", "Recent"]

DAY = timedelta(hours=24)
_LARGEST = 1 << 22  # bytes; a thing takes some 110


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    key: str
    at: str

    def __post_init__(self) -> None:
        config.require_hex("key", self.key, 64)
        config.require_time(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema: Literal["fedmodel.recent/1"] = "fedmodel.recent/1"
    seen: tuple[_Seen, ...] = ()


class Recent:
    """Keys of the last things that were noted.

    Args:
        path: of the file; the first note makes it, and its folder.
        kept: how many are kept, the oldest go first; at least as many as may be new in a day.
    """

    def __init__(self, path: Path, kept: int = 1000) -> None:
        self._path = path
        self._kept = kept

    def would_be(self, key: str, now: datetime) -> int:
        """Return the how manieth within 24 hours a thing would be; 0 where it is known.

        Args:
            key: SHA-256 (hex) of it.
            now: the time.

        Raises:
            RunFolderError: when the file can't be read.
        """
        return _count(self._read(), key, now)

    def note(self, key: str, now: datetime, most: int) -> int:
        """Note a thing, unless it is known or too many were new within 24 hours.

        Args:
            key: SHA-256 (hex) of it.
            now: the time.
            most: how many may be new.

        Returns:
            As :meth:`would_be` before; more than ``most``: it wasn't noted, and nothing written.

        Raises:
            RunFolderError: when the file can't be read or written.
        """
        try:
            _files.make_folder(self._path.parent)
            with _files.locked(self._path.with_suffix(".lock"), write=True):
                seen = self._read()
                count = _count(seen, key, now)
                if 0 < count <= most:
                    kept = (*seen, _Seen(key=key, at=as_text(now)))[-max(self._kept, most) :]
                    text = config.canonical(_File(seen=kept)) + b"\n"
                    _files.write_atomic(self._path, text, mode=0o600)
        except OSError as error:
            raise RunFolderError(f"can't write {self._path}: {error.strerror}") from error
        return count

    def _read(self) -> tuple[_Seen, ...]:
        try:
            text = _files.read(self._path, _LARGEST).removesuffix(b"\n")
            return config.parse(lambda plain: config.build(_File, plain), text).seen
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RunFolderError(f"can't read {self._path}: {error.strerror}") from error
        except ConfigError as error:
            raise RunFolderError(
                f"{self._path} can't be read as what was noted of late ({error}); restore it, or "
                "remove it, and the count begins anew"
            ) from error


def _count(seen: Sequence[_Seen], key: str, now: datetime) -> int:
    if any(each.key == key for each in seen):
        return 0
    # What stands in the future by a clock that was set back counts, too.
    return 1 + sum(as_time(each.at) > now - DAY for each in seen)
