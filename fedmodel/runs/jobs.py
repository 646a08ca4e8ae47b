"""Jobs that were written down: by themselves, or in the manifest of a run."""

import json
from pathlib import Path

from fedmodel.errors import ConfigError
from fedmodel.job import Job

__all__ = ["job_in"]


def job_in(path: Path) -> Job:
    """Return the job that a JSON file holds, by itself or under ``job`` (a manifest).

    Args:
        path: of the file.

    Raises:
        ConfigError: when it can't be read, or isn't a whole job of this version's format.
    """
    try:
        mapping = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} can't be read ({error}); give a job's JSON file, or a run's name or folder"
        ) from error
    inner = mapping.get("job") if isinstance(mapping, dict) else None
    return Job.from_mapping(inner if isinstance(inner, dict) else mapping)
