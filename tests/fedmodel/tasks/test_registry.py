"""Names of tasks: those that a job may ask for are those that there are."""

import typing

import pytest

from fedmodel import tasks
from fedmodel.errors import ConfigError, DataError
from fedmodel.job import Model

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")


def test_a_job_may_ask_for_every_task_and_no_other() -> None:
    hint = typing.get_type_hints(Model)["task"]
    assert set(typing.get_args(hint)) == set(tasks.TASKS)
    assert all(task.name == name for name, task in tasks.TASKS.items())


def test_another_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'multi-label-classification'"):
        tasks.of("multilabel-classification")


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=list(tasks.TASKS))
def test_every_task_counts_right_and_wrong_rows_first(task: tasks.Task) -> None:
    counted = task.counted(("a", "b", "c"))
    assert counted.names[:2] == ("right", "wrong")
    assert len(set(counted.names)) == len(counted.names)
    assert counted.row_norm >= 1


def test_labels_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match="expects one label for each row, got a set of labels"):
        SINGLE.names(("a",))
    with pytest.raises(DataError, match="expects a set of labels for each row, got one label"):
        SEVERAL.targets(["a"], ("a", "b"))
    assert (SINGLE.names("a"), SEVERAL.names(())) == (("a",), ())


@pytest.mark.parametrize(
    ("task", "rows"), [(SINGLE, ["a", "zzz"]), (SEVERAL, [("a",), (), ("a", "zzz")])]
)
def test_unknown_labels_are_refused(task: tasks.Task, rows: list[tasks.Label]) -> None:
    with pytest.raises(DataError, match=r"labels the job doesn't know: \['zzz'\]"):
        task.targets(rows, ("a", "b"))


def test_labels_as_text_are_told_apart() -> None:
    sets = [(), ("a",), ("a", "b"), ("a,b",), ('a", "b',), ("ab",)]
    assert len({tasks.written(labels) for labels in sets}) == len(sets)
    assert tasks.written("a") == "a"
