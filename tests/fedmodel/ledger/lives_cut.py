"""Lives that end by a power cut: what wasn't synced is on disk in part, or not, or as zeros."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmodel.errors import LedgerError
from tests.fedmodel.ledger.lives import (
    Known,
    count_calls,
    go_on,
    install,
    live,
    scratch,
    uninstall,
)


class PowerCutError(BaseException):
    """Nothing that the program could catch."""


class Disk:
    """Knows of every file under a folder what is in the cache and what was synced.

    A sync of a file makes its content durable, a sync of a folder the names in it (POSIX promises
    no more). Everything else may be on disk or not when the power fails; of bytes appended, any
    first part, or zeros in their place.
    """

    def __init__(self, root: Path, cut_at: int, rng: random.Random) -> None:
        self.root, self.left, self.rng = root, cut_at, rng
        self.off = False
        self.names: dict[str, int] = {}  # in the cache: path → file or folder
        self.synced_names: dict[str, dict[str, int]] = {}  # folder → its synced names
        self.synced: dict[int, bytes] = {}  # file → synced content
        self.open: dict[int, str] = {}  # descriptor → path at that time
        self.files: dict[int, int] = {}  # descriptor → file
        self.next = 0

    def adopt(self) -> None:
        """Take what is there as durable: the machine has just started."""
        self.off = False
        self.names, self.synced_names, self.synced = {}, {}, {}
        for path in sorted(self.root.rglob("*")):
            self.names[str(path)] = self.new()
            if path.is_file():
                self.synced[self.names[str(path)]] = path.read_bytes()
        for folder in [self.root, *(p for p in self.root.rglob("*") if p.is_dir())]:
            self.synced_names[str(folder)] = self.inside(str(folder))

    def new(self) -> int:
        self.next += 1
        return self.next

    def inside(self, folder: str) -> dict[str, int]:
        return {p: i for p, i in self.names.items() if os.path.dirname(p) == folder}

    def __call__(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        if self.off:
            return real(*args) if name == "close" else None
        self.left -= 1
        if self.left == 0:
            self.off = True
            if name == "close":
                real(*args)
            if name == "write" and self.rng.random() < 0.5:
                real(args[0], args[1][: self.rng.randrange(len(args[1]) + 1)])
            raise PowerCutError
        return getattr(self, f"on_{name}", self.other)(real, *args)

    def other(self, real: Callable[..., Any], *args: Any) -> Any:
        return real(*args)

    def on_open(self, real: Callable[..., Any], path: Any, *rest: Any) -> int:
        handle: int = real(path, *rest)
        if str(path) not in self.names and str(path) != str(self.root):
            self.names[str(path)] = self.new()
        self.open[handle] = str(path)
        self.files[handle] = self.names.get(str(path), 0)
        return handle

    def on_mkdir(self, real: Callable[..., Any], path: Any) -> None:
        real(path)
        self.names[str(path)] = self.new()

    def on_unlink(self, real: Callable[..., Any], path: Any) -> None:
        real(path)
        del self.names[str(path)]

    def on_replace(self, real: Callable[..., Any], old: Any, new: Any) -> None:
        real(old, new)
        self.names[str(new)] = self.names.pop(str(old))

    def on_fsync(self, real: Callable[..., Any], handle: int) -> None:
        path = self.open[handle]
        if os.path.isdir(path):
            self.synced_names[path] = self.inside(path)
        else:
            with open(f"/proc/self/fd/{handle}", "rb") as file:
                self.synced[self.files[handle]] = file.read()

    def restart(self, zeros: bool) -> None:
        """Leave under the root what the power cut has left."""
        contents = {i: Path(p).read_bytes() for p, i in self.names.items() if os.path.isfile(p)}
        left: dict[str, bytes | None] = {}
        self.descend(str(self.root), left, contents, zeros)
        for child in self.root.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        for name, data in left.items():
            if data is None:
                os.mkdir(name)
            else:
                Path(name).write_bytes(data)
                os.chmod(name, 0o600)

    def descend(
        self,
        folder: str,
        left: dict[str, bytes | None],
        contents: dict[int, bytes],
        zeros: bool,
    ) -> None:
        now, then = self.inside(folder), self.synced_names.get(folder, {})
        for name in sorted(now.keys() | then.keys()):
            chosen = self.rng.choice([now.get(name), then.get(name)])
            if chosen is None:
                continue
            if chosen in contents or chosen in self.synced:
                left[name] = self.content(chosen, contents, zeros)
            else:
                left[name] = None
                self.descend(name, left, contents, zeros)

    def content(self, file: int, contents: dict[int, bytes], zeros: bool) -> bytes:
        synced = self.synced.get(file, b"")
        cached = contents.get(file, synced)
        if not cached.startswith(synced):  # it was cut since
            return self.rng.choice([synced, cached])
        kept = self.rng.randrange(len(cached) - len(synced) + 1)
        if zeros and self.rng.random() < 0.5:
            return synced + bytes(kept)
        return cached[: len(synced) + kept]


def cut(times: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    refused = 0
    with scratch() as root:
        calls = count_calls(root / "count", seed, 6)
        for number in range(times):
            folder, known = root / f"site-{number}", Known()
            folder.mkdir()
            zeros = number % 4 == 3
            try:
                for _ in range(3):
                    cut_life(folder, known, rng, calls, zeros)
                    known.check(folder)
                go_on(folder, known)
            except LedgerError:
                if not zeros:  # bytes that never were written are damage, the rest isn't
                    raise
                refused += 1
            shutil.rmtree(folder)
    return {"calls": calls, "cuts": 3 * times, "refused": refused}


def cut_life(folder: Path, known: Known, rng: random.Random, calls: int, zeros: bool) -> None:
    disk = Disk(folder, rng.randrange(1, calls), rng)
    disk.adopt()
    install(disk)
    try:
        live(folder, rng, known.say, 6)
    except PowerCutError:
        pass
    finally:
        uninstall()
    disk.restart(zeros)
