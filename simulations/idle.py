"""Keys that say nothing in a scenario, because of what others say: refused where a user gives them.

Who sets a key and sees no error takes it that it counts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fedmodel.errors import ConfigError
from simulations.scenario import Scenario

__all__ = ["check", "idle"]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Keys that count under one condition only.

    Args:
        keys: which; one that others begin with stands for them too.
        counts: whether they do.
        why: what they are of.
    """

    keys: tuple[str, ...]
    counts: Callable[[Scenario], bool]
    why: str


def _keys(group: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{group}.{name}" for name in names)


_COLUMNS = (
    *("train", "test", "text", "label", "label_separator", "labels", "site", "patient"),
    "missing",
)
_PROMISE = (
    *("unit", "adjacency", "epsilon", "delta", "clip", "rate", "rows_per_patient", "clipping"),
    *("clip_quantile", "clip_rate", "clip_noise", "decay", "evaluation", "evaluation_noise"),
    "engine",
)
_SUMS = (
    *("colluders", "survivors", "threshold", "attempts", "bits", "range", "max_weight"),
    "overflow",
)

_RULES = (
    _Rule(("model.revision",), lambda s: s.proposal.model.source == "hub", "it is of a hub model"),
    _Rule(
        _keys("model", "normalize", "head_bias"),
        lambda s: s.proposal.model.pooling == "mean",
        "it is of model.pooling=mean",
    ),
    _Rule(
        _keys("data", *_COLUMNS, "name", "revision", "train_split", "test_split"),
        lambda s: s.source.kind != "synthetic",
        "the notes are made up; choose data=csv, jsonl, parquet, excel, folder or hub",
    ),
    _Rule(
        _keys("data", "rows", "test_rows", "style"),
        lambda s: s.source.kind == "synthetic",
        "it is of data=synthetic, whose notes are made up",
    ),
    _Rule(_keys("data", "name", "revision"), lambda s: s.source.kind == "hub", "it is of data=hub"),
    _Rule(
        _keys("data", "train_split", "test_split"),
        lambda s: s.source.kind in ("hub", "folder"),
        "it is of data=hub and data=folder",
    ),
    _Rule(
        _keys("data", "label_separator", "labels"),
        lambda s: s.proposal.model.task == "multi-label-classification",
        "it is of model.task=multi-label-classification",
    ),
    _Rule(
        _keys("data", "test_fraction"),
        lambda s: s.source.holds_out,
        "there are public test rows, so the sites hold none out",
    ),
    _Rule(
        ("train.lr",),
        lambda s: s.proposal.train.method != "head",
        "with train=head only the head trains, at train.head_lr",
    ),
    _Rule(
        ("train.start",),
        lambda s: s.proposal.train.method == "head",
        "it is of train=head",
    ),
    _Rule(
        ("train.lora",),
        lambda s: s.proposal.train.method in ("lora", "ffa"),
        "it is of train=lora and train=ffa",
    ),
    _Rule(
        ("train.momentum",),
        lambda s: s.proposal.train.steps > 1 or s.proposal.train.optimizer_state == "keep",
        "with one step a round and train.optimizer_state=reset no step comes after another",
    ),
    _Rule(
        ("train.optimizer_state",),
        lambda s: s.proposal.train.optimizer != "sgd" or s.proposal.train.momentum > 0,
        "SGD without train.momentum has no state",
    ),
    _Rule(
        _keys("privacy", *_PROMISE),
        lambda s: s.proposal.privacy.private,
        "with privacy=none nothing is promised",
    ),
    _Rule(
        ("privacy.rows_per_patient",),
        lambda s: s.proposal.privacy.unit == "patient",
        "it is of privacy.unit=patient",
    ),
    _Rule(
        _keys("privacy", "clip_quantile", "clip_rate", "clip_noise"),
        lambda s: s.proposal.privacy.clipping == "adaptive",
        "it is of privacy.clipping=adaptive",
    ),
    _Rule(
        _keys("privacy", "evaluation", "evaluation_noise"),
        lambda s: s.source.holds_out or s.proposal.privacy.mechanism == "site",
        "the test rows are public, so the sites release nothing about theirs",
    ),
    _Rule(
        ("privacy.evaluation_noise",),
        lambda s: s.proposal.privacy.evaluation == "noised",
        "it is of privacy.evaluation=noised",
    ),
    _Rule(
        ("privacy.decay",),
        lambda s: s.proposal.train.rounds > 1,
        "there is one round, and nothing to decay to",
    ),
    _Rule(
        ("privacy.engine",),
        lambda s: s.proposal.privacy.mechanism != "site",
        "with privacy=site no unit's gradient is clipped",
    ),
    _Rule(_keys("secagg", *_SUMS), lambda s: s.proposal.secrecy == "on", "it is of secagg=on"),
    _Rule(
        _keys("secagg", "range", "overflow"),
        lambda s: not s.proposal.privacy.shared,
        "what is summed with noise in shares is bounded by privacy.clip",
    ),
    _Rule(
        ("secagg.max_weight",),
        lambda s: s.proposal.weights == "examples",
        "every site counts the same here (aggregation.weights)",
    ),
    _Rule(("floors",), lambda s: s.proposal.secrecy == "on", "it is of secagg=on"),
    _Rule(
        ("aggregation.lr",),
        lambda s: s.proposal.aggregation.optimizer in ("fedavgm", "fedadam"),
        "it is of aggregation=fedavgm and fedadam",
    ),
    _Rule(
        ("aggregation.momentum",),
        lambda s: s.proposal.aggregation.optimizer == "fedavgm",
        "it is of aggregation=fedavgm",
    ),
    _Rule(
        _keys("aggregation", "beta1", "beta2", "tau"),
        lambda s: s.proposal.aggregation.optimizer == "fedadam",
        "it is of aggregation=fedadam",
    ),
    _Rule(
        ("aggregation.malicious",),
        lambda s: s.proposal.aggregation.optimizer == "krum",
        "it is of aggregation=krum",
    ),
    _Rule(
        ("federation.alpha",),
        lambda s: s.partition.kind == "dirichlet",
        "it is of federation.partition=dirichlet",
    ),
    _Rule(
        _keys("budget", "epsilon", "delta", "run_epsilon", "unit", "dataset"),
        lambda s: s.proposal.privacy.private,
        "with privacy=none nothing is spent",
    ),
    _Rule(
        _keys("budget", "delta"),
        lambda s: (
            s.homes.policy.caps.epsilon is not None or s.homes.policy.caps.run_epsilon is not None
        ),
        "there is no cap that it is the δ of (budget.epsilon, budget.run_epsilon)",
    ),
)


def idle(scenario: Scenario, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield those of some keys that make no difference to a scenario, and why not.

    Args:
        scenario: as all keys together make it.
        keys: dotted, such as ``train.lr``.
    """
    for key in keys:
        for rule in _RULES:
            named = any(key == k or key.startswith(f"{k}.") for k in rule.keys)
            if named and not rule.counts(scenario):
                yield key, rule.why
                break


def check(scenarios: Sequence[Scenario], given: Sequence[Sequence[str]]) -> None:
    """Check that every key that was given counts, in one job of a sweep at least.

    Args:
        scenarios: one for each job.
        given: keys that stood on the command line, for each job.

    Raises:
        ConfigError: naming the first that doesn't, and what it is of.
    """
    found = [dict(idle(s, keys)) for s, keys in zip(scenarios, given, strict=True)]
    for key, why in found[0].items() if found else ():
        if all(key in others for others in found):
            raise ConfigError(f"{key} has no effect on this job: {why}. Leave it out")
