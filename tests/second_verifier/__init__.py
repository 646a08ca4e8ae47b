"""A second verifier of a run's records: written from docs/verify-formats.md, without our code.

It imports nothing of fedmodel: SHA-256 and JSON of the standard library, Ed25519 of `cryptography`,
and `dp_accounting` for ε. What it says is held against what `fedmodel verify` says.
"""

from pathlib import Path

from tests.second_verifier.bundle import check, unpack
from tests.second_verifier.coordinator import Told, cross
from tests.second_verifier.figures import completeness, model, summary
from tests.second_verifier.run import Finding, Run
from tests.second_verifier.sites import entries, plan


def verify(folder: Path) -> list[Finding]:
    """What contradicts something in a run's folder."""
    run = Run(folder)
    look(run)
    return run.findings


def verify_bundle(path: Path, into: Path, packer: str | None = None) -> list[Finding]:
    """What contradicts something in a bundle, which is unpacked into a folder."""
    run = Run(into)
    with run.reading("bundle", path.name):
        parts = unpack(path)
        check(run, parts, packer)
        for name, text in parts.items():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(text)
        look(run)
    return run.findings


def look(run: Run) -> None:
    """All checks, in order."""
    told = None
    with run.reading("schema", "the folder"):
        run.load()
        run.heads()
        for name, book in run.books.items():
            with run.reading("chain", name):
                entries(run, name, book)
            with run.reading("plan", name):
                plan(run, name, book)
        if run.own is not None:
            with run.reading("completeness", "the coordinator's ledger"):
                told = Told(run, run.own)
                told.read()
            for name, book in run.books.items():
                with run.reading("completeness", name):
                    cross(told, name, book)
        with run.reading("completeness", "metrics.jsonl"):
            completeness(run, told)
        with run.reading("epsilon", "summary.json"):
            summary(run)
        with run.reading("model", "the model"):
            model(run, told)
