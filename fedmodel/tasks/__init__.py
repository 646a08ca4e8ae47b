"""Tasks: all that depends on what a network is trained to do, one file for each.

A new task is a file here, a line in :mod:`fedmodel.tasks.registry` and a name among the choices of
``model.task``. Torch and scikit-learn are imported only where rows are turned into tensors or
measured.
"""

from fedmodel.tasks.registry import TASKS, of
from fedmodel.tasks.task import Card, Counted, Estimate, Head, Label, Task, in_order, written

__all__ = [
    "TASKS",
    "Card",
    "Counted",
    "Estimate",
    "Head",
    "Label",
    "Task",
    "in_order",
    "of",
    "written",
]
