"""Run folders: what a run was, what it did and where it stopped, on disk."""

from fedmodel.runs.folder import Checkpoint, RunFolder, run_path, write_atomic

__all__ = ["Checkpoint", "RunFolder", "run_path", "write_atomic"]
