"""Each fault in a file is one DataError that says where it is and what to do, and tells no text."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from fedmodel import tasks
from fedmodel.data import Rows, Source, check_test, labels_of, load
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed

SINGLE = tasks.of("sequence-classification")

GOOD = b"text,label\nSECRET one,x\nSECRET two,y\n"
HEAD = "text,label\nSECRET one,x\n"


def refused(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        load(source, Seed(0), 2, SINGLE)
    message = str(caught.value)
    assert "SECRET" not in message
    assert "expected" in message
    assert "got" in message
    assert caught.value.__cause__ is None
    return message


def refused_csv(folder: Path, content: bytes, **source: Any) -> str:
    path = folder / "rows.csv"
    path.write_bytes(content)
    message = refused(Source(kind="csv", train=str(path), **source))
    assert "rows.csv" in message
    return message


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["at least one row", "an empty file", "give a file"]),
        (b"\n\n", ["an empty file"]),
        (b"text,label\n", ["at least one row", "give a file with rows"]),
        (b"txt,label\nSECRET,x\n", ["'text'", "txt, label", "did you mean 'txt'", "data.text"]),
        (b"text,class\nSECRET,x\n", ["'label'", "text, class", "data.label"]),
        (b"txt;label\nSECRET;x\n", ["'text'", "txt, label", "did you mean 'txt'"]),
        (b"text,label,text\nSECRET,x,b\n", ["'text'", "more than once", "rename"]),
        (HEAD.encode() + b",y\n", ["row 2 (line 3)", "'text'", "an empty value", "fill it in"]),
        (HEAD.encode() + b'" \t ",y\n', ["row 2 (line 3)", "'text'", "only white space"]),
        (HEAD.encode() + b"SECRET,\n", ["row 2 (line 3)", "'label'", "empty", "fill it in"]),
        (HEAD.encode() + b"SECRET,  \n", ["row 2 (line 3)", "'label'", "only white space"]),
        (HEAD.encode() + b"SECRET\n", ["row 2 (line 3)", "2 fields", "got 1", "complete"]),
        (HEAD.encode() + b"SECRET,y,z\n", ["row 2 (line 3)", "2 fields", "got 3", "quote"]),
        (HEAD.encode() + b"SECRET\0,y\n", ["row 2 (line 3)", "NUL byte", "damaged"]),
        (HEAD.encode() + b'"SECRET"x,y\n', ["row 2 (line 3)", "malformed"]),
        (
            HEAD.encode() + b'"SECRET two\nlines",y\n"SECRET cut, off\nhere\n',
            ["row 3 (line 5)", "closing quote", "end of the file", "close the quote"],
        ),
        (b'text,"lab\nSECRET,x\n', ["header (line 1)", "closing quote"]),
        (HEAD.encode() + b"SECRET,x\n", ["at least 2 classes", "'x'", "all 2 rows", "data.label"]),
    ],
    ids=range(18),  # not the content: a test's name ends up in its path
)
def test_faults_of_csv(tmp_path: Path, content: bytes, parts: list[str]) -> None:
    message = refused_csv(tmp_path, content)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("rows_before", [0, 1, 5000])
def test_bytes_that_are_not_utf8(tmp_path: Path, rows_before: int) -> None:
    before = b"text,label\n" + b'"SECRET\nrow",x\n' * rows_before
    message = refused_csv(tmp_path, before + b"SECRET caf\xe9,y\n" + b"SECRET,x\n" * 3000)
    assert f"row {rows_before + 1} (line {2 * rows_before + 2})" in message
    assert f"0xe9 at byte offset {len(before) + 10}" in message
    assert "save the file as UTF-8" in message


def test_utf16_and_cut_off_character(tmp_path: Path) -> None:
    assert "byte offset 0" in refused_csv(
        tmp_path, GOOD.decode().encode("utf-16"), encoding="utf-8"
    )
    assert "row 3" in refused_csv(tmp_path, GOOD + "é".encode()[:1])


def test_a_file_without_header_is_not_shown(tmp_path: Path) -> None:
    message = refused_csv(tmp_path, b"SECRET words of a patient who came at night,x\n")
    assert "look like data" in message
    assert "line of column names" in message


@pytest.mark.parametrize("extra", ["site", "patient"])
def test_site_and_patient_columns(tmp_path: Path, extra: str) -> None:
    named: dict[str, Any] = {extra: "extra"}
    message = refused_csv(tmp_path, GOOD, **named)
    assert "a column 'extra'" in message
    assert f"data.{extra}" in message
    message = refused_csv(tmp_path, b"text,label,extra\nSECRET,x,a\nSECRET,y,\n", **named)
    assert f"row 2 (line 3): expected text or a whole number in column 'extra' (the {extra})" in (
        message
    )


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_row_whose_patient_is_missing_is_refused(
    tmp_path: Path, kind: Any, missing: str | None
) -> None:
    # Under privacy.unit=patient such rows would all be one patient's, or each a patient of its own.
    values: list[dict[str, Any]] = [
        {"text": "SECRET", "label": label, "patient": patient}
        for label, patient in (("x", "1"), ("y", missing))
    ]
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(values), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in values))
    else:
        lines = [f"{r['text']},{r['label']},{r['patient'] or ''}" for r in values]
        path.write_text("\n".join(["text,label,patient", *lines]) + "\n")
    message = refused(Source(kind=kind, train=str(path), patient="patient"))
    assert "row 2" in message
    assert "(the patient)" in message


def test_site_and_patient_columns_may_miss_from_the_test_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"text,label,s,p\na,x,h,1\nb,y,i,2\n")
    (tmp_path / "test.csv").write_bytes(GOOD)
    source = Source(
        kind="csv",
        train=str(tmp_path / "train.csv"),
        test=str(tmp_path / "test.csv"),
        site="s",
        patient="p",
    )
    tables = load(source, Seed(0), 2, SINGLE)
    assert tables.train == Rows(["a", "b"], ["x", "y"], ["h", "i"], ["1", "2"])
    assert tables.test is not None
    assert tables.test.sites is None


def test_a_label_unseen_in_training(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "test.csv").write_bytes(b"text,label\nSECRET,x\nSECRET,new\nSECRET,new\n")
    message = refused(
        Source(kind="csv", train=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    )
    for part in ("test.csv, row 2", "'x', 'y'", "'new' (2 test rows have it)", "correct the label"):
        assert part in message


def test_a_long_label_is_not_shown() -> None:
    with pytest.raises(DataError, match="got a value of 50 characters") as caught:
        check_test(Rows(["a"], ["SECRET one" * 5]), ("x", "y"), SINGLE)
    assert "SECRET" not in str(caught.value)


def test_one_class_and_no_rows() -> None:
    with pytest.raises(DataError, match="one class in all 2 rows: 'x'"):
        labels_of(Rows(["a", "b"], ["x", "x"]), SINGLE)
    with pytest.raises(DataError, match="no rows"):
        labels_of(Rows([], []), SINGLE)
    assert labels_of(Rows(["a", "b"], ["y", "x"]), SINGLE) == ("x", "y")


@pytest.mark.parametrize(
    ("label", "meant"), [("Benign", "benign"), ("01", "1"), ("bening", "benign"), ("zzz", None)]
)
def test_a_label_that_is_nearly_known(label: str, meant: str | None) -> None:
    with pytest.raises(DataError) as caught:
        check_test(Rows("a", [label]), ["benign", "1"], SINGLE)
    assert (f"did you mean '{meant}'?" in str(caught.value)) == (meant is not None)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"{oops", ["row 2 (line 3)", "malformed JSON", "column 2", "correct the line"]),
        (b'{"text": "SECRET", "la', ["row 2 (line 3)", "malformed JSON", "cut off"]),
        (b'["SECRET", "y"]', ["row 2 (line 3)", "a JSON list"]),
        (b'{"text": "SECRET"}', ["row 2 (line 3)", "'label'", "columns: text"]),
        (b'{"text": "SECRET", "label": null}', ["row 2 (line 3)", "'label'", "null or NaN"]),
        (b'{"text": NaN, "label": "y"}', ["row 2 (line 3)", "'text'", "null or NaN"]),
        (
            b'{"text": {}, "label": "y"}',
            ["row 2 (line 3)", "type dict", "data.text=text.NAME"],
        ),
        (b'{"text": "SECRET", "label": [1]}', ["row 2 (line 3)", "'label'", "type list"]),
        (b'{"text": "SECRET", "label": 1e999}', ["row 2 (line 3)", "'label'", "infinite"]),
        (b'{"text": "SECRET\\u0000", "label": "y"}', ["row 2 (line 3)", "NUL"]),
        (b'{"text": "SECRET\\ud800", "label": "y"}', ["row 2 (line 3)", "surrogate"]),
        (b'{"text": "SECRET", "text": "b", "label": "y"}', ["row 2 (line 3)", "stands twice"]),
        (b'{"text": "SECRET \xff", "label": "y"}', ["row 2 (line 3)", "0xff at byte offset 55"]),
        (b'{"text": "", "label": "y"}', ["row 2 (line 3)", "'text'", "empty"]),
        (b"[" * 100_000, ["row 2 (line 3)", "too deep"]),
        (b'{"text": "SECRET", "label": ' + b"1" * 5000 + b"}", ["row 2 (line 3)", "too long"]),
    ],
    ids=range(16),  # not the lines: a test's name ends up in its path
)
def test_faults_of_jsonl(tmp_path: Path, line: bytes, parts: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "SECRET one", "label": "x"}\n\n' + line + b"\n")
    message = refused(Source(kind="jsonl", train=str(path)))
    for part in ["rows.jsonl", *parts]:
        assert part in message


def test_an_empty_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"")
    assert "an empty file" in refused(Source(kind="jsonl", train=str(path)))


@pytest.mark.parametrize("damage", ["not parquet", "empty", "cut off", "null", "nan", "columns"])
def test_faults_of_parquet(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "rows.parquet"
    column = ["SECRET one", None if damage == "null" else "SECRET two"]
    labels: list[Any] = [1.0, float("nan")] if damage == "nan" else ["x", "y"]
    named = {"body" if damage == "columns" else "text": column, "label": labels}
    pq.write_table(pa.table(named), path)
    if damage == "not parquet":
        path.write_bytes(GOOD)
    elif damage in ("empty", "cut off"):
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -30])
    message = refused(Source(kind="parquet", train=str(path)))
    parts = {
        "null": ["row 2", "'text'", "null or NaN", "fill it in"],
        "nan": ["row 2", "'label'", "null or NaN", "fill it in"],
        "columns": ["'text'", "body, label", "data.text"],
    }.get(damage, ["a whole Parquet file", "cut off", "again"])
    for part in ["rows.parquet", *parts]:
        assert part in message


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folder"])
def test_a_path_to_nothing_or_to_the_wrong_thing(tmp_path: Path, kind: Any) -> None:
    gone = str(tmp_path / "gone")
    message = refused(Source(kind=kind, train=gone))
    assert gone in message
    assert "correct data.train" in message
    wrong = tmp_path / "wrong"
    wrong.write_bytes(GOOD) if kind == "folder" else wrong.mkdir()
    message = refused(Source(kind=kind, train=str(wrong)))
    assert f"for data={kind}" in message
    assert "set data" in message


def test_huge_fields_are_read(tmp_path: Path) -> None:
    assert csv.field_size_limit() > 0
    path = tmp_path / "rows.csv"
    text = "word " * 400_000
    path.write_text(f"text,label\n{text},x\nb,y\n")
    assert load(Source(kind="csv", train=str(path)), Seed(0), 2, SINGLE).train.texts[0] == text


def test_values_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbftext,label\r\n" a ""b"",\r\nc",NA\r\n\r\n\xc3\xa9, 1\r\n')
    rows = load(Source(kind="csv", train=str(path)), Seed(0), 2, SINGLE).train
    assert rows == Rows([' a "b",\r\nc', "é"], ["NA", " 1"])
    lines = tmp_path / "rows.jsonl"
    records = [
        {"text": t, "label": i}
        for i, t in enumerate(rows.texts)  # whole numbers become text
    ]
    lines.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8-sig")
    read = load(Source(kind="jsonl", train=str(lines)), Seed(0), 2, SINGLE).train
    assert read == Rows(rows.texts, ["0", "1"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "csv"}, "data=csv needs data.train=<path>"),
        ({"kind": "hub"}, "data=hub needs data.train=<hub id>"),
        ({"kind": "hub", "train": "a/b", "test": "c"}, "data.test_split"),
        ({"text": "a", "label": "a"}, "different columns, got 'a'"),
        ({"test_fraction": 1.0}, r"data.test_fraction must be in \(0, 1\), got 1.0"),
        ({"rows": 0}, "data.rows must be at least 1"),
        ({"test_rows": -1}, "data.test_rows must not be negative"),
    ],
)
def test_sources_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Source(**values)
