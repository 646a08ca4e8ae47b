"""Jobs that overrides make: one, or each combination of a sweep's values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmodel.cli.composing import as_typed, compose, expand
from fedmodel.cli.verbs import LISTS, TEXTS

__all__ = ["Composed", "compose_all"]


@dataclass(frozen=True, slots=True)
class Composed:
    """One job, as its overrides make it.

    Args:
        overrides: as they were expanded.
        given: the keys that they set.
        mapping: the whole configuration.
    """

    overrides: Sequence[str]
    given: list[str]
    mapping: dict[str, Any]


def compose_all(verb: str, overrides: Sequence[str]) -> list[Composed]:
    """Compose every job that overrides make.

    Args:
        verb: whose configuration.
        overrides: as typed; several values for a key make several jobs.

    Raises:
        ConfigError: for an override that isn't ``key=value``, an unknown key or choice.
    """
    jobs = expand(as_typed(overrides, TEXTS[verb] | LISTS[verb]))
    return [Composed(job, list(map(_key, job)), compose(verb, job)) for job in jobs]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
