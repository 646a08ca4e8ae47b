"""The manifest of a run: what it is, written before anything else."""

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedmodel import config
from fedmodel.job import Job
from fedmodel.runs.files import read_record
from fedmodel.runs.names import new_run

__all__ = ["RUN_SCHEMA", "Machine", "Manifest", "manifest_of", "packages"]

RUN_SCHEMA = "fedmodel.run/1"
_PACKAGES = ("torch", "transformers", "opacus", "peft", "flwr", "dp-accounting", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that a run was begun on.

    Args:
        cpus: how many it has, ``None`` if it doesn't say.
        platform: system, release and architecture.
    """

    cpus: int | None
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a run is. Its schema is also that of ``metrics.jsonl`` and of the checkpoints.

    Args:
        schema: of the run folder.
        run: the run's name in ledgers: unlike the folder's, it isn't used again for another run.
        created: date and time, ISO 8601, UTC.
        fedmodel: version that began it.
        python: version.
        packages: name → version, of those that decide what a run computes.
        machine: where it was begun.
        job_sha256: the job's name.
        rows_sha256: SHA-256 (hex) of all rows that who began it sees: all sites' and those of the
            test, or a public test's alone; ``None`` where it sees none.
        job: the job as plain data, in the format that it names itself.
        config: the configuration as it was composed.
    """

    schema: Literal["fedmodel.run/1"] = "fedmodel.run/1"
    run: str
    created: str
    fedmodel: str
    python: str
    packages: Mapping[str, str]
    machine: Machine
    job_sha256: str
    rows_sha256: str | None
    job: Mapping[str, Any]
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        config.require_hex("job_sha256", self.job_sha256, 64)
        if self.rows_sha256 is not None:
            config.require_hex("rows_sha256", self.rows_sha256, 64)

    @property
    def served(self) -> bool:
        """Whether the run is played over the network, by ``fedmodel serve``."""
        return "listen" in self.config

    def goes_on(self, run: str) -> str:
        """Return the command by which the run goes on.

        Args:
            run: its name or folder.
        """
        if not self.served:
            return f"fedmodel simulate run={run} resume=true"
        said = [f"{key}={self.config[key]}" for key in ("home", "job") if self.config.get(key)]
        return " ".join(["fedmodel serve", *said, f"run={run} resume=true"])

    @classmethod
    def from_mapping(cls, mapping: object, where: str = "manifest.json") -> "Manifest":
        """Return the manifest that a JSON object holds.

        Args:
            mapping: what was read.
            where: the file, for messages.

        Raises:
            RunFolderError: for another schema, an unknown or missing key, or a value of another
                type.
        """
        return read_record(cls, mapping, RUN_SCHEMA, where)

    def to_mapping(self) -> dict[str, Any]:
        """Return what stands in ``manifest.json``, in its order."""
        made: dict[str, Any] = config.to_mapping(self)
        return made


def packages() -> dict[str, str]:
    """Return the versions, by name, of the packages that decide what a run computes."""
    from importlib.metadata import version  # slow to import; who reads a manifest has no need of it

    return {package: version(package) for package in _PACKAGES}


def manifest_of(
    name: str,
    job: Job,
    *,
    rows_sha256: str | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Manifest:
    """Return the manifest of a run that begins now, on this machine.

    Args:
        name: of its folder; eight random digits make the run's own name of it.
        job: what was agreed.
        rows_sha256: SHA-256 (hex) of the rows that who begins it sees.
        configuration: as it was composed, ``None`` where nothing was.
    """
    from importlib.metadata import version

    return Manifest(
        run=new_run(name),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        fedmodel=version("fedmodel"),
        python=platform.python_version(),
        packages=packages(),
        machine=Machine(cpus=os.cpu_count(), platform=platform.platform()),
        job_sha256=job.sha256,
        rows_sha256=rows_sha256,
        job=config.to_mapping(job),
        config=config.to_mapping(configuration or {}),
    )
