"""What is probably not meant is refused or said; nothing of a row's text is."""

import logging
from pathlib import Path
from typing import Any

import pytest

from fedmodel import config, tasks
from fedmodel.data import Rows, Source, Tables, load
from fedmodel.data.looks import check_looks, near_equal, say_looks
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")


def looks(labels: list[Any], task: tasks.Task = SINGLE) -> None:
    rows = Rows([f"SECRET {i}" for i in range(len(labels))], labels)
    check_looks(rows, task, name="rows.csv", text="note", label="dx")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([f"{i / 7:.3f}" for i in range(100)], "these look like numbers"),
        ([f"{i / 7:.3f}".replace(".", ",") for i in range(100)], "these look like numbers"),
        ([f"{i % 30}.5" for i in range(300)], "these look like numbers"),
        ([f"-{i % 30}.5e-3" for i in range(300)], "these look like numbers"),
        ([f"P{i}" for i in range(10)], "these look like an id"),
        ([str(i) for i in range(1000)], "these look like an id"),
        ([str(i) for i in range(95)] + ["1"] * 5, "these look like an id"),
        ([f"SECRET {i} {'word ' * 9}" for i in range(95)], "these look like texts"),
    ],
)
def test_labels_that_are_no_classes(labels: list[str], said: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.csv, column 'dx': .*{said}") as caught:
        looks(labels)
    assert "SECRET" not in str(caught.value)
    looks([(label,) for label in labels], SEVERAL)


@pytest.mark.parametrize(
    "labels",
    [
        [f"P{i}" for i in range(9)],  # too few to tell
        [f"{i % 10 / 2}" for i in range(100)],  # marks
        [str(i % 12) for i in range(480)],
        [f"{i % 300}" for i in range(3000)],  # codes
        [f"{i % 40}.5 mm" for i in range(400)],
        ["1.0", "2.0"] * 50,
    ],
)
def test_labels_that_are(labels: list[str], caplog: pytest.LogCaptureFixture) -> None:
    looks(labels)
    assert not caplog.records


def test_texts_that_are_numbers() -> None:
    for task, label in ((SINGLE, "x"), (SEVERAL, ("x",))):
        rows = Rows([f"{i},5" for i in range(20)], [label] * 20)
        with pytest.raises(DataError, match=r"column 'note': expected texts.*set data.text"):
            check_looks(rows, task, name="rows.csv", text="note", label="dx")
    check_looks(Rows(["7"] * 19 + ["a"], "xy" * 10), SINGLE, name="r", text="t", label="l")


def test_many_classes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    looks([f"{i % 100}" for i in range(300)])
    assert "100 classes in 300 rows" in caplog.text
    assert "numbers on a scale, or an id?" in caplog.text


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a", "b"], []),
        (["Nord", "NORD", " nord", "Nord\u00a0"], [[" nord", "NORD", "Nord", "Nord\u00a0"]]),
        (["caf\u00e9", "cafe\u0301", "cafe"], [["cafe\u0301", "caf\u00e9"]]),
        (["1", "01", "001", "10", "0"], [["001", "01", "1"]]),
        (["H1", "H01", "H10"], [["H01", "H1"]]),
        (["\uff21", "A", "Stra\u00dfe", "STRASSE"], [["A", "\uff21"], ["STRASSE", "Stra\u00dfe"]]),
        (["a\u200bb", "ab", "a b"], [["a b", "ab", "a\u200bb"]]),
        (["1.0", "1"], [["1", "1.0"]]),  # what tools write of a column of numbers with a gap
        (["1.05", "1.5", "1.10", "1"], []),
    ],
)
def test_names_that_are_nearly_equal(names: list[str], groups: list[list[str]]) -> None:
    assert sorted(near_equal(names)) == sorted(groups)


def said(caplog: pytest.LogCaptureFixture, train: Rows, test: Rows | None = None) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        say_looks(train, test, SINGLE, name="rows.csv")
    assert "SECRET" not in caplog.text
    return caplog.text


def test_near_equal_sites_classes_and_patients_are_said(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["benign", " benign", "caf\u00e9", "cafe\u0301"]
    rows = Rows(["SECRET"] * 4, labels, ["Nord", "NORD", "x", "x"], ["Secret", "SECRET", "p", "q"])
    text = said(caplog, rows)
    assert "classes whose names differ" in text
    assert "' benign' (1 rows), 'benign' (1 rows)" in text
    assert r"'cafe\u0301' (1 rows), 'caf\xe9' (1 rows)" in text
    assert "sites whose names differ" in text
    assert "'NORD' (1 rows), 'Nord' (1 rows)" in text
    assert "2 patients go by names" in text
    assert not said(caplog, Rows("ab", "xy", "st", "pq"))
    own = [f"p{i}" for i in range(20)]
    assert "20 sites in 20 rows: is data.site" in said(caplog, Rows(own, "xy" * 10, own))


def test_a_class_that_means_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert "'NaN' is a class, of 2 rows" in said(caplog, Rows("abcd", ["x", "y", "NaN", "NaN"]))


def test_test_rows_that_are_training_rows_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    train = Rows(["SECRET a", "b", "c"], "xyx", None, "123")
    text = said(caplog, train, Rows(["SECRET  a ", "b", "new"], "xyx", None, ["1", "4", "2"]))
    assert "2 of 3 test rows have a text that is a training row's too" in text
    assert "2 of 3 patients of the test rows have training rows too" in text
    assert not said(caplog, train, Rows(["d"], ["x"], None, ["4"]))
    assert "1 of 1 test rows" in said(caplog, train, Rows(["b"], ["x"]))


def read(path: Path, **more: Any) -> Tables:
    return load(config.build(Source, {"train": str(path), **more}), Seed(0), 2, SINGLE)


@pytest.mark.long
def test_other_splits_are_said_not_to_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets

    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    splits = datasets.DatasetDict({"train": table, "validation": table, "test": table})
    splits.save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved", kind="folder").test is None
    assert "only 'train' is used" in caplog.text
    assert "data.test_split=test" in caplog.text
    caplog.clear()
    assert read(tmp_path / "saved", kind="folder", test_split="test").test is not None
    assert "is used" not in caplog.text
    assert "2 of 2 test rows" in caplog.text
    (tmp_path / "files").mkdir()
    for name in ("train", "test"):
        (tmp_path / "files" / f"{name}.csv").write_text("text,label\na,x\nb,y\n")
    caplog.clear()
    assert read(tmp_path / "files", kind="folder").test is None
    assert "data.test_split=test" in caplog.text


def test_classes_that_are_never_held_out_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,benign\nb,rare\n")
    read(tmp_path / "rows.csv", kind="csv", train_only=["rare"])
    with pytest.raises(ConfigError, match=r"train_only names 'rar', .*did you mean 'rare'"):
        read(tmp_path / "rows.csv", kind="csv", train_only=["rar"])
