"""A run folder of many rounds and sites that nobody has trained in: its records are as real ones.

Ledgers are written line by line by what writes them in a run, and chained and signed by keys made
for it; what the coordinator says goes with them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmodel import _hazmat
from fedmodel.accounting.claims import claim
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.identity.keys import SigningKey
from fedmodel.job import Federation, Job, Model, Privacy, ProposedSecAgg, SecAgg, Train
from fedmodel.job.secagg import masked_sums
from fedmodel.ledger import (
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OpenEntry,
    Request,
    SpendEntry,
    merkle,
    part_of,
)
from fedmodel.ledger.fields import real
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.lines import encode
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.report.figures import hiding, privacy_summary
from fedmodel.runs import RunFolder, RunTime, SiteSummary, Summary, Traffic, manifest_of
from fedmodel.update import vector_sha256
from simulations.benchmarks.verify_coordinator import key_of, write_coordinator

__all__ = ["make_run"]

_TIME = "2026-01-01T00:00:00Z"


def make_run(
    path: Path, *, rounds: int, sites: int, decay: float = 1.0, sums: bool = False
) -> Path:
    """Write a run folder.

    Args:
        path: of the folder, which doesn't exist.
        rounds: of the run.
        sites: each of which has taken part in every round.
        decay: of the noise over the rounds; with 1 all spends are alike.
        sums: whether the coordinator got sums only, to each of which every site has consented.
    """
    secagg = SecAgg()
    if sums:
        secagg = SecAgg(mode="on", sums=masked_sums(ProposedSecAgg(mode="on"), sites=sites))
    job = Job(
        model=Model(labels=("a", "b")),
        weights="0" * 64,
        train=Train(rounds=rounds),
        privacy=Privacy(mechanism="dpsgd", rate=0.01, decay=decay),
        federation=Federation(sites=sites),
        secagg=secagg,
    )
    plan, folder = plan_of(job), RunFolder.create(path, manifest_of("benchmark", job))
    names = [f"site-{number:03}" for number in range(1, sites + 1)]
    heads, lines_of = {}, {}
    for name in names:
        key = key_of(name)
        lines = lines_of[name] = list(_lines(name, key, folder.run, job, plan))
        folder.ledger(name).parent.mkdir(exist_ok=True)
        folder.ledger(name).write_bytes(b"".join(line + b"\n" for line in lines))
        heads[name] = _head(key, lines)
    folder.tree_heads.write_bytes(heads_text(heads))
    whole = {"updates": sites, "asked": sites, "failures": {}}
    folder.write_metrics([{"round": number, **whole} for number in range(1, rounds + 1)])
    model = np.zeros(1, np.float32)
    folder.write_model({"head": model})
    write_coordinator(folder, job, lines_of, vector_sha256(model))
    folder.write_summary(_summary(job, plan, names))
    return path


def _lines(name: str, key: SigningKey, run: str, job: Job, plan: Plan) -> Iterator[bytes]:
    last = "0" * 64
    for number, entry in enumerate(_entries(name, key, run, job, plan)):
        nonce = hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:32]
        line = encode(replace(entry, seq=number, prev=last, nonce=nonce, time=_TIME))
        last = hashlib.sha256(line).hexdigest()
        yield line


def _entries(name: str, key: SigningKey, run: str, job: Job, plan: Plan) -> Iterator[Entry]:
    ledger = f"{_hazmat.fingerprint(key.public)}/main"
    yield OpenEntry(ledger=ledger, key=key.public.hex(), site=name, dataset="main")
    yield DatasetEntry(root="0" * 64, rows=1000, patients=None, added=1000, removed=0)
    yield Request.of(plan).entry(run=run, job=job.sha256, code="a benchmark")
    for number in range(1, plan.rounds + 1):
        part = part_of(plan, plan.spend(number))
        yield SpendEntry(
            reservation=2,
            run=run,
            job=job.sha256,
            kind=part.kind,
            mechanism=part.mechanism,
            round=number,
            attempt=1,
            rate=part.rate,
            noise_multiplier=part.noise_multiplier,
            steps=part.steps,
            clip=real(plan.clip),
            unit=plan.unit,
            adjacency=plan.adjacency,
            delta=real(plan.delta),
        )
    yield GiveBackEntry(reservation=2, run=run, job=job.sha256, by="site")


def _head(key: SigningKey, lines: list[bytes]) -> TreeHead:
    head = TreeHead(
        ledger=f"{_hazmat.fingerprint(key.public)}/main",
        key=key.public.hex(),
        size=len(lines),
        root=merkle.root_of([merkle.leaf_hash(line) for line in lines]).hex(),
        last=hashlib.sha256(lines[-1]).hexdigest(),
        time=_TIME,
    )
    return head.signed(key)


def _summary(job: Job, plan: Plan, names: list[str]) -> Summary:
    cost = claim(plan.spends(), plan.delta, plan.adjacency).epsilon
    site = SiteSummary(epsilon=cost, epsilon_total=cost, steps=plan.total_steps, refused=None)
    return Summary(
        job_sha256=job.sha256,
        rounds=plan.rounds,
        stopped=None,
        test="public",
        final={"loss": 1.0},
        released=None,
        privacy=privacy_summary(job, dict.fromkeys(names, site), (), 1),
        secagg=hiding(job),
        notes=(),
        time=RunTime(total_s=1.0, train_s=1.0, overhead_s=0.0),
        traffic=Traffic(bytes_up=0, bytes_down=0),
    )
