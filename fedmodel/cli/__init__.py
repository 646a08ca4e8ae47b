"""The command line: a table of verbs, help without heavy imports, and the one Hydra entry."""

from fedmodel.cli.composing import as_typed, compose, expand
from fedmodel.cli.entry import main
from fedmodel.cli.verbs import LISTS, TEXTS, VERBS

__all__ = ["LISTS", "TEXTS", "VERBS", "as_typed", "compose", "expand", "main"]
