"""Flower's own network: a SuperLink and two SuperNodes as processes, which carry the same apps."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simulations.benchmarks.transport_processes import Actor, Processes, waited

__all__ = ["available", "flower"]

_PROGRAMS = ("flower-superlink", "flower-supernode", "flwr")
_PROJECT = """[project]
name = "echo"
version = "1.0.0"
description = "Sends back what comes."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "echo:server"
clientapp = "echo:client"

[tool.flwr.app.config]
socket = ""
"""
# Flower looks for the names in the text, and doesn't find what is imported.
_APP = """from simulations.benchmarks import transport_app

server = transport_app.server
client = transport_app.client
"""
_STARTING_S = 120.0


def available() -> bool:
    """Whether Flower's programs are installed."""
    return all(_program(name) for name in _PROGRAMS)


def _program(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def environment(home: Path) -> dict[str, str]:
    """Return what Flower's processes go by: nothing leaves this machine, nothing is installed."""
    bins = f"{Path(sys.executable).parent}"
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": f"{bins}:/usr/local/bin:/usr/bin:/bin",
    }


@contextmanager
def flower(folder: Path) -> Iterator[tuple[Actor, list[int]]]:
    """Run it; yield its ServerApp, which obeys, and the ids of SuperLink and SuperNodes.

    Args:
        folder: for its files.

    Raises:
        TimeoutError: when it doesn't start; its logs are in the folder.
    """
    ports = _free_ports(3)
    _write_app(folder, ports[0])
    env = environment(folder)
    actor = Actor(folder / "socket")
    try:
        with Processes(folder, env) as processes:
            link = ["--insecure", "--port", str(ports[0])]
            pids = [processes.start("superlink", [_PROGRAMS[0], *link])]
            waited(lambda: _listens(ports[0]), _STARTING_S, f"no SuperLink; see {folder}")
            for i, port in enumerate(ports[1:]):
                there = ["--insecure", "--superlink", f"127.0.0.1:{ports[0]}", "--port", str(port)]
                pids.append(processes.start(f"supernode-{i}", [_PROGRAMS[1], *there]))
            _submit(folder, actor, env)
            actor.accept(_STARTING_S)
            yield actor, pids
            actor.close()
    finally:
        actor.close()


def _write_app(folder: Path, port: int) -> None:
    app = folder / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(_PROJECT)
    (app / "echo.py").write_text(_APP)
    (folder / "config.toml").write_text(
        '[superlink]\ndefault = "here"\n\n[superlink.here]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )


def _submit(folder: Path, actor: Actor, env: dict[str, str]) -> None:
    config = f'socket="{actor.path}"'
    command = [str(_program("flwr")), "run", str(folder / "app"), "here", "--run-config", config]
    with open(folder / "run.log", "wb") as log:
        subprocess.run(command, check=True, timeout=_STARTING_S, env=env, stdout=log, stderr=log)


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    try:
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
    finally:
        for each in taken:
            each.close()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
