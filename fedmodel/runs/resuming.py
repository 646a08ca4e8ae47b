"""Resuming of a run: what its configuration may say anew, and what must be as it was begun."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedmodel import config
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.job import Job
from fedmodel.runs.folder import RunFolder

__all__ = ["check_unchanged", "continued"]


def continued(
    folder: RunFolder, mapping: Mapping[str, Any], given: Sequence[str], anew: Collection[str]
) -> dict[str, Any]:
    """Return the configuration with which a run goes on: as it was begun, but for some keys.

    Args:
        folder: of the run.
        mapping: what is composed now.
        given: keys that were given for it.
        anew: those that may be set anew: where and how it runs, not what it is.

    Raises:
        ConfigError: for a given key that would change the run, or a run of another verb's.
    """
    begun = folder.manifest.config
    if ("listen" in mapping) != folder.manifest.served:
        raise ConfigError(
            f"{folder.path} was begun by another verb; it goes on with: "
            f"{folder.manifest.goes_on(str(folder.path))}"
        )
    changed = [
        key
        for key in given
        if key not in anew and _compared(mapping, key, anew) != _compared(begun, key, anew)
    ]
    if changed:
        raise ConfigError(
            f"resume=true continues {folder.path} as it was begun, but {', '.join(changed)} would "
            "change it; leave that out, or start another run=NAME"
        )
    set_anew = [key for key in given if key in anew and key not in ("run", "resume")]
    return _replaced(begun, mapping, set_anew)


def check_unchanged(folder: RunFolder, job: Job, rows_sha256: str | None) -> None:
    """Check that a run that was begun is still the same run.

    Args:
        folder: of the run.
        job: as it is made now.
        rows_sha256: of the rows that are seen here; ``None`` where none are.

    Raises:
        RunFolderError: naming what has changed.
    """
    manifest = folder.manifest
    if (begun_as := manifest.job.get("format")) != Job.format:
        raise RunFolderError(
            f"{folder.path} can't be continued: its job is of format {begun_as!r}, and this "
            f"version runs {Job.format!r}; go on with fedmodel {manifest.fedmodel}, or give back "
            "what it holds (fedmodel budget state=… release=RUN) and start another run"
        )
    for what, begun, now in (
        ("fedmodel version", manifest.fedmodel, _own_version()),
        ("rows", manifest.rows_sha256, rows_sha256),
        ("job (by its model files)", manifest.job_sha256, job.sha256),
    ):
        if begun != now:
            raise RunFolderError(
                f"{folder.path} can't be continued: the {what} changed since it was begun "
                f"({begun!s:.16} then, {now!s:.16} now); bring back what was, or start another run"
            )


def _replaced(begun: Any, mapping: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Return a configuration as it was begun, with the values at some keys from another."""
    made = {k: dict(v) if isinstance(v, Mapping) else v for k, v in begun.items()}
    for key in keys:
        part, _, name = key.rpartition(".")
        (made.setdefault(part, {}) if part else made)[name] = _at(mapping, key)
    return made


def _compared(mapping: Any, key: str, anew: Collection[str]) -> Any:
    """Return what a resume mustn't change at a key: of a group all but what it may set anew."""
    value = _at(mapping, key)
    if not isinstance(value, Mapping):
        return value
    return {name: v for name, v in value.items() if f"{key}.{name}" not in anew}


def _at(mapping: Any, key: str) -> Any:
    """Return the value at a dotted key, as plain data; ``None`` where there is none."""
    for name in key.split("."):
        mapping = mapping.get(name) if isinstance(mapping, Mapping) else None
    return config.to_mapping(mapping)


def _own_version() -> str:
    from importlib.metadata import version  # slow to import, and only a resume asks

    return version("fedmodel")
