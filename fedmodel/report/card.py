"""The model card of an exported folder, from the job and the run's summary."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from fedmodel import tasks
from fedmodel._escape import escaped
from fedmodel._text import show_epsilon
from fedmodel.runs import ReleasedAccuracy, Summary

__all__ = ["model_card"]

_NAME = re.compile(r"[\w ,'()-]+")
_METHODS = {
    "lora": "LoRA (arXiv 2106.09685) and the classification head",
    "ffa": "LoRA with A frozen (FFA-LoRA, arXiv 2403.12313) and the classification head",
    "full": "all parameters",
    "head": "the classification head only",
}


def model_card(
    job: Mapping[str, Any],
    summary: Summary,
    *,
    form: Literal["merged", "adapter"] = "merged",
    carries_code: bool = False,
    carries_base: bool = False,
) -> str:
    """Return ``README.md`` for an export: YAML front matter and Markdown.

    Args:
        job: the job as a plain mapping (``fedmodel.config.to_mapping``).
        summary: what came of the run.
        form: as in :func:`fedmodel.models.export`.
        carries_code: whether the folder holds ``modeling_fedmodel.py``.
        carries_base: whether an adapter's folder holds its base model too.
    """
    parts = [
        _front(job, form),
        _intro(job),
        _training(job, summary),
        _privacy(job, summary),
        _evaluation(_task(job).card, summary),
        _loading(job, form, carries_code, carries_base or carries_code),
        _limits(),
    ]
    return "\n\n".join(parts) + "\n"


def _task(job: Mapping[str, Any]) -> tasks.Task:
    return tasks.of(job["model"]["task"])


def _base(job: Mapping[str, Any]) -> str:
    model = job["model"]
    if model["source"] == "hub":
        return str(model["path"])
    return {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "tiny": "none (random weights)"}[
        model["source"]
    ]


def _hub_id(job: Mapping[str, Any]) -> str | None:
    name = _base(job)
    plain = job["model"]["source"] != "tiny" and not name.startswith((".", "/", "~"))
    return name if plain and name.count("/") <= 1 else None


def _front(job: Mapping[str, Any], form: str) -> str:
    # No `license`: that is for whoever publishes the model, and depends on the base model's.
    said = _task(job).card
    tags = ["fedmodel", "federated-learning", *said.tags]
    if job["privacy"]["mechanism"] != "none":
        tags.append("differential-privacy")
    lines = [f"library_name: {'peft' if form == 'adapter' else 'transformers'}"]
    lines += [f"pipeline_tag: {said.pipeline_tag}"]
    if (base := _hub_id(job)) is not None:
        lines += [f"base_model: {json.dumps(base)}"]
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _intro(job: Mapping[str, Any]) -> str:
    labels = ", ".join(_code(label) for label in job["model"]["labels"]) or "unknown"
    said = _task(job).card
    return (
        f"# {said.title} trained across sites with fedmodel\n\n"
        "The rows stayed at the sites that own them; the sites sent only parameter updates.\n\n"
        f"{said.outputs}: {labels}." + (f"\n\n{said.reading}" if said.reading else "")
    )


def _code(value: object) -> str:
    """Return text as inline code that can't break out of it, nor out of a table."""
    return (
        "`"
        + " ".join(escaped(str(value).replace("`", "'").replace("|", "/"), lines=True).split())
        + "`"
    )


def _plain(name: str) -> str:
    """Return a name of ours as it stands; one that isn't made of letters alone, as code."""
    return name if _NAME.fullmatch(name) else _code(name)


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _training(job: Mapping[str, Any], summary: Summary) -> str:
    model, train = job["model"], job["train"]
    revision = f" at {_code(model['revision'])}" if model.get("revision") else ""
    normal = ", scaled to length 1" if model["pooling"] == "mean" and model["normalize"] else ""
    pooling = "mean of the tokens" if model["pooling"] == "mean" else "the architecture's own head"
    rows = [
        ("Base model", _code(_base(job)) + revision),
        ("Pooling", pooling + normal),
        ("Tokens read", str(model["max_length"])),
        ("Trained", _METHODS[train["method"]]),
        ("Sites", str(job["federation"]["sites"])),
        ("Rounds", str(summary.rounds)),
        ("Steps of a site in a round", str(train["steps"])),
        ("Batch size", f"{train['batch_size']}{_expected(job)}"),
        ("Site optimiser", f"{train['optimizer']}, lr {train['lr']:g}, head {train['head_lr']:g}"),
        ("Aggregation", job["aggregation"]["optimizer"]),
        ("Job (SHA-256)", _code(summary.job_sha256)),
    ]
    return "## How it was trained\n\n" + _table(rows)


def _expected(job: Mapping[str, Any]) -> str:
    return " (expected; Poisson sampling)" if job["privacy"]["mechanism"] != "none" else ""


_WIDER = {
    "record": "with several rows",
    "patient": "who is a patient at several sites",
    "site": "who is a patient at several sites",
}
# What the claim holds against, and whose it is.
_MECHANISMS = {
    "dpsgd": "DP-SGD at each site",
    "distributed": "DP-SGD on all sites' rows together; noise in shares, secure sums",
    "site": "clipped updates of whole sites; noise in shares, secure sums",
}


def _privacy(job: Mapping[str, Any], summary: Summary) -> str:
    asked, spent = job["privacy"], summary.privacy
    if spent.epsilon is None or spent.delta is None:
        return (
            "## Privacy\n\n**No differential privacy.** The rows stayed at the sites, but the "
            "weights may still reveal facts about single rows. Treat the model as confidential as "
            "the data it was trained on."
        )
    rows = [
        ("Unit", f"one {_code(spent.unit)}"),
        ("Neighbouring datasets", f"{_code(spent.adjacency)} of one unit"),
        ("Mechanism", _MECHANISMS[spent.mechanism]),
        ("Clip norm", _number(asked["clip"])),
        ("ε spent (the worst site's)", show_epsilon(spent.epsilon)),
        *(
            (f"ε against: {_plain(name)}", show_epsilon(found))
            for name, found in spent.adversaries.items()
        ),
        ("ε allowed", _number(asked["epsilon"])),
        ("δ", _number(spent.delta)),
    ]
    return (
        "## Privacy\n\n"
        + _table(rows)
        + "\n\nWhat this says: whether or not any one unit was in the training data changes "
        "the probability of any outcome of the run by a factor of at most e^ε, up to δ.\n\n"
        f"What it doesn't say: it doesn't cover a person {_WIDER[spent.unit]}, facts shared by "
        "many rows, other runs on the same data (their ε add up), or "
        "settings chosen by looking at the data. It holds if the sites ran the code unchanged."
    )


def _evaluation(said: tasks.Card, summary: Summary) -> str:
    if summary.privacy.private and summary.test == "held out from the sites":
        return "## Evaluation\n\n" + _released(said, summary.released)
    if not summary.final:
        return "## Evaluation\n\nNo evaluation was recorded."
    rows = [(_metric(said, name), _number(value)) for name, value in summary.final.items()]
    return "## Evaluation\n\nOn the run's test set:\n\n" + _table(rows)


def _metric(said: tasks.Card, name: str) -> str:
    """Return words for a metric; one of a single label is named by both, with a dot between."""
    words = {
        "majority": f"accuracy of {said.majority}",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "f1": "F1",
    }
    kind, dot, label = name.partition(".")
    if not dot:
        return words.get(name, _code(name))
    return f"{words.get(kind, _plain(kind))} of {_code(label)}"


def _released(said: tasks.Card, released: ReleasedAccuracy | None) -> str:
    """Say what the sites told of their own test rows; the exact figures aren't for publishing."""
    rows = _released_rows(said, released) if released is not None else []
    if not rows:
        return (
            "The test rows were the sites' own, and no figure on them was released under "
            "differential privacy."
        )
    return "On rows held out at the sites, covered by the ε above:\n\n" + _table(rows)


def _released_rows(said: tasks.Card, released: ReleasedAccuracy) -> list[tuple[str, str]]:
    """Return what the noise doesn't swamp."""
    rows: list[tuple[str, str]] = []
    if released.accuracy is not None and released.standard_error is not None:
        rows = [
            ("accuracy, from noised counts", _number(released.accuracy)),
            ("its standard error from the noise", _number(released.standard_error)),
        ]
    for name, score in released.scores.items():
        if score.value is not None and score.standard_error is not None:
            found = f"{_number(score.value)} ± {_number(score.standard_error)}"
            rows.append((f"{_metric(said, name)}, likewise", found))
    return rows


def _loading(job: Mapping[str, Any], form: str, code: bool, carried: bool) -> str:
    trust = ", trust_remote_code=True" if code else ""
    base = json.dumps(_base(job))
    head = _task(job).head
    auto = head.auto_class
    lines = [f"from transformers import {auto}, AutoTokenizer", ""]
    lines += ['folder = "."  # where this file lies']
    if form == "adapter" and not carried:
        count = len(job["model"]["labels"])
        where = f'{base}, num_labels={count}, problem_type="{head.problem_type}"'
        lines.insert(0, "from peft import PeftModel")
        lines += [f"base = {auto}.from_pretrained({where})"]
        lines += ["model = PeftModel.from_pretrained(base, folder)"]
    else:  # an adapter beside its base model comes with it
        lines += [f"model = {auto}.from_pretrained(folder{trust})"]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(folder)"]
    block = "\n".join(["## How to load it", "", "```python", *lines, "```"])
    if not code:
        return block + "\n\nThe folder holds no code."
    return block + (
        "\n\n`trust_remote_code=True` lets transformers run `modeling_fedmodel.py` from this "
        "folder (mean pooling and a linear head). Read it first: it is short and imports only "
        "torch and transformers."
    )


def _limits() -> str:
    return (
        "## Limits\n\n"
        "- Not a medical device. Check it on your own data before any use that touches a person.\n"
        "- It was evaluated only as shown above; sites, groups and times that weren't in the data "
        "can fare worse.\n"
        "- Differential privacy costs accuracy, and more for rare classes.\n"
        "- The licence is that of the base model and of whoever publishes this; none is set here."
    )
