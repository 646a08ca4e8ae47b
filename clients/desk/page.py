"""Page on an offered job, for whoever must decide on it: who asks, what leaves, and what it costs.

It is a plain mapping, which is kept with the decision, and as text one that can be filed.
"""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from clients.desk.asked import Asked
from fedmodel import _hazmat, tasks
from fedmodel._escape import escaped
from fedmodel._paths import source_digest
from fedmodel.budget.figures import figures, said
from fedmodel.budget.statement import WhatIf
from fedmodel.job import Job, Stage

__all__ = ["SCHEMA", "Arrays", "brief_page", "make_page", "page_text"]

SCHEMA = "fedmodel.page/1"
_WIDTH = 96
_METHODS = {
    "head": "the classification head only",
    "lora": "LoRA adapters and the classification head",
    "ffa": "LoRA adapters with A frozen, and the classification head",
    "full": "all parameters",
}
_UNITS = {
    "record": "one record (a row of the data)",
    "patient": "one patient, with all of that patient's rows",
    "site": "the whole hospital, with all its rows",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """The arrays that a job trains, or why they can't be told.

    Args:
        shapes: name → shape.
        unknown: why there are none here; ``None`` where there are.
    """

    shapes: Mapping[str, Sequence[int]]
    unknown: str | None = None


def brief_page(asked: Asked) -> dict[str, Any]:
    """Return what is kept of an offer with a refusal or a revocation.

    They must always be possible, so nothing is read for it: no model, no ledger, and no job, which
    another version may have written.

    Args:
        asked: the offer.
    """
    return {
        "schema": "fedmodel.brief/1",
        "run": asked.run,
        "job": asked.job_sha256,
        "offered": asked.since,
        "purpose": asked.purpose,
    }


def make_page(
    asked: Asked, job: Job, arrays: Arrays, cost: WhatIf | None, *, capped: bool = True
) -> dict[str, Any]:
    """Return what whoever decides must know, as plain data.

    Args:
        asked: the offer.
        job: that is offered.
        arrays: that it trains.
        cost: what it would do to the ledger of the rows; ``None`` for a job that spends nothing.
        capped: whether the site's caps were known.
    """
    key = asked.coordinator
    return {
        "schema": SCHEMA,
        "run": asked.run,
        "job": asked.job_sha256,
        "offered": asked.since,
        "purpose": asked.purpose,
        "asked_by": {
            "consortium": asked.consortium,
            "coordinator": None if key is None else _hazmat.fingerprint(bytes.fromhex(key)),
        },
        "model": {
            "task": job.model.task,
            "source": job.model.path or job.model.source,
            "revision": job.model.revision,
            "weights": job.weights,
            "labels": list(job.model.labels),
            "trains": _METHODS[job.train.method],
        },
        "rounds": {
            "rounds": job.train.rounds,
            "steps": job.train.steps,
            "sites": job.federation.sites,
            "cohort": job.federation.cohort,
        },
        "privacy": _privacy(job),
        "leaves": [*_leaves(job, arrays)],
        "arrays": {name: list(shape) for name, shape in arrays.shapes.items()},
        "arrays_unknown": arrays.unknown,
        "budget": None if cost is None else figures(cost, capped=capped),
        "code": f"fedmodel {version('fedmodel')}, sources {source_digest()}",
    }


def _privacy(job: Job) -> dict[str, Any] | None:
    asked = job.privacy
    if not asked.private:
        return None
    return {
        "unit": asked.unit,
        "adjacency": asked.adjacency,
        "mechanism": asked.mechanism,
        "epsilon": asked.epsilon,
        "delta": asked.delta,
        "clip": asked.clip,
        "guess": guess(asked.epsilon, asked.delta),
    }


def guess(epsilon: float, delta: float) -> float:
    """Return how often the best guess is right at most, where half of all guesses would be.

    Somebody sees all that leaves, knows all but whether one unit was there, and has no inkling of
    that before. By the region of errors that (ε, δ) leaves (arXiv 1311.0776, theorem 2.1), both
    kinds of error add up to at least 2(1 − δ)/(1 + e^ε).
    """
    return 1 - (1 - delta) / (1 + math.exp(min(epsilon, 700.0)))


_GIVEN: dict[Stage, str] = {
    "mean": "the mean of the texts' vectors, and of how many rows it is",
    "class-sums": "the sum of each class's vectors, and how many rows it has",
    "steps": "the change of what is trained",
}


def _leaves(job: Job, arrays: Arrays) -> Iterator[dict[str, Any]]:
    numbers = sum(math.prod(shape) for shape in arrays.shapes.values())
    known = arrays.unknown is None
    bits = job.secagg.sums.bits if job.secagg.sums is not None else 32
    stages = [job.train.stage(round_) for round_ in range(1, job.train.rounds + 1)]
    for stage, what in _GIVEN.items():
        if stage in stages:
            yield {
                "what": what,
                "times": stages.count(stage),
                "arrays": len(arrays.shapes) if known else None,
                "numbers": numbers if known else None,
                "bytes": numbers * bits // 8 if known else None,
                "protection": _protection(job),
            }
    hidden = "none" if job.secagg.mode == "off" else "not noised; hidden as the change is"
    if job.aggregation.weights == "examples":
        yield _small("the number of training rows", job.train.rounds, hidden)
    if not job.privacy.private:
        yield _small("the mean training loss", job.train.rounds, hidden)
    if job.publishes_evaluation:
        counted = tasks.of(job.model.task).counted(job.model.labels)
        yield _small(
            f"counts on held-out rows: {', '.join(counted.names)}",
            1,
            "noise, paid for from the same ε",
        )
    if job.secagg.on:
        yield _small(
            "public keys, shares of mask secrets (each encrypted to one other site), signatures",
            job.train.rounds,
            "they unmask a sum of enough sites, once",
        )
    if job.privacy.private:
        yield _small(
            "the number of ledger entries and their signed hash",
            None,
            "no row; of other runs only how many entries they have made",
        )
    yield _small(
        "that this site takes part, or by which rule of its policy not; no figure of its ledger",
        None,
        "none",
    )


def _small(what: str, times: int | None, protection: str) -> dict[str, Any]:
    return {"what": what, "times": times, "protection": protection}


def _protection(job: Job) -> str:
    sums, privacy = job.secagg.sums, job.privacy
    said = []
    if privacy.mechanism == "dpsgd":
        said.append("noised at this site before it leaves")
    elif privacy.shared:
        said.append("with this site's share of the noise; the sum of all keeps the promise")
    else:
        said.append("not noised, and again whenever the coordinator has a round repeated")
    if sums is not None:
        said.append(
            f"masked: the coordinator learns only sums of at least {sums.survivors} sites, as long "
            f"as at most {sums.colluders} of them work together with it"
        )
    elif job.secagg.mode == "seal":
        said.append("encrypted to the coordinator, who reads it")
    else:
        said.append("read by the coordinator and by whatever carries it, but for the transport")
    return "; ".join(said)


# -- as text -------------------------------------------------------------------------------------


def page_text(page: Mapping[str, Any]) -> str:
    """Return a page as text for people. What others have written in it is escaped."""
    model, asked_by, rounds = page["model"], page["asked_by"], page["rounds"]
    who = asked_by["coordinator"]
    revision = f" at {model['revision']}" if model["revision"] else ""
    blocks = [
        ("Run", page["run"]),
        ("Purpose", page["purpose"] or "none given"),
        (
            "Asked by",
            f"coordinator {who} of {asked_by['consortium']}"
            if who
            else "a coordinator without key",
        ),
        ("Offered", page["offered"]),
        ("Base model", f"{model['source']}{revision} (weights, SHA-256: {model['weights']})"),
        ("Task", f"{model['task']}: {json.dumps(model['labels'], ensure_ascii=False)}"),
        ("Trains", model["trains"]),
        (
            "Rounds",
            f"{rounds['rounds']} of {rounds['steps']} steps; {rounds['cohort']} of "
            f"{rounds['sites']} sites in each",
        ),
        ("Privacy", _said_privacy(page["privacy"])),
        ("Budget", _said_budget(page["budget"], page["privacy"])),
        *((f"Leaves ({n})", _said_leaving(each)) for n, each in enumerate(page["leaves"], 1)),
        ("Never leaves", "rows, texts, labels of rows, patients' identifiers, keys, this ledger"),
        ("Arrays", _said_arrays(page)),
        ("Code", page["code"]),
        ("Job (SHA-256)", page["job"]),
    ]
    return "\n".join(_block(name, str(text)) for name, text in blocks)


def _block(name: str, text: str) -> str:
    head = f"{name:<16}"
    return textwrap.fill(
        escaped(text),
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


def _said_privacy(privacy: Mapping[str, Any] | None) -> str:
    if privacy is None:
        return (
            "NONE. What leaves may reveal facts about single rows, up to whole texts. Nothing is "
            "taken from the budget, and no ε limits what can be learned"
        )
    return (
        f"hides whether {_UNITS[privacy['unit']]} was in the training data "
        f"(ε = {privacy['epsilon']:g}, δ = {privacy['delta']:g}, neighbours by "
        f"{privacy['adjacency']}, {privacy['mechanism']}, clip norm {privacy['clip']:g}). Somebody "
        "who sees all that leaves, knows everything else and would guess by a coin, is right about "
        f"that in at most {math.ceil(1e4 * privacy['guess']) / 100:.2f} % of cases instead of 50 %"
    )


def _said_budget(budget: Mapping[str, Any] | None, privacy: Mapping[str, Any] | None) -> str:
    if privacy is None:
        return "nothing is spent, for nothing is promised"
    if budget is None:
        return f"ε = {privacy['epsilon']:g} on rows on which nothing has been spent"
    refusal = f". It would be REFUSED: {budget['refusal']}" if budget["refusal"] else ""
    return f"{said(budget)}{refusal}"


def _said_leaving(each: Mapping[str, Any]) -> str:
    times = "with every message" if each["times"] is None else f"{each['times']} ×"
    size = ""
    if each.get("bytes") is not None:
        size = f" ({each['arrays']} arrays, {each['numbers']:,} numbers, {each['bytes']:,} bytes)"
    return f"{times} {each['what']}{size}. Protection: {each['protection']}"


def _said_arrays(page: Mapping[str, Any]) -> str:
    if page["arrays_unknown"] is not None:
        return f"not known here: {page['arrays_unknown']}"
    shapes = page["arrays"].items()
    return "; ".join(f"{name} {' × '.join(map(str, shape))}" for name, shape in shapes)
