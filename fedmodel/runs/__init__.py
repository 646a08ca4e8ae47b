"""Run folders: what a run was, what it did and where it stopped, on disk."""

from fedmodel.runs.checkpoint import Checkpoint
from fedmodel.runs.files import to_json, write_atomic
from fedmodel.runs.folder import RunFolder, run_path
from fedmodel.runs.manifest import Machine, Manifest, manifest_of
from fedmodel.runs.names import check_run, new_run, run_folder_name
from fedmodel.runs.pending import Begun, KeptRound
from fedmodel.runs.summary import (
    Hiding,
    PrivacySummary,
    ReleasedAccuracy,
    ReleasedScore,
    RunTime,
    SiteSummary,
    Summary,
    Traffic,
)

__all__ = [
    "Begun",
    "Checkpoint",
    "Hiding",
    "KeptRound",
    "Machine",
    "Manifest",
    "PrivacySummary",
    "ReleasedAccuracy",
    "ReleasedScore",
    "RunFolder",
    "RunTime",
    "SiteSummary",
    "Summary",
    "Traffic",
    "check_run",
    "manifest_of",
    "new_run",
    "run_folder_name",
    "run_path",
    "to_json",
    "write_atomic",
]
