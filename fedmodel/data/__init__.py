"""Rows: where they come from, which site has which, and what is refused.

The library below it (``datasets``, ``pyarrow``) is imported only where rows are read or shared.
"""

from fedmodel.data.checks import check_test, classes_of, labels_of
from fedmodel.data.held_out import hold_out, hold_out_everywhere
from fedmodel.data.partition import Partition, site_names, split
from fedmodel.data.rows import Rows, sha256_of_rows
from fedmodel.data.source import Source
from fedmodel.data.sources import Tables, load
from fedmodel.data.synthetic import clinical_notes

__all__ = [
    "Partition",
    "Rows",
    "Source",
    "Tables",
    "check_test",
    "classes_of",
    "clinical_notes",
    "hold_out",
    "hold_out_everywhere",
    "labels_of",
    "load",
    "sha256_of_rows",
    "site_names",
    "split",
]
