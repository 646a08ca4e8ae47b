"""Interface to Python: the verb ``simulate`` as a function, by the same keys and the same code."""

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmodel._forms import ExportForm
from fedmodel._paths import use_apps
from fedmodel.cli.composing import dotted, meant
from fedmodel.cli.jobs import compose_all
from fedmodel.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedmodel.runs import RunFolder, SiteSummary, Summary

__all__ = ["FinishedRun", "simulate"]


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has come to its end.

    Args:
        folder: with all that it has written.
        summary: as ``summary.json`` has it.
    """

    folder: "RunFolder"
    summary: "Summary"

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Metrics of each round, in order: what ``pandas.DataFrame`` takes as it is."""
        return [dict(row) for row in self.folder.metrics()]

    @property
    def sites(self) -> "Mapping[str, SiteSummary]":
        """What the run cost each site, by its name."""
        return self.summary.privacy.sites

    @property
    def epsilon(self) -> float | None:
        """ε that the worst site has spent in it; ``None`` without privacy."""
        return self.summary.privacy.epsilon

    def confusion(self) -> "tuple[tuple[str, ...], NDArray[np.int64]]":
        """Return the classes, and how often rows of each were given each, ``[true, given]``.

        Raises:
            ConfigError: for a task whose rows have sets of labels.
        """
        with _usual():
            found: Any = _late("simulations.confusion").confusion(self.folder)
        return found  # type: ignore[no-any-return]

    def export(
        self,
        to: str | Path,
        form: ExportForm = "merged",
        card: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the model as a folder that others load without fedmodel (``fedmodel export``).

        Args:
            to: folder to write; must not exist, or be empty.
            form: as the verb has it.
            card: what the model card is to say, by the verb's keys: ``{"license": "mit"}``.

        Returns:
            The folder.
        """
        from fedmodel import config
        from fedmodel.export import Ask, export_run

        ask = config.build(Ask, {"form": form, "card": dict(card or {})})
        with _usual():
            return export_run(self.folder.path, Path(to), ask.form, ask.card)


def simulate(*overrides: str, show: bool = False, **values: Any) -> FinishedRun:
    """Run several sites in this process, as ``fedmodel simulate`` does.

    Args:
        overrides: as on the command line: ``train=head``, ``privacy.epsilon=3``.
        show: print what the command line prints.
        values: the same by name: a choice of a group (``train="head"``), a value (``run="a"``), or
            a mapping of a group's keys to values (``privacy={"epsilon": 3}``), or such a key with
            its dots (``**{"privacy.epsilon": 3}``).

    Returns:
        The finished run.

    Raises:
        FedmodelError: as the command line would say it.
    """
    use_apps()
    known = _groups()
    chosen = [
        f"{key}={value}" for key, value in values.items() if key in known and isinstance(value, str)
    ]
    jobs = compose_all("simulate", [*overrides, *chosen])
    if len(jobs) != 1:
        raise ConfigError("several values for a key make a sweep: call simulate for each of them")
    mapping, given = jobs[0].mapping, list(jobs[0].given)
    for key, value in values.items():
        if key not in known or not isinstance(value, str):
            group, *names = key.split(".")
            for name in reversed(names):
                value = {name: value}
            given += _set(mapping, group, value)
    with _usual():
        run = _late("simulations.run").run_quietly(mapping, given, show=show)
    return FinishedRun(*run)


def _usual() -> AbstractContextManager[None]:
    """Return a context in which the caller's own settings of torch have no effect."""
    from fedmodel.models.context import usual

    return usual()


def _groups() -> set[str]:
    from fedmodel._paths import conf_dir

    return {path.name for path in conf_dir().iterdir() if path.is_dir()}


def _set(mapping: dict[str, Any], key: str, value: Any) -> list[str]:
    """Set a value, or those of a group, and return the dotted keys."""
    if not isinstance(value, Mapping):
        if key not in mapping or isinstance(mapping[key], dict):
            near = "" if key in mapping else meant(key, [*dotted(mapping), *mapping])
            raise ConfigError(
                f"{key}={value!r}: expected one of {', '.join(sorted(mapping))}{near}; a group "
                "takes a choice or a mapping of its keys"
            )
        mapping[key] = value
        return [key]
    if not isinstance(mapping.get(key, {}), dict):
        raise ConfigError(f"{key}={value!r}: expected a value, got a mapping; it is no group")
    return _merge(mapping.setdefault(key, {}), value, f"{key}.")


def _merge(group: dict[str, Any], values: Mapping[str, Any], path: str) -> list[str]:
    """Set keys of a group, and of groups in it, and leave its others as they are."""
    given = []
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(group.get(name), dict):
            given += _merge(group[name], value, f"{path}{name}.")
        else:
            group[name] = value
            given.append(f"{path}{name}")
    return given


def _late(module: str) -> Any:
    # The apps lie above this package, and inside it in a wheel.
    use_apps()
    return importlib.import_module(module)
