"""Lives that end by SIGKILL, and lives on a disk that is full or fails."""

import errno
import os
import random
import shutil
import signal
from collections import Counter
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


Point = tuple[int, str]  # the how manieth system call of a life; before, in the middle or after it


def killed_life(folder: Path, seed: int, known: Known, point: Point, part: float) -> bool:
    """Live until killed at a point, a part of a write done; return whether it was reached."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        install(kill_at(*point, part))
        live(folder, random.Random(seed), lambda what: tell(outlet, what), 6)
        os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet) as said:
        for line in said:
            known.say(line.strip())
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def tell(outlet: int, what: str) -> None:
    os.write(outlet, f"{what}\n".encode())


def kill(times: int, seed: int) -> dict[str, int]:
    """Kill so many lives: at each point once before one has its second turn."""
    rng = random.Random(seed)
    with scratch() as root:
        calls = count_calls(root / "count", seed, 6)
        points = [(n, where) for n in range(1, calls) for where in ("before", "middle", "after")]
        turns: list[Point] = []
        reached: Counter[Point] = Counter()
        lives = 0
        while reached.total() < times:
            folder, known = root / f"site-{lives}", Known()
            for _ in range(4):  # a life that ended is followed by another one, on what it left
                turns = turns or rng.sample(points, len(points))
                point = turns.pop()
                if killed_life(folder, rng.randrange(10**9), known, point, rng.random()):
                    reached[point] += 1  # or this life was a shorter one
                lives += 1
                known.check(folder)
            go_on(folder, known)
            shutil.rmtree(folder)
    numbers = {"calls": calls, "points": len(points), "reached": len(reached)}
    return {**numbers, "killed": reached.total(), "lives": lives}


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
