"""The table of verbs: each with the principal who runs it."""

__all__ = ["OPTIONS", "VERBS"]

# verb → module:function, and what it does. The module is imported only when the verb runs.
VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("simulations.run:main", "run several sites on this machine → a run folder"),
    "export": ("fedmodel.export:main", "write a run's model as a Hugging Face folder"),
    "budget": ("fedmodel.budget:main", "what sites have spent, hold and have left"),
}
# `--what-if job=PATH` reads better than what_if=PATH, and is the same.
OPTIONS: dict[tuple[str, str], str] = {("budget", "--what-if"): "what_if"}
