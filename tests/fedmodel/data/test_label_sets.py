"""Sets of labels as files hold them: one column, lists, or columns of 0 and 1."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fedmodel import tasks
from fedmodel.data import (
    Partition,
    Rows,
    Source,
    check_test,
    clinical_notes,
    labels_of,
    load,
    split,
)
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")
SETS = [("fever", "pain"), (), ("fever",)]
ONE_CELL = "text,label\nSECRET one,pain; fever\nSECRET two,\nSECRET three,fever;fever\n"
FLAGS = "text,fever,pain\nSECRET one,1,1\nSECRET two,0,False\nSECRET three,true,0.0\n"


def read(path: Path, kind: Any = "csv", **source: Any) -> list[tasks.Label]:
    found = load(Source(kind=kind, train=str(path), **source), Seed(0), 2, SEVERAL).train
    assert [t.split()[0] for t in found.texts] == ["SECRET"] * 3
    return list(found.labels)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_one_cell_holds_them_all(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", ONE_CELL)
    assert read(path, label_separator=";") == SETS
    path.write_text(ONE_CELL.replace(";", " and "))
    assert read(path, label_separator=" and ") == SETS


def test_a_column_for_each(tmp_path: Path) -> None:
    assert read(written(tmp_path / "rows.csv", FLAGS), labels=("pain", "fever")) == SETS


def test_lists_of_json_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    texts, lists = [f"SECRET {i}" for i in range(3)], [["pain", "fever"], None, ["fever"]]
    rows = [{"text": t, "label": found} for t, found in zip(texts, lists, strict=True)]
    lines = written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert read(lines, "jsonl") == SETS
    pq.write_table(pa.table({"text": texts, "label": lists}), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet", "parquet") == SETS
    flags = pa.table({"text": texts, "fever": [True, False, True], "pain": [1, 0, 0]})
    pq.write_table(flags, tmp_path / "flags.parquet")
    assert read(tmp_path / "flags.parquet", "parquet", labels=("fever", "pain")) == SETS


@pytest.mark.long
def test_numbers_in_lists_stand_for_a_datasets_names(tmp_path: Path) -> None:
    import datasets

    names = datasets.ClassLabel(names=["fever", "pain"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(names), "flag": names}
    )
    values = {"text": ["SECRET 0", "SECRET 1", "SECRET 2"], "label": [[1, 0], [], [0]]}
    made = datasets.Dataset.from_dict({**values, "flag": [0, 1, 0]}, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    assert read(tmp_path / "saved", "folder") == SETS
    # A column of 0 and 1 isn't named, whatever its numbers are called.
    assert read(tmp_path / "saved", "folder", labels=("flag",)) == [(), ("flag",), ()]


@pytest.mark.parametrize(
    ("content", "source", "parts"),
    [
        ("text,label\na b,x;;y\n", {"label_separator": ";"}, ["row 1", "an empty label", "';'"]),
        ("text,label\na b,x;\n", {"label_separator": ";"}, ["row 1", "an empty label"]),
        ("text,label\na b,x;y\n", {}, ["a list of labels", "label_separator", "data.labels"]),
        ("text,x,y\na b,1,SECRET\n", {"labels": ("x", "y")}, ["0 or 1", "'x', 'y'", "line 2"]),
        ("text,x,y\na b,1,\n", {"labels": ("x", "y")}, ["0 or 1", "got nothing"]),
        ("text,x,y\na b,1,2\n", {"labels": ("x", "y")}, ["0 or 1", "something else"]),
        ("text,x,z\na b,1,0\n", {"labels": ("x", "y")}, ["a column 'y'", "set data.labels"]),
        ("text,x,y\na b,1,0\n", {"labels": ("x", "y")}, ["column 'y'", "0 in every row"]),
        ("text,label\na b,\n", {"label_separator": ";"}, ["at least 1 class", "no label"]),
    ],
)
def test_faults_are_named(
    tmp_path: Path, content: str, source: dict[str, Any], parts: list[str]
) -> None:
    path = written(tmp_path / "rows.csv", content)
    with pytest.raises(DataError) as caught:
        load(Source(kind="csv", train=str(path), **source), Seed(0), 2, SEVERAL)
    for part in (*parts, "rows.csv"):
        assert part in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"labels": ("a", "text")}, "data.text and data.labels must be different"),
        ({"labels": ("a", "a")}, "data.labels must differ"),
        ({"labels": ("a",), "label_separator": ";"}, "leave one of the two out"),
        ({"label_separator": ""}, "got an empty one"),
    ],
)
def test_sources_that_make_no_sense(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Source(kind="csv", train="x.csv", **values)


@pytest.mark.parametrize("values", [{"labels": ("a",)}, {"label_separator": ";"}])
def test_a_single_label_has_no_separator(tmp_path: Path, values: dict[str, Any]) -> None:
    path = written(tmp_path / "rows.csv", "text,a\nx y,1\n")
    with pytest.raises(ConfigError, match=r"use model\.task=multi-label"):
        load(Source(kind="csv", train=str(path), **values), Seed(0), 2, SINGLE)


def test_labels_of_test_rows_must_be_known() -> None:
    rows = Rows(["a", "b", "c"], SETS)
    assert labels_of(rows, SEVERAL) == ("fever", "pain")
    check_test(Rows(["a", "b"], [(), ("pain",)]), ("fever", "pain"), SEVERAL)
    with pytest.raises(DataError, match=r"row 2: .*'new' \(2 test rows have it\)"):
        check_test(Rows("abc", [(), ("new", "pain"), ("new",)]), ("fever", "pain"), SEVERAL)
    with pytest.raises(DataError, match="expects one label"):
        labels_of(rows, SINGLE)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_sets_are_shared_among_sites(kind: Any) -> None:
    sets = [SETS[i * i % 3] for i in range(90)]
    rows = Rows([f"text {i}" for i in range(90)], sets)
    parts = split(rows, Partition(kind=kind, sites=3, alpha=0.1), Seed(1))
    assert Counter(t for part in parts.values() for t in part.texts) == Counter(rows.texts)
    for part in parts.values():
        numbers = [int(text.split()[1]) for text in part.texts]
        assert list(part.labels) == [sets[i] for i in numbers]
    if kind == "dirichlet":
        shares = [max(Counter(p.labels).values()) / len(p) for p in parts.values()]
        assert max(shares) > max(Counter(sets).values()) / 90 + 0.1


def test_made_up_notes_have_sets_too() -> None:
    sets = clinical_notes(800, 4, Seed(3), label_sets=True)
    single = clinical_notes(800, 4, Seed(3))
    assert (sets.texts, sets.patients, sets.sites) == (single.texts, single.patients, single.sites)
    sizes = Counter(map(len, sets.labels))
    assert set(sizes) == {0, 1, 2}
    assert min(sizes.values()) > 20
    own = sum(one in several for one, several in zip(single.labels, sets.labels, strict=True))
    assert own > 600  # the diagnosis is what most phrases are about
    assert set(SEVERAL.vocabulary(sets.labels)) == set(SINGLE.vocabulary(single.labels))
