"""Run folders: what a run was, what it did and where it stopped, on disk."""

from fedmodel.runs.checkpoint import Checkpoint
from fedmodel.runs.files import to_json, write_atomic
from fedmodel.runs.folder import RunFolder, run_path
from fedmodel.runs.jobs import job_in
from fedmodel.runs.manifest import Machine, Manifest, manifest_of
from fedmodel.runs.names import check_run, is_called, new_run, run_folder_name
from fedmodel.runs.pending import Begun, KeptRound
from fedmodel.runs.resuming import check_unchanged, continued
from fedmodel.runs.summary import (
    Basis,
    Hiding,
    PrivacySummary,
    ReleasedAccuracy,
    ReleasedScore,
    RunTime,
    SiteLedger,
    SiteSummary,
    Summary,
    Traffic,
)

__all__ = [
    "Basis",
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
    "SiteLedger",
    "SiteSummary",
    "Summary",
    "Traffic",
    "check_run",
    "check_unchanged",
    "continued",
    "is_called",
    "job_in",
    "manifest_of",
    "new_run",
    "run_folder_name",
    "run_path",
    "to_json",
    "write_atomic",
]
