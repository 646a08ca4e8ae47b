"""The command line: a table of verbs, help without heavy imports, and the one Hydra entry."""

from fedmodel.cli.composing import compose, expand
from fedmodel.cli.entry import main
from fedmodel.cli.verbs import VERBS

__all__ = ["VERBS", "compose", "expand", "main"]
