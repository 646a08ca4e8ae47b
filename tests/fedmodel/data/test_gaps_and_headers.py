"""Rows that lack a value, and headers with other names than the wanted ones."""

from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from fedmodel.data import Rows
from fedmodel.data.headers import guesses
from fedmodel.errors import DataError
from tests.fedmodel.data.files import KINDS, write
from tests.fedmodel.data.reading import SEVERAL, loaded, read, refused

# -- rows that lack a value ----------------------------------------------------------------------

GAPS: dict[str, list[Any]] = {
    "text": ["a", None, "c", "d", None, "e", "f"],
    "label": ["x", "y", None, "y", None, "y", None],
    "patient": ["1", "2", "3", None, None, "5", None],
}


def test_only_empty_fields_beyond_the_header_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "text,label\na,x,\nb,y,,\n") == Rows("ab", "xy")
    assert "line 3" in refused(tmp_path, "text,label\na,x,\nb,y,SECRET\n")
    assert "line 3" in refused(tmp_path, "text,label\na,x\nb,y,,SECRET\n")


@pytest.mark.sample(5)
@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_gaps_are_counted_over_the_whole_file(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(kind, tmp_path, GAPS)
    with pytest.raises(DataError) as caught:
        loaded(path, kind, patient="patient")
    said = "5 of 7 rows lack a value: text ('text') 2, label ('label') 3, patient ('patient') 3"
    for part in (", row 2", "'text'", "fill it in", "data.missing=drop", said):
        assert part in str(caught.value)
    left = loaded(path, kind, patient="patient", missing="drop").train
    assert left == Rows("ae", "xy", None, "15")
    assert "5 of 7 rows are left out" in caplog.text


def test_of_a_test_file_too_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\na,x\nb,\n")
    named: dict[str, Any] = {"test": str(tmp_path / "test.csv")}
    content = "text,label\na,x\nb,y\n"
    assert "test.csv, row 2" in refused(tmp_path, content, **named)
    (tmp_path / "rows.csv").write_text(content)
    tables = loaded(tmp_path / "rows.csv", missing="drop", **named)
    assert tables.test == Rows("a", "x")
    message = refused(tmp_path, "text,label\nSECRET,\n,y\n", missing="drop")
    assert "none that is complete (text ('text') 1, label ('label') 1)" in message


def test_an_empty_set_of_labels_is_no_gap(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na,x;y\nb,\n", task=SEVERAL, label_separator=";")
    assert list(found.labels) == [("x", "y"), ()]
    flags = "text,x,y\na,1,0\nb,0,1\nc,,1\n"
    message = refused(tmp_path, flags, task=SEVERAL, labels=["x", "y"])
    assert "1 of 3 rows lack a value: label ('x') 1" in message
    left = read(tmp_path, flags, task=SEVERAL, labels=["x", "y"], missing="drop")
    assert list(left.labels) == [("x",), ("y",)]


def test_a_key_that_a_row_of_json_lacks(tmp_path: Path) -> None:
    rows = '{"text": "a", "label": "x"}\n{"text": "b"}\n{"text": "c", "label": "y"}\n'
    assert "row 2 (line 2)" in refused(tmp_path, rows, "x.jsonl")
    assert "set data.missing=drop" in refused(tmp_path, rows, "x.jsonl")
    assert read(tmp_path, rows, "x.jsonl", missing="drop") == Rows("ac", "xy")
    first = '{"text": "b"}\n{"label": "y"}\n' + rows
    assert read(tmp_path, first, "x.jsonl", missing="drop") == Rows("ac", "xy")
    message = refused(tmp_path, '{"text": "SECRET"}\n{"a": 1}\n', "x.jsonl", missing="drop")
    assert "row 1 (line 1): expected a column 'label'" in message


def test_parquets_missing_values_are_those_of_csv(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": [1.0, float("nan"), 2.0]})
    pq.write_table(table, tmp_path / "rows.parquet")
    left = loaded(tmp_path / "rows.parquet", "parquet", missing="drop").train
    assert left == read(tmp_path, "text,label\na,1.0\nb,\nc,2.0\n", missing="drop")


# -- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        (
            "hospital,report,dx,pid",
            [
                "expected a column 'text' (the text) and a column 'label' (the label)",
                "got the columns: hospital, report, dx, pid",
                "perhaps data.text=report, perhaps data.label=dx",
                "data.site=hospital data.patient=pid",
            ],
        ),
        ("klinik,befund,diagnose", ["data.text=befund", "data.label=diagnose", "data.site=klinik"]),
        ("Note Text,ICD-10 code", ["\"data.text='Note Text'\"", "\"data.label='ICD-10 code'\""]),
        ("clinicalNote,label", ["perhaps data.text=clinicalNote"]),
        ("txt,label", ["set data.text to the column of the text (did you mean 'txt'?)"]),
        ("a,b", ["got the columns: a, b", "set data.text to", "set data.label to"]),
        ("Diagnostic,Texte", ["data.text=Texte", "data.label=Diagnostic"]),
    ],
)
def test_a_header_of_other_names(tmp_path: Path, header: str, parts: list[str]) -> None:
    values = ",".join(f"SECRET{i}" for i in range(header.count(",") + 1))
    message = refused(tmp_path, f"{header}\n{values}\n")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "content",
    [
        "SECRET,x\nother,x\n",  # names that come again are no names
        "label,SECRET\nnote,x\nlabel,y\n",
        "SECRET has pain,x\nhas cough,y\n",
    ],
)
def test_the_first_row_of_a_file_without_header_is_not_shown(tmp_path: Path, content: str) -> None:
    refused(tmp_path, content)


def test_a_long_name_is_not_shown_among_others(tmp_path: Path) -> None:
    message = refused(tmp_path, "age,SECRET as a whole row of a note would be long,label\n1,a,x\n")
    assert "got the columns: age, (a long name), label; set data.text" in message


def test_guesses() -> None:
    roles = ["text", "label", "site", "patient"]
    assert guesses([], roles) == {}
    assert guesses(["age", "sex"], roles) == {}
    assert guesses(["diagnosis_text", "diagnosis"], roles) == {
        "text": "diagnosis_text",
        "label": "diagnosis",
    }
    assert guesses(["text", "report_id"], ["text"]) == {"text": "text"}
