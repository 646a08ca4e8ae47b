"""Names of tasks → tasks."""

from collections.abc import Mapping

from fedmodel.config import suggest
from fedmodel.errors import ConfigError
from fedmodel.tasks.multi_label_classification import MULTI_LABEL_CLASSIFICATION
from fedmodel.tasks.sequence_classification import SEQUENCE_CLASSIFICATION
from fedmodel.tasks.task import Task

__all__ = ["TASKS", "of"]

TASKS: Mapping[str, Task] = {
    task.name: task for task in (SEQUENCE_CLASSIFICATION, MULTI_LABEL_CLASSIFICATION)
}


def of(name: str) -> Task:
    """Return the task of a name, as ``model.task`` has it.

    Raises:
        ConfigError: if there is none.

    >>> of("sequence-classification").head.problem_type
    'single_label_classification'
    """
    if name not in TASKS:
        raise ConfigError(
            f"model.task={name!r} isn't a choice{suggest(name, TASKS)}; expected one of: "
            f"{', '.join(TASKS)}"
        )
    return TASKS[name]
