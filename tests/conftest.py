"""What all tests share."""

import gc
import hashlib
import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

import pytest
from _pytest.doctest import DoctestModule

from fedmodel.seeds import Entropy
from tests.examples import register_profiles
from tests.forks import Forks
from tests.habits import leave_off
from tests.hydra_once import read_files_once

if TYPE_CHECKING:
    from fedmodel.runs import RunFolder

# The process that only hands out tests to others imports this file, too: what is slow to import is
# imported where it is used.
leave_off()
register_profiles()
gc.disable()  # of what is imported and collected hardly anything is garbage


_forks: list[Forks] = []


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Leave the tests' own modules unsearched for examples: their docstrings have none."""
    return [found for found in (yield) if not isinstance(found, DoctestModule)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave a test marked ``sample(n)`` n of its cases, the first and the last; others are slow.

    Of one case it is the first.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample") and not item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for group in cases.values():
        marker = group[0].get_closest_marker("sample")
        count, last = marker.args[0] if marker else 0, len(group) - 1
        kept = {round(i * last / max(count - 1, 1)) for i in range(count)}
        for place, item in enumerate(group):
            if place not in kept:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Fork the process that forks, if a test needs it, before a test has changed anything."""
    gc.enable()
    if session.items:
        import torch

        # Threads that wait for one another cost minutes on tiny models when cores are busy.
        torch.set_num_threads(1)
        read_files_once()
    needed = any("forks" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        _forks.append(Forks())


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    # What is imported stays, and to look through it for garbage takes 0.2 s each time.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """End the process that forks; of several workers, one or none has asked it for anything."""
    while _forks:
        _forks.pop().close()


@pytest.fixture(scope="session")
def forks() -> Forks:
    """Start processes that need not import everything first."""
    return _forks[0]


@pytest.fixture(autouse=True)
def _identity() -> None:
    from flwr.supercore.task_identity import TaskIdentity

    # A Flower message can't be made without one; a grid sets its own.
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


@pytest.fixture
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal secrets at the least cost that is read; what it is otherwise has a test of its own."""
    from fedmodel.identity import keyfile

    *others, _ = keyfile.secret_text.__defaults__ or ()
    cheap = keyfile.Scrypt(n=1 << 14)
    monkeypatch.setattr(keyfile.secret_text, "__defaults__", (*others, cheap))


class FakeEntropy(Entropy):
    """Bytes that repeat from run to run, so that a statistical test can't flake."""

    def __init__(self, seed: int = 0) -> None:
        self._state = hashlib.sha256(str(seed).encode()).digest()

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self._state = hashlib.sha256(self._state).digest()
            out += self._state
        return out[:count]


@pytest.fixture
def fake() -> Entropy:
    return FakeEntropy()


def new_run(path: Path, **changes: Any) -> "RunFolder":
    """Make a run folder whose manifest nobody looks at, but for what is changed of it."""
    from fedmodel.runs import Machine, Manifest, RunFolder

    manifest = Manifest(
        run=f"{path.name}-{os.urandom(4).hex()}",
        created="2026-01-01T00:00:00+00:00",
        fedmodel="0",
        python="3.11",
        packages={},
        machine=Machine(cpus=None, platform="none"),
        job_sha256="0" * 64,
        rows_sha256=None,
        job={},
        config={},
    )
    return RunFolder.create(path, replace(manifest, **changes))
