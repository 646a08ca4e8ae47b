"""The model card of an exported folder, from the job and the run's summary."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedmodel import tasks
from fedmodel._escape import escaped
from fedmodel._text import show_epsilon
from fedmodel.report.markdown import code, number, plain, table
from fedmodel.report.particulars import Particulars
from fedmodel.report.results import data, evaluation, misleading
from fedmodel.report.usage import Exported, library, usage
from fedmodel.runs import Summary

__all__ = ["model_card"]

_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
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
    folder: Exported = Exported(),  # noqa: B008 - frozen
    particulars: Particulars = Particulars(),  # noqa: B008 - frozen
    rounds: Sequence[Mapping[str, Any]] = (),
    year: str | None = None,
) -> str:
    """Return ``README.md`` for an export: YAML front matter and Markdown.

    Args:
        job: the job as a plain mapping (``fedmodel.config.to_mapping``).
        summary: what came of the run.
        folder: what is in the folder.
        particulars: what whoever publishes the model says of it.
        rounds: metrics of the finished rounds, in order.
        year: in which it was trained.
    """
    task = _task(job)
    parts = [
        _front(job, folder, particulars),
        _intro(job),
        usage(
            folder,
            task,
            tokens=job["model"]["max_length"],
            labels=job["model"]["labels"],
            base=(_base(job), job["model"].get("revision")),
        ),
        data(job, summary, particulars),
        _training(job, summary),
        _privacy(job, summary),
        evaluation(task.card, summary, particulars),
        misleading(summary, rounds, particulars),
        _limits(particulars),
        _citing(job, summary, particulars, year),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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


def _shown_base(job: Mapping[str, Any]) -> str:
    """Return the base model for a reader elsewhere: of a folder its name, but not where it was."""
    if job["model"]["source"] == "tiny" or _hub_id(job) is not None:
        return code(_base(job))
    return code(_base(job).rstrip("/").rsplit("/", 1)[-1]) + ", a folder of whoever trained this"


def _front(job: Mapping[str, Any], folder: Exported, particulars: Particulars) -> str:
    said = _task(job).card
    tags = ["fedmodel", "federated-learning", *said.tags]
    if job["privacy"]["mechanism"] != "none":
        tags.append("differential-privacy")
    # None is guessed: that is for whoever publishes the model, and depends on the base model's.
    name = particulars.license
    lines = [
        f"license: {_word(name)}" if name else "# license: fill in; what does the base model allow?"
    ]
    lines += [f"library_name: {library(folder.form)}", f"pipeline_tag: {said.pipeline_tag}"]
    if (base := _hub_id(job)) is not None:
        lines += [f"base_model: {json.dumps(base)}"]
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _word(name: str) -> str:
    """Return a name as text in any version of YAML: ``no`` and ``1.0`` are none without quotes."""
    plain = name[0].isalpha() and name not in _YAML_WORDS
    return name if plain else json.dumps(name)


def _intro(job: Mapping[str, Any]) -> str:
    labels = ", ".join(code(label) for label in job["model"]["labels"]) or "unknown"
    said = _task(job).card
    return (
        f"# {said.title} trained across sites with fedmodel\n\n"
        "The rows stayed at the sites that own them; the sites sent only parameter updates.\n\n"
        f"{said.outputs}: {labels}." + (f"\n\n{said.reading}" if said.reading else "")
    )


def _training(job: Mapping[str, Any], summary: Summary) -> str:
    model, train = job["model"], job["train"]
    revision = f" at {code(model['revision'])}" if model.get("revision") else ""
    normal = ", scaled to length 1" if model["pooling"] == "mean" and model["normalize"] else ""
    pooling = "mean of the tokens" if model["pooling"] == "mean" else "the architecture's own head"
    rows = [
        ("Base model", _shown_base(job) + revision),
        ("Pooling", pooling + normal),
        ("Tokens read", str(model["max_length"])),
        ("Trained", _METHODS[train["method"]] + _started(train)),
        ("Sites", str(job["federation"]["sites"])),
        ("Rounds", str(summary.rounds)),
        ("Steps of a site in a round", str(train["steps"])),
        ("Batch size", f"{train['batch_size']}{_expected(job)}"),
        ("Site optimiser", f"{train['optimizer']}, {_rates(train)}"),
        ("Aggregation", job["aggregation"]["optimizer"]),
        ("Seed", f"{job['seed']}: {_SEEDED}{_DRAWN if summary.privacy.private else ''}"),
        ("Job (SHA-256)", code(summary.job_sha256)),
    ]
    return "## How it was trained\n\n" + table(rows)


_SEEDED = (
    "of first weights, and in a simulation of which rows go to which site and are held out; "
    "without privacy of the order of batches too"
)
_DRAWN = ". Noise, and which rows a private step takes, are drawn from the system and never by it"


def _started(train: Mapping[str, Any]) -> str:
    means = train.get("start", "zero") == "means"
    return ", from class means that the first rounds released" if means else ""


def _rates(train: Mapping[str, Any]) -> str:
    """Return the learning rates; with the head alone there is one."""
    if train["method"] == "head":
        return f"lr of the head {train['head_lr']:g}"
    return f"lr {train['lr']:g}, head {train['head_lr']:g}"


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
_MOST = {"ledgers": "", "plan": ", at most"}
_NEIGHBOURS = {
    "add-remove": "whether or not any one unit was in the training data",
    "replace": "exchanging any one unit of the training data for another",
}
_CLIPPINGS = {
    "flat": "",
    "per-layer": ", shared out to the layers",
    "adaptive": " at first, then it follows a quantile of the norms",
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
        ("Unit", f"one {code(spent.unit)}"),
        ("Neighbouring datasets", f"{code(spent.adjacency)} of one unit"),
        ("Mechanism", _MECHANISMS[spent.mechanism]),
        ("Clip norm", number(asked["clip"]) + _CLIPPINGS[asked["clipping"]]),
        (f"ε spent{_MOST[spent.basis]} (the worst site's)", show_epsilon(spent.epsilon)),
        *(
            (f"ε against: {plain(name)}{_MOST[spent.basis]}", show_epsilon(found))
            for name, found in spent.adversaries.items()
        ),
        ("ε allowed", number(asked["epsilon"])),
        ("δ", number(spent.delta)),
    ]
    return (
        "## Privacy\n\n"
        + table(rows)
        + f"\n\nWhat this says: {_NEIGHBOURS[spent.adjacency]} changes "
        "the probability of any outcome of the run by a factor of at most e^ε, up to δ.\n\n"
        f"What it doesn't say: it doesn't cover a person {_WIDER[spent.unit]}, facts shared by "
        "many rows, other runs on the same data (their ε add up), or "
        "settings chosen by looking at the data. It holds if the sites ran the code unchanged."
    )


def _limits(particulars: Particulars) -> str:
    licence = (
        "The licence is that of the base model and of whoever publishes this; none is set here."
    )
    if particulars.license:
        licence = (
            f"Licence: {particulars.license}, by the word of whoever publishes this; the base "
            "model's own goes on."
        )
    return (
        "## Limits\n\n"
        "- Not a medical device. Check it on your own data before any use that touches a person.\n"
        "- It was evaluated only as shown above; sites, groups and times that weren't in the data "
        "can fare worse.\n"
        "- Differential privacy costs accuracy, and more for rare classes.\n"
        f"- {licence}"
    )


def _citing(
    job: Mapping[str, Any], summary: Summary, particulars: Particulars, year: str | None
) -> str:
    authors = particulars.authors or "fill in: who publishes this model"
    lines = [
        f"@misc{{fedmodel-{summary.job_sha256[:12]},",
        f"  title = {{{_task(job).card.title} trained across sites with fedmodel}},",
        f"  author = {{{' '.join(re.sub(r'[{}`]', '', escaped(authors)).split())}}},",
        *([f"  year = {{{year}}},"] if year else []),
        f"  note = {{Job {summary.job_sha256}}}",
        "}",
    ]
    base = f" Its base model, {code(_base(job))}, has a card of its own." if _hub_id(job) else ""
    return "\n".join(["## How to cite", "", "```bibtex", *lines, "```"]) + (
        f"\n\nThe job is named by its SHA-256.{base}"
    )
