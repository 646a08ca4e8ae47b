"""Lives of a site that end between two system calls, and what its ledger says afterwards.

Run as a program of its own by ``test_ledger_crash.py``: it forks once for each life, and forking a
process that has loaded torch is slow. Modes:

* ``kill N SEED``: SIGKILL before, after or in the middle of a system call.
* ``cut N SEED``: the power fails there: what wasn't synced is on disk in part, or not, or as zeros.
* ``full N SEED``: the disk fails there, once or from then on; the process goes on.
* ``race N SEED``: several processes ask at once for what only one of them can have.
"""

import contextlib
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmodel import _files
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, LedgerError, RefusedError
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps, total
from fedmodel.ledger.entries import Part
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState

CALLS = {"open", "read", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "close"}
CALLS |= {"fstat", "lseek"}
JOB = "ab" * 32
STEPS = Part.of(Spend(0.1, 1.0, 2), DPSGD)
TERMS = Request(
    unit="record",
    adjacency="add-remove",
    epsilon=8.0,
    delta=1e-5,
    parts=(Part.of(Spend(0.1, 1.0, 12), DPSGD),),
)


class Module:
    """Stands in for ``os`` (or ``fcntl``) in :mod:`fedmodel._files`."""

    def __init__(self, real: Any, around: Callable[..., Any]) -> None:
        self._real = real
        self._around = around

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in CALLS and name != "flock":
            return real
        return lambda *args: self._around(name, real, *args)


def install(around: Callable[..., Any]) -> None:
    _files.os = Module(os, around)  # type: ignore[attr-defined, assignment]
    _files.fcntl = Module(fcntl, around)  # type: ignore[attr-defined, assignment]


def uninstall() -> None:
    _files.os, _files.fcntl = os, fcntl  # type: ignore[attr-defined]


class Known:
    """What the world outside knows of a ledger: what was asked for, and what was answered."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # run → steps that spend() was called for
        self.answered: Counter[str] = Counter()  # … that it returned for: noise may be drawn
        self.reserved: set[str] = set()  # runs whose reserve() returned …
        self.released: set[str] = set()  # … and whose release() was called

    def say(self, what: str) -> None:
        verb, run = what.split()
        if verb == "spend?":
            self.asked[run] += STEPS.steps
        elif verb == "spend!":
            self.answered[run] += STEPS.steps
        elif verb == "reserve!":
            self.reserved.add(run)
            self.released.discard(run)
        elif verb == "release?":
            self.released.add(run)

    def check(self, folder: Path) -> None:
        """Fail unless the ledger counts at least what was answered and at most what was asked."""
        book = SiteState(folder, "a").ledger().book()
        for run in self.asked | self.answered | Counter(self.reserved):
            ours = book.of(run)
            spent = sum(s.steps for r in ours for s in r.done())
            held = sum(s.steps for r in ours for s in r.held())
            if not self.answered[run] <= spent <= self.asked[run]:
                raise AssertionError(
                    f"run {run}: {spent} steps counted, {self.answered[run]} answered, "
                    f"{self.asked[run]} asked"
                )
            whole = TERMS.parts[0].steps
            if run in self.reserved - self.released and spent + held < whole:
                raise AssertionError(f"run {run}: {spent} + {held} of {whole} reserved steps")


def live(folder: Path, rng: random.Random, say: Callable[[str], None], most: int) -> None:
    """Live a while: join, reserve, spend, release, in several runs."""
    state = SiteState(folder, "a")
    ledger = state.ledger()
    texts = [f"row {i}" for i in range(rng.randrange(4))]
    state.note_rows(ledger, texts, ["x"] * len(texts))
    for _ in range(most):
        run = rng.choice("uvw")
        with contextlib.suppress(BudgetError, RefusedError):
            act(ledger, run, rng.random(), say)
    ledger.head()


def act(ledger: Ledger, run: str, choice: float, say: Callable[[str], None]) -> None:
    if ledger.reservation(run, JOB) is None:
        ledger.reserve(TERMS, run=run, job=JOB, code="test")
        say(f"reserve! {run}")
    elif choice < 0.8:
        say(f"spend? {run}")
        ledger.spend(STEPS, run=run, job=JOB, round=0, clip=1.0, within=lambda spent, held: ())
        say(f"spend! {run}")
    else:
        say(f"release? {run}")
        ledger.give_back(run, JOB, failed=choice < 0.9)


def count_calls(folder: Path, seed: int, most: int) -> int:
    calls = 0

    def count(name: str, real: Callable[..., Any], *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return None if name == "fsync" else real(*args)

    install(count)
    live(folder, random.Random(seed), lambda what: None, most)
    uninstall()
    return calls


# -- kill -9 -------------------------------------------------------------------------------------


def kill_at(number: int, where: str, part: float) -> Callable[..., Any]:
    left = number

    def around(name: str, real: Callable[..., Any], *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and where == "middle" and name == "write":
            real(args[0], args[1][: int(part * len(args[1]))])
        if left == 0 and where == "after":
            real(*args)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        # The page cache outlives a killed process: syncing would change nothing but the time.
        return None if name == "fsync" else real(*args)

    return around


def killed_life(folder: Path, seed: int, known: Known, rng: random.Random, calls: int) -> bool:
    """Live until killed; return whether it was."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        where = rng.choice(("before", "after", "middle", "middle"))
        install(kill_at(rng.randrange(1, calls), where, rng.random()))
        live(folder, random.Random(seed), lambda what: tell(outlet, what), 6)
        os._exit(0)
    rng.choice("xyz"), rng.random(), rng.random()  # the child has drawn from a copy
    os.close(outlet)
    with os.fdopen(inlet) as said:
        for line in said:
            known.say(line.strip())
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def tell(outlet: int, what: str) -> None:
    os.write(outlet, f"{what}\n".encode())


def kill(times: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    with scratch() as root:
        calls = count_calls(root / "count", seed, 6)
        killed = lives = 0
        while killed < times:
            folder, known = root / f"site-{lives}", Known()
            for _ in range(4):  # a life that ended is followed by another one, on what it left
                killed += killed_life(folder, rng.randrange(10**9), known, rng, calls)
                lives += 1
                known.check(folder)
            go_on(folder, known)
            shutil.rmtree(folder)
    return {"calls": calls, "killed": killed, "lives": lives}


def go_on(folder: Path, known: Known) -> None:
    """Spend once more: whatever was left, the ledger is of use again."""
    ledger = SiteState(folder, "a").ledger()
    if ledger.reservation("u", JOB) is None:
        act(ledger, "u", 0.0, known.say)
    act(ledger, "u", 0.0, known.say)
    ledger.head()
    known.check(folder)


# -- the power fails -----------------------------------------------------------------------------


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


# -- the disk is full or broken ------------------------------------------------------------------


def full(times: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    failed = 0
    with scratch() as root:
        calls = count_calls(root / "count", seed, 6)
        for number in range(times):
            folder, known = root / f"site-{number}", Known()
            for _ in range(3):
                failed += failing_life(folder, known, rng, calls)
                known.check(folder)
            go_on(folder, known)
            shutil.rmtree(folder)
    return {"calls": calls, "failed": failed}


def failing_life(folder: Path, known: Known, rng: random.Random, calls: int) -> int:
    left, for_good = rng.randrange(1, calls), rng.random() < 0.5
    code = rng.choice((errno.ENOSPC, errno.EIO, errno.EDQUOT))

    def around(name: str, real: Callable[..., Any], *args: Any) -> Any:
        nonlocal left
        left -= 1
        if name not in ("close", "flock") and (left == 0 or (left < 0 and for_good)):
            if name == "write" and rng.random() < 0.7:
                return real(args[0], args[1][: rng.randrange(len(args[1]))])
            if name != "read" or rng.random() < 0.5:
                raise OSError(code, os.strerror(code))
        return None if name == "fsync" else real(*args)

    install(around)
    try:
        live(folder, rng, known.say, 6)
    except LedgerError:
        return 1
    finally:
        uninstall()
    return 0


# -- two want the last of it ---------------------------------------------------------------------


def race(times: int, seed: int) -> dict[str, int]:
    # Composed, two cost less than twice as much as one: the cap lies between.
    caps = Caps(epsilon=(_cost(1) + _cost(2)) / 2)
    won = []
    with scratch() as root:
        for number in range(times):
            folder = root / f"site-{number}"
            SiteState(folder, "a").ledger().head()
            won.append(racers(folder, caps, 3))
            book = SiteState(folder, "a").ledger().book()
            if len(book.open_ones()) != 1 or won[-1] != 1:
                raise AssertionError(f"{won[-1]} of 3 got what one can have")
            won.append(drawers(folder, 3))
            if won[-1] != 12 // 4:
                raise AssertionError(f"{won[-1]} drew 4 of 12 steps")
            SiteState(folder, "a").ledger().entries()
    return {"races": len(won)}


def _cost(jobs: int) -> float:
    return total(TERMS.charges() * jobs, "record").epsilon


def racers(folder: Path, caps: Caps, count: int) -> int:
    def reserve(number: int) -> bool:
        SiteState(folder, "a").ledger(caps=caps).reserve(
            TERMS, run=f"r{number}", job=JOB, code="test"
        )
        return True

    return together(reserve, count)


def drawers(folder: Path, count: int) -> int:
    (held,) = SiteState(folder, "a").ledger().book().open_ones()
    four = Part.of(Spend(0.1, 1.0, 4), DPSGD)

    def draw(number: int) -> bool:
        ledger = SiteState(folder, "a").ledger()
        for _ in range(2):
            ledger.spend(four, run=held.entry.run, job=JOB, round=number, clip=1.0)
        return True

    # Three ask for 8 of the 12 steps each; whoever comes too late for its second has drawn one.
    together(draw, count)
    book = SiteState(folder, "a").ledger().book()
    return len(book.open_ones()[0].spent)


def together(act: Callable[[int], bool], count: int) -> int:
    """Fork processes that wait for the same moment; return how many succeeded."""
    inlet, outlet = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(outlet)
            os.read(inlet, 1)  # until the other end closes
            try:
                os._exit(0 if act(number) else 1)
            except BudgetError:
                os._exit(1)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(2)
        children.append(child)
    os.close(inlet)
    os.close(outlet)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if not set(codes) <= {0, 1}:
        raise AssertionError(f"exit codes {codes}")
    return codes.count(0)


class scratch:  # noqa: N801
    """A folder in memory where there is one: these tests sync thousands of times."""

    def __enter__(self) -> Path:
        memory = Path("/dev/shm")
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        self.path = Path(tempfile.mkdtemp(dir=memory if usable else None))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


if __name__ == "__main__":
    mode, times, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    modes = {"kill": kill, "cut": cut, "full": full, "race": race}
    print(json.dumps(modes[mode](times, start)))
