"""A run folder of many rounds and sites that nobody has trained in: its records are as real ones.

Ledgers are written line by line by what writes them in a run, and chained and signed by keys made
for it; what the coordinator says goes with them.
"""

from pathlib import Path

import numpy as np

from fedmodel.accounting.claims import claim
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.job import Federation, Job, Model, Privacy, ProposedSecAgg, SecAgg, Train
from fedmodel.job.secagg import masked_sums
from fedmodel.ledger import (
    DatasetEntry,
    GiveBackEntry,
    OpenEntry,
    OutcomeEntry,
    Request,
    SpendEntry,
    part_of,
)
from fedmodel.ledger.fields import real
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.lines import encode
from fedmodel.ledger.site_line import Begun
from fedmodel.report.figures import hiding, privacy_summary
from fedmodel.runs import RunFolder, RunTime, SiteSummary, Summary, Traffic, manifest_of
from fedmodel.update import vector_sha256
from simulations.benchmarks.verify_coordinator import Coordinator, model_after, update_of
from simulations.benchmarks.verify_lines import Written

__all__ = ["make_run"]


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
    model = np.zeros(1, np.float32)
    ledgers = [Written(name, "main", encode) for name in names]
    coordinator = Coordinator(folder, job, ledgers, vector_sha256(model))
    for ledger in ledgers:
        _begin(ledger, folder.run, job, plan)
    for number in range(1, rounds + 1):
        for manifest in coordinator.asks(number):
            seen = Begun(
                model=model_after(number - 1),
                entries=len(coordinator.ledger.lines),
                root=coordinator.ledger.root,
            )
            for ledger in ledgers:
                _train(ledger, _spend(folder.run, job, plan, number, seen), manifest)
    for ledger in ledgers:
        ledger.append(GiveBackEntry(reservation=2, run=folder.run, job=job.sha256, by="site"))
        folder.ledger(ledger.party).parent.mkdir(exist_ok=True)
        folder.ledger(ledger.party).write_bytes(ledger.text)
    coordinator.end()
    heads = {ledger.party: ledger.head() for ledger in ledgers}
    folder.tree_heads.write_bytes(heads_text(heads))
    whole = {"updates": sites, "asked": sites, "failures": {}}
    folder.write_metrics([{"round": number, **whole} for number in range(1, rounds + 1)])
    folder.write_model({"head": model})
    folder.write_summary(_summary(job, plan, names))
    return path


def _begin(ledger: Written, run: str, job: Job, plan: Plan) -> None:
    key = ledger.key.public.hex()
    ledger.append(OpenEntry(ledger=ledger.name, key=key, site=ledger.party, dataset="main"))
    ledger.append(DatasetEntry(root="0" * 64, rows=1000, patients=None, added=1000, removed=0))
    ledger.append(Request.of(plan).entry(run=run, job=job.sha256, code="a benchmark"))


def _spend(run: str, job: Job, plan: Plan, round_: int, seen: Begun) -> SpendEntry:
    part = part_of(plan, plan.spend(round_))
    return SpendEntry(
        reservation=2,
        run=run,
        job=job.sha256,
        kind=part.kind,
        mechanism=part.mechanism,
        round=round_,
        attempt=1,
        rate=part.rate,
        noise_multiplier=part.noise_multiplier,
        steps=part.steps,
        clip=real(plan.clip),
        unit=plan.unit,
        adjacency=plan.adjacency,
        delta=real(plan.delta),
        model=seen.model,
        coordinator_entries=seen.entries,
        coordinator_root=seen.root,
    )


def _train(ledger: Written, spend: SpendEntry, manifest: str) -> None:
    """Write that steps are charged, and what came of them."""
    ledger.append(spend)
    ledger.append(
        OutcomeEntry(
            of=len(ledger.lines) - 1,
            run=spend.run,
            job=spend.job,
            kind=spend.kind,
            round=spend.round,
            attempt=1,
            result="given",
            update=update_of(ledger.party, spend.round),
            manifest=manifest,
            steps=spend.steps,
        )
    )


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
