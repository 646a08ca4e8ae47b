"""Runs of every kind, played as small as they go, and what of a run folder is kept of each.

Write the golden folders anew with ``python -m tests.fedmodel.audit.played FOLDER``.
"""

import functools
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmodel import cli

SMALL = (
    "train=head",
    "debug=fast",
    "device=cpu",
    "data.rows=120",
    "data.test_rows=20",
    "federation.sites=3",
    "model.max_length=16",
)
FIVE = ("federation.sites=5", "data.rows=200")
KINDS: dict[str, Sequence[str]] = {
    "record": ("privacy=record", "privacy.decay=1.5", "data.test_rows=0", "budget.epsilon=9"),
    "none": ("privacy=none",),
    "patient": ("privacy=patient", "privacy.adjacency=replace", "privacy.clipping=adaptive"),
    "distributed": ("privacy=distributed", *FIVE),
    "site": ("privacy=site", *FIVE),
    "on": ("privacy=record", "secagg=on", *FIVE),
    "seal": ("privacy=record", "secagg=seal"),
    "resumed": ("privacy=record", "train.rounds=3", "data.test_rows=0"),
    "interrupted": ("privacy=record", "train.rounds=3", "data.test_rows=0"),
    "repeated": ("privacy=distributed", *FIVE),
    "dropouts": ("privacy=record", "train.rounds=3", "federation.quorum=0.3"),
    "skipped": (
        *("privacy=record", "federation.quorum=1", "federation.below_quorum=skip"),
        "data.test_rows=0",
    ),
    "recovered": ("privacy=record", "secagg=on", *FIVE),
    "lost": ("privacy=distributed", *FIVE),
    "shared": ("privacy=record", "state=state"),
    "handed-in": ("privacy=record", "privacy.epsilon=4"),
    "served": ("privacy=record", "privacy.epsilon=4"),
    "handed-shared": ("privacy=distributed", "privacy.epsilon=4"),
    "means": ("privacy=record", "train.rounds=4", "data.test_rows=0"),
}
# After what the coordinator dies: a round, a sum that it was about to unmask, or all its consents.
_DIES = {
    "resumed": ("server.progress", "Progress", "finish"),
    "interrupted": ("server.progress", "Progress", "finish"),
    "recovered": ("server.own_ledger", "OwnLedger", "unmasks"),
    "lost": ("fedmodel.secagg.aggregator", "Attempt", "close_consents"),
}
# What a verifier may look at; secrets and what only a running party needs are left out.
_KEPT = (
    "manifest.json",
    "metrics.jsonl",
    "summary.json",
    "heads.json",
    "ledger/*.jsonl",
    "sites/*/heads/*.json",
    "sites/*/runs/*/coordinator-head.json",
    "model/trained.safetensors",
    "rosters/*.json",
    "coordinator.jsonl",
    "coordinator-head.json",
)


def play(kind: str, folder: Path) -> Path:
    """Play a run of a kind in a folder, and return the run's own."""
    start = "means" if kind == "means" else "zero"
    args = ["simulate", *SMALL, f"train.start={start}", *KINDS[kind]]
    if kind in ("served", "handed-in", "handed-shared"):
        return _served(folder, kind)
    with _inside(folder):
        if kind == "shared":
            _simulate([*args, "run=before"])
        args.append(f"run={kind}")
        if kind in _DIES:
            _interrupted(args, *_DIES[kind])
            args.append("resume=true")
        if kind != "interrupted":
            with _faults(kind):
                _simulate(args)
    return folder / "runs" / kind


def _served(folder: Path, kind: str) -> Path:
    """Serve a run to three sites in folders of their own; one refuses, unless they share the noise.

    The others hand in their ledgers, or don't.
    """
    from fedmodel.cli.jobs import compose_all
    from server import serve
    from tests.deployed import EACH, LABELS, Deployed

    with _inside(folder):
        deployed = Deployed(Path.cwd(), held_out=True)
        sites = {"handed-in": ("site-1", "site-3"), "handed-shared": deployed.names}.get(kind, ())
        if kind != "handed-shared":
            deployed.fill("site-2", "epsilon: null  # largest", "epsilon: 3.5  # largest")
        args = [f"model.labels={LABELS}", f"home={deployed.coordinator}", f"run={kind}"]
        args += [
            "train=head",
            "train.start=zero",
            "train.rounds=2",
            "train.steps=1",
            "train.batch_size=8",
        ]
        args += ["model.max_length=16", "federation.min_rows=1", f"declared.units={EACH}"]
        (job,) = compose_all("serve", [*args, *KINDS[kind]])
        if serve.main(job.mapping, job.given, carrier=deployed.carry) != 0:
            raise RuntimeError("serving failed")
        for site in sites:
            ledger = Path("runs") / kind / "ledger" / f"{site}.jsonl"
            ledger.parent.mkdir(exist_ok=True)
            shutil.copyfile(deployed.state / site / "ledgers" / "main.jsonl", ledger)
            (shown,) = (deployed.state / site).glob("runs/*/coordinator-head.json")
            copy = Path("runs") / kind / "sites" / site / shown.relative_to(deployed.state / site)
            copy.parent.mkdir(parents=True)
            shutil.copyfile(shown, copy)
    return folder / "runs" / kind


def keep(run: Path, to: Path) -> None:
    """Copy what is kept of a run's folder; of its checkpoints that is in the last one."""
    last = max(run.glob("checkpoints/*"))
    found = [path for pattern in _KEPT for path in run.glob(pattern)]
    for path in (*found, last / "state.json", last / "model.safetensors"):
        copy = to / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _simulate(args: list[str]) -> None:
    if cli.main(args) != 0:
        raise RuntimeError(f"{' '.join(args)} failed")


def _interrupted(args: list[str], module: str, name: str, method: str) -> None:
    """Begin a run, and let its coordinator die when it has done something for the first time."""
    owner = getattr(importlib.import_module(module), name)
    real = getattr(owner, method)

    def last(self: Any, *rest: Any) -> None:
        real(self, *rest)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, last)
        if cli.main(args) == 0:
            raise RuntimeError("the run wasn't interrupted")


@contextmanager
def _faults(kind: str) -> Iterator[None]:
    """Lose messages: an order and a reply, or so many in an attempt that its sum isn't opened."""
    from simulations import play as playing
    from simulations import run as run_verb
    from simulations.faults import Fault, FaultyGrid

    lost = {
        "dropouts": [
            Fault(what="there", kind="train", node=2, times=(1,)),
            Fault(what="back", kind="train", node=3, times=(2,)),
        ],
        "skipped": [Fault(what="back", kind="train", node=2, times=(1,))],
        # A reply that is lost is asked for once more.
        "repeated": [Fault(what="back", kind="train", node=n, times=(1, 2)) for n in (2, 3)],
    }
    grid = functools.partial(FaultyGrid, faults=lost.get(kind, ()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_verb, "play", functools.partial(playing.play, grid=grid))
        yield


def write(to: Path, kinds: Sequence[str] = ()) -> None:
    """Play runs, of all kinds by default, and keep what a verifier looks at."""
    to = to.resolve()
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            run = play(kind, Path(folder))
            shutil.rmtree(to / kind, ignore_errors=True)
            keep(run, to / kind)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:])
