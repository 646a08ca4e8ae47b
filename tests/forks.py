"""Processes that are forked from one that has imported everything: to be killed, or to be apart.

A fresh process spends seconds of CPU time on imports. So the process of the tests forks a server
once it has collected them and before any of them has run, and the server forks a process for each
call: a real one, with streams, a folder and a number of its own, that a signal ends. Where it is
shown that a process starts from nothing, there must be a fresh one instead.
"""

import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from fedmodel.cli import compose

__all__ = ["Child", "Forks"]

_LIMIT = 120.0  # seconds: a guard against hanging, not a measurement
# What verbs import when they run; the tests' own modules are there already.
_LATE = (
    "simulations.run",
    "clients.app",
    "fedmodel.training.dpsgd",
    "sklearn.metrics",
    "transformers.models.bert.modeling_bert",
)


class Child:
    """A process of its own: what runs a function of a module until it ends or is killed."""

    def __init__(self, forks: "Forks", pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._forks = forks
        self._code: int | None = None

    def ended(self) -> bool:
        """Return whether it has ended by itself, or been killed."""
        if self._code is None:
            self._code = self._forks.ask({"poll": self.pid})
        return self._code is not None

    def wait(self) -> int:
        """Return its exit code once it has ended (negative: the signal that killed it)."""
        limit = time.monotonic() + _LIMIT
        while not self.ended():
            if time.monotonic() > limit:
                self.kill()
                raise AssertionError("the process hangs")
            time.sleep(0.005)
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """Kill it: ``SIGKILL``."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, whatever it does."""
        self.kill()
        self.wait()
        self.stdin.close()
        self.stdout.close()


class Forks:
    """The server that forks, as the tests see it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(theirs)
        theirs.close()

    def start(
        self, function: str, args: Sequence[Any], cwd: Path, output: Path | None = None
    ) -> Child:
        """Start a process that calls a function and exits with what it returns.

        Args:
            function: ``module:name``.
            args: of the function; they travel as JSON.
            cwd: folder that the process works in.
            output: file that gets what it prints, errors too; a pipe, and errors where the tests'
                own go, unless given.
        """
        mine, stdin = os.pipe()[::-1]
        found, stdout = os.pipe()
        order: dict[str, Any] = {"function": function, "args": list(args), "cwd": str(cwd)}
        order["output"] = None if output is None else str(output)
        try:
            socket.send_fds(self._socket, [_line(order)], [stdin, stdout])
            pid = self._answer()
        finally:
            os.close(stdin)
            os.close(stdout)
        return Child(self, int(pid or 0), os.fdopen(mine, "wb"), os.fdopen(found, "rb"))

    def ask(self, order: dict[str, Any]) -> int | None:
        """Return what the server answers."""
        self._socket.sendall(_line(order))
        return self._answer()

    def close(self) -> None:
        """Stop the server."""
        self._socket.close()
        os.waitpid(self._pid, 0)

    def _answer(self) -> int | None:
        told = self._socket.recv(100)
        if not told:
            raise AssertionError("the process that forks has ended")
        answer: int | None = json.loads(told)
        return answer


def _line(order: dict[str, Any]) -> bytes:
    return json.dumps(order).encode()


def _serve(orders: socket.socket) -> NoReturn:
    """Fork a process for each order, until nobody asks any more; never return."""
    try:
        _alone(orders.fileno())
        for name in _LATE:
            importlib.import_module(name)
        compose("simulate", [])  # imports Hydra, and its grammar's tables
        gc.collect()
        gc.freeze()  # so that the processes share their memory with this one
        while True:
            message, streams, _, _ = socket.recv_fds(orders, 1 << 16, 2)
            if not message:
                break
            order = json.loads(message)
            if "poll" in order:
                pid, status = os.waitpid(order["poll"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            else:
                answer = os.fork()
                if answer == 0:
                    orders.close()
                    _call(order, streams)
                for stream in streams:
                    os.close(stream)
            orders.sendall(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _alone(kept: int) -> None:
    """Let go of all that belongs to the process of the tests: files, streams, logs, filters."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    logging.getLogger().handlers.clear()
    warnings.simplefilter("ignore")


def _call(order: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    code = 70
    try:
        os.chdir(order["cwd"])
        os.dup2(streams[0], 0)
        os.dup2(streams[1], 1)
        if order["output"] is not None:
            output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
        module, _, name = order["function"].partition(":")
        code = getattr(importlib.import_module(module), name)(*order["args"]) or 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
