"""The same rows through every door give the same rows."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from fedmodel import config, tasks
from fedmodel.data import Rows, Source, classes_of, load
from fedmodel.errors import DataError
from fedmodel.seeds import Seed
from tests.fedmodel.data.files import KINDS, source_kind, write

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")


def rows_of(kind: str, path: Path, task: tasks.Task = SINGLE, **more: Any) -> Rows:
    mapping = {"kind": source_kind(kind), "train": str(path), **more}
    return load(config.build(Source, mapping), Seed(0), 2, task).train


# Texts that a reader which guesses takes for numbers, dates, Booleans or nothing.
TEXTS = ["01", "1", "001", "1.0", "1e3", "0x1F", "2020-01-02", "NA", "null", "nan", "-", "1,5", "½"]
TABLE = {
    "text": [f"note {i}, with \"quotes\" and a ; and a | of {t}" for i, t in enumerate(TEXTS * 2)],
    "label": (["01", "1", "NA", "0"] * 7)[:26],
    "site": (["007", "7", "1_000", "None"] * 7)[:26],
    "patient": TEXTS * 2,
}  # fmt: skip


@pytest.mark.sample(5)
@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_identifiers_and_labels_stay_text(tmp_path: Path, kind: str) -> None:
    found = rows_of(kind, write(kind, tmp_path, TABLE), site="site", patient="patient")
    assert found == Rows(*TABLE.values())
    assert len(set(found.patients or ())) == len(TEXTS)


@pytest.mark.sample(9)
@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([True, False, True, False], ["True", "False"]),
        ([3, 0, 3, 0], ["3", "0"]),
        (["TRUE", "false", "True", "False"], ["True", "False"]),
    ],
    ids=["booleans", "numbers", "booleans as text"],
)
def test_numbers_and_booleans_are_one_thing_everywhere(
    tmp_path: Path, kind: str, values: list[Any], texts: list[str]
) -> None:
    table = {"text": list("abcd"), "label": values, "patient": [1, 2, 10, 20]}
    found = rows_of(kind, write(kind, tmp_path, table), patient="patient")
    assert found == Rows(list("abcd"), texts * 2, None, ["1", "2", "10", "20"])


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", [k for k in KINDS if "excel" not in k])
def test_fractions_are_written_as_they_are(tmp_path: Path, kind: str) -> None:
    table: dict[str, list[Any]] = {"text": list("abcd"), "label": [0.5, 1.0, 0.5, 1.0]}
    assert list(rows_of(kind, write(kind, tmp_path, table)).labels) == ["0.5", "1.0"] * 2


def test_whole_numbers_of_a_spreadsheet_have_no_point(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"text": [7, "b"], "label": [1.0, 2.5]}
    assert rows_of("excel", write("excel", tmp_path, table)) == Rows(["7", "b"], ["1", "2.5"])


def test_other_types_of_parquet(tmp_path: Path) -> None:
    from decimal import Decimal

    table = pa.table(
        {
            "text": pa.array(["a", "b"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "patient": pa.array([Decimal("7"), Decimal("12345678901234567890")]),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    found = rows_of("parquet", tmp_path / "rows.parquet", patient="patient")
    assert found == Rows("ab", "xy", None, ["7", "12345678901234567890"])


NAMES = datasets.ClassLabel(names=["no", "yes"])


def named(**more: Any) -> datasets.Dataset:
    columns = {"text": datasets.Value("string"), "label": NAMES, **more}
    values = {"text": ["a", "b"], "label": [1, 0], "list": [[1], []], "note": [{"label": 1}] * 2}
    return datasets.Dataset.from_dict(
        {name: values[name] for name in columns}, features=datasets.Features(columns)
    )


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["parquet", "saved", "folder of parquet"])
def test_class_names_survive(tmp_path: Path, kind: str) -> None:
    data = named(list=datasets.List(NAMES), note={"label": NAMES})
    if kind == "saved":
        data.save_to_disk(tmp_path / "saved")
        path = tmp_path / "saved"
    else:
        path = tmp_path / "rows" / "train.parquet"
        path.parent.mkdir()
        data.to_parquet(path)
        path = path.parent if kind == "folder of parquet" else path
    assert list(rows_of(kind, path).labels) == ["yes", "no"]
    lists = rows_of(kind, path, SEVERAL, label="list")
    assert list(lists.labels) == [("yes",), ()]
    with pytest.raises(DataError, match="one class in all 2 rows: 'yes'"):
        rows_of(kind, path, label="note.label")


NUMBERED = datasets.ClassLabel(names=["mild", "none", "grave", "2", "10"])


def numbered(folder: Path, kind: str, names: datasets.ClassLabel = NUMBERED) -> Path:
    codes = [3, 0, 2, 3, 0, 2]
    data = datasets.Dataset.from_dict(
        {"text": list("abcdef"), "label": codes, "list": [[code, 0] for code in codes]},
        features=datasets.Features(
            text=datasets.Value("string"), label=names, list=datasets.List(names)
        ),
    )
    path = folder / "rows" / "train.parquet"
    if kind == "saved":
        data.save_to_disk(path.parent)
    else:
        path.parent.mkdir(parents=True)
        data.to_parquet(path)
    return path if kind == "parquet" else path.parent


@pytest.mark.parametrize("kind", ["parquet", "saved", "folder of parquet"])
def test_classes_keep_the_numbers_that_a_dataset_gave_them(tmp_path: Path, kind: str) -> None:
    path = numbered(tmp_path, kind)
    found = rows_of(kind, path)
    classes = classes_of(found, SINGLE)
    assert classes == tuple(NUMBERED.names)  # also those of which there is no row
    assert SINGLE.targets(found.labels, classes).tolist() == [3, 0, 2, 3, 0, 2]
    assert classes_of(found.select([5, 0, 1]), SINGLE) == classes  # whoever has which
    lists = rows_of(kind, path, SEVERAL, label="list")
    assert classes_of(lists, SEVERAL) == classes


def test_classes_are_in_order_of_their_names_where_numbers_dont_agree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = numbered(tmp_path, "folder of parquet")
    assert classes_of(rows_of("saved", path), SINGLE)[0] == "mild"
    other = numbered(tmp_path / "other", "parquet", datasets.ClassLabel(names=NUMBERED.names[::-1]))
    other.rename(path / "train-2.parquet")
    joined = rows_of("saved", path)
    assert (len(joined), joined.classes) == (12, None)
    assert not caplog.records
    own = Rows("abc", ["z", "x", "y"], classes=("y", "x"))
    assert classes_of(own, SINGLE) == ("x", "y", "z")
    assert "2 classes (ClassLabel), and rows have 'z' besides" in caplog.text
    twice = datasets.ClassLabel(names=["true", "false"])
    assert classes_of(Rows("ab", ["True", "False"]), SINGLE) == ("False", "True")
    flags = datasets.Dataset.from_dict(
        {"text": ["a", "b"], "label": [0, 1]},
        features=datasets.Features(text=datasets.Value("string"), label=twice),
    )
    flags.to_parquet(tmp_path / "flags.parquet")
    assert classes_of(rows_of("parquet", tmp_path / "flags.parquet"), SINGLE) == ("True", "False")


def test_class_names_of_older_versions_and_damaged_ones(tmp_path: Path) -> None:
    def written(features: Any) -> Path:
        noted = features if isinstance(features, bytes) else json.dumps(features).encode()
        table = pa.table({"text": ["a", "b"], "label": [[1, 0], [0]]})
        pq.write_table(
            table.replace_schema_metadata({b"huggingface": noted}), tmp_path / "rows.parquet"
        )
        return tmp_path / "rows.parquet"

    old = {"num_classes": 2, "names": ["no", "yes"], "id": None, "_type": "ClassLabel"}
    for feature in ([old], {"feature": old, "length": -1, "_type": "Sequence"}):
        path = written({"info": {"features": {"label": feature}}})
        assert list(rows_of("parquet", path, SEVERAL).labels) == [("no", "yes"), ("no",)]
    for damaged in (b"\xff", b"[]", b"{}", b"[" * 9999, {"info": {"features": {"label": 7}}}):
        assert list(rows_of("parquet", written(damaged), SEVERAL).labels) == [("0", "1"), ("0",)]
    short = {**old, "names": ["no"]}
    path = written({"info": {"features": {"label": [short]}}})
    with pytest.raises(DataError, match="row 1"):
        rows_of("parquet", path, SEVERAL)


def test_a_number_without_a_name_is_missing(tmp_path: Path) -> None:
    data = named()
    data = data.add_item({"text": "c", "label": -1})
    data.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"row 3: .*'label'.*nothing"):
        rows_of("parquet", tmp_path / "rows.parquet")


CARD = """---
configs:
- config_name: default
  data_files: notes.txt
  sep: ";"
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': healthy
          '1': ill
---
"""


@pytest.mark.long
def test_a_folders_card_is_heeded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = CARD.replace("notes.txt", "notes.csv")
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "notes.csv").write_text("text;label;pid\n1, 2;1;01\nb;0;02\n")
    found = rows_of("saved", tmp_path, patient="pid")
    assert found == Rows(["1, 2", "b"], ["ill", "healthy"], None, ["01", "02"])
    assert not caplog.records
    (tmp_path / "README.md").write_text(card.replace("  sep", "  skiprows: 0\n  sep"))
    rows_of("saved", tmp_path)
    assert "skiprows" in caplog.text


@pytest.mark.long
def test_files_of_one_split_are_read_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i in range(3):
        (tmp_path / "train" / f"part-{i}.csv").write_text(f"text,label\nnote {i},0{i}\n")
    found = rows_of("saved", tmp_path)
    assert found == Rows(["note 0", "note 1", "note 2"], ["00", "01", "02"])
    (tmp_path / "train" / "part-1.csv").write_text("text,label\nnote 1,\n")
    with pytest.raises(DataError, match=r"part-1.csv, row 1 \(line 2\)"):
        rows_of("saved", tmp_path)


@pytest.mark.long
def test_files_of_the_hub_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("csv", tmp_path, TABLE).rename(tmp_path / "train.csv")
    whole = datasets.load_dataset_builder

    def builder(path: str, name: Any = None, revision: Any = None) -> Any:
        assert (path, name, revision) == ("org/notes", None, "abc")
        return whole(str(tmp_path), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    source = Source(kind="hub", train="org/notes", revision="abc", site="site", patient="patient")
    assert load(source, Seed(0), 2, SINGLE).train == Rows(*TABLE.values())


@pytest.mark.long
def test_other_files_of_the_hub_are_read_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("a\nb\n")
    made = datasets.load_dataset_builder(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: made)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    tables = load(Source(kind="hub", train="org/notes"), Seed(0), 2, SINGLE)
    assert tables.train == Rows("ab", "xy")
    assert tables.test is None
    assert "only 'train' is used" in caplog.text
