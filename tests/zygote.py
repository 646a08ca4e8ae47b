"""A process that has imported everything, and becomes one of fedmodel's at a fork: in no time.

It hasn't opened a connection or made a tensor, so what it is forked into is as good as new.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.rooms import watch_rooms
from tests.small_disk import SmallDisk

_ROOT = Path(__file__).resolve().parents[1]


class Zygote:
    """The process, and those that were forked from it.

    Args:
        folder: in which they run.
        disk: that they have besides.
    """

    def __init__(self, folder: Path, disk: SmallDisk | None = None) -> None:
        self._folder = folder
        self.disk = disk
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "from tests.zygote import be; be()"]
        self._process = subprocess.Popen(
            command if self.disk is None else self.disk.within(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=environment,
        )
        self._read()
        if self.disk is not None:
            self.disk.belong_to(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()
        process.wait(60)
        process.stdout.close()

    def start(self, *words: str, watched: bool = False) -> "Forked":
        """Start a command of fedmodel's, its output in a file.

        Args:
            words: of the command.
            watched: it says there, too, what is alive in it (:mod:`tests.rooms`).
        """
        self._count += 1
        log = self._folder / f"{words[0]}-{self._count}.log"
        pid = self._ask({"words": list(words), "log": str(log), "watched": watched})
        return Forked(self, pid, log)

    def code(self, pid: int) -> int | None:
        """Return how a process has ended; ``None``: it hasn't."""
        found: int | None = self._ask({"pid": pid})
        return found

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Forked:
    """One of the processes.

    Args:
        zygote: that it was forked from.
        pid: its number.
        log: file of its output.
    """

    def __init__(self, zygote: Zygote, pid: int, log: Path) -> None:
        self._zygote = zygote
        self.pid = pid
        self.log = log

    @property
    def said(self) -> str:
        """What it has said."""
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, seconds: float = 300.0) -> int:
        """Wait for its end; return its exit code, or the negative number of a signal."""
        end = time.monotonic() + seconds
        while (code := self._zygote.code(self.pid)) is None:
            if time.monotonic() > end:
                raise AssertionError(f"it hasn't ended: {self.said[-3000:]}")
            time.sleep(0.05)
        return code

    def wait_for(self, text: str, seconds: float = 300.0) -> None:
        """Wait until it has said something."""
        end = time.monotonic() + seconds
        while text not in self.said:
            code = self._zygote.code(self.pid)
            if time.monotonic() > end or (code is not None and text not in self.said):
                raise AssertionError(f"it hasn't said {text!r}: {self.said[-3000:]}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self) -> int:
        """Ask it to end, and wait for that."""
        self.signal(signal.SIGTERM)
        return self.wait(60)


def be() -> None:
    """Be the zygote: fork what is asked for on stdin, a line of JSON each."""
    import clients.join
    import clients.network
    import server.network
    import server.serve
    from fedmodel import cli
    from fedmodel.training import preflight

    assert all((clients, server, preflight))
    # What is collected later in a child would be copied to it, page by page, by being looked at.
    gc.collect()
    gc.freeze()
    codes: dict[int, int] = {}
    print("null", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "pid" in asked:
            print(json.dumps(_code(asked["pid"], codes)), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _become(cli.main, asked)
        _STARTED.add(pid)
        print(json.dumps(pid), flush=True)
    for pid in _alive(codes):
        os.kill(pid, signal.SIGKILL)


def _code(pid: int, codes: dict[int, int]) -> int | None:
    _reap(codes)
    return codes.get(pid)


_STARTED: set[int] = set()


def _alive(codes: dict[int, int]) -> list[int]:
    _reap(codes)
    return [pid for pid in _STARTED if pid not in codes]


def _reap(codes: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            codes[pid] = os.waitstatus_to_exitcode(status)


def _become(main: Any, asked: dict[str, Any]) -> None:
    code = 70
    try:
        file = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(file, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if asked["watched"]:
            watch_rooms()
        code = main(asked["words"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
