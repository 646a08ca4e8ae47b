"""Files as people have them: separators, encodings, workbooks, nested objects, gaps, headers."""

import bz2
import gzip
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from fedmodel import config, tasks
from fedmodel.data import Rows, Source, Tables, load
from fedmodel.data.headers import guesses
from fedmodel.errors import ConfigError, DataError, MissingExtraError
from fedmodel.seeds import Seed
from tests.fedmodel.data.files import KINDS, records, source_kind, workbook, write

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")


def loaded(path: Path, kind: str = "csv", task: tasks.Task = SINGLE, **more: Any) -> Tables:
    mapping = {"kind": source_kind(kind), "train": str(path), **more}
    return load(config.build(Source, mapping), Seed(0), 2, task)


def read(folder: Path, content: str | bytes, name: str = "rows.csv", **more: Any) -> Rows:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return loaded(path, "jsonl" if "json" in name else "csv", **more).train


def refused(folder: Path, content: str | bytes, name: str = "rows.csv", **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **more)
    assert "SECRET" not in str(caught.value)
    return str(caught.value)


# -- separators ----------------------------------------------------------------------------------

GERMAN = 'text;label\r\n"Größe 2,5 cm; links";a\r\n"Größe 1,1 cm, rechts";b\r\n'
SIZES = Rows(["Größe 2,5 cm; links", "Größe 1,1 cm, rechts"], ["a", "b"])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_the_separator_is_the_headers(tmp_path: Path, separator: str, ends: str) -> None:
    lines = ["id", "text", "label"], ["1", '"x,y;z|\t""q"""', "a"], ["2", "ä", "b"]
    content = ends.join(separator.join(line) for line in lines)
    assert read(tmp_path, content) == Rows(['x,y;z|\t"q"', "ä"], "ab")


def test_decimal_commas_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, GERMAN) == SIZES
    assert read(tmp_path, "\ufeff" + GERMAN, "rows.tsv") == SIZES
    assert read(tmp_path, GERMAN, separator=";") == SIZES


@pytest.mark.parametrize("hint", ["sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_a_spreadsheets_hint(tmp_path: Path, hint: str) -> None:
    assert read(tmp_path, hint + GERMAN) == SIZES
    assert "row 2 (line 4)" in refused(tmp_path, hint + "text;label\nSECRET;a\nSECRET\n")


@pytest.mark.parametrize(
    "content",
    [
        "a;b;c,text,label\n1,a,x\n2,b,y\n",  # more of one mark, but wanted columns by the other
        "a,b,c,d;text;label\n1;a;x\n2;b;y\n",
        '"a;b,c";text;label\n1;a;x\n2;b;y\n',
        "\n\n,,text;label|text|label|x\n1|a|x|\n2|b|y|\n",
    ],
)
def test_wanted_columns_decide(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == Rows("ab", "xy")


def test_what_spreadsheets_add(tmp_path: Path) -> None:
    content = ";;;\ntext;label;;\na;x;;\nb;y;;\n;;;\n;;;\n"
    assert read(tmp_path, content) == Rows("ab", "xy")
    assert "row 2 (line 4)" in refused(tmp_path, content.replace("b;", ";"))
    # Between rows it is a row that lacks its values, as null is in other kinds of files.
    between = "text;label;;\na;x;;\n;;;\n\nb;y;;\n;;;\n"
    assert "1 of 3 rows lack a value: text ('text') 1, label ('label') 1" in refused(
        tmp_path, between
    )
    assert read(tmp_path, between, missing="drop") == Rows("ab", "xy")


def test_a_separator_that_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "text~label\na~x\nb~y\n", separator="~") == Rows("ab", "xy")
    for tab in ("tab", "TAB", "\t", "\\t"):
        assert read(tmp_path, "text\tlabel\na\tx\nb\ty\n", separator=tab) == Rows("ab", "xy")
    for word, mark in (("comma", ","), ("semicolon", ";"), ("bar", "|"), ("pipe", "|")):
        found = read(tmp_path, f"text{mark}label\na{mark}x\nb{mark}y\n", separator=word)
        assert found == Rows("ab", "xy")
    message = refused(tmp_path, "text,label\na,x\nb,y\n", separator=";")
    assert "a column 'text' (the text) and a column 'label' (the label)" in message
    for wrong in ("", "ab", '"', "a", " ", "\n"):
        with pytest.raises(ConfigError, match=r"data\.separator must be one character"):
            Source(kind="csv", train="x", separator=wrong)


# -- encodings and compression -------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8", "mac-roman"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, GERMAN.encode(encoding), encoding=encoding) == SIZES
    rows = [{"text": t, "label": n} for t, n in zip(SIZES.texts, SIZES.labels, strict=True)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert read(tmp_path, lines.encode(encoding), "rows.jsonl", encoding=encoding) == SIZES
    array = json.dumps(rows, ensure_ascii=False, indent=1)
    assert read(tmp_path, array.encode(encoding), "rows.json", encoding=encoding) == SIZES


def test_a_wrong_encoding_says_what_to_set(tmp_path: Path) -> None:
    assert "data.encoding=cp1252" in refused(tmp_path, GERMAN.encode("cp1252"))
    assert "set data.encoding=utf-16" in refused(tmp_path, GERMAN.encode("utf-16"))
    wide = refused(tmp_path, "text,label\nSECRET,x\nSECRET,y\n".encode("utf-16-le"))
    assert "header (line 1)" in wide
    assert "data.encoding=utf-16" in wide
    line = '{"text": "é", "label": "x"}'.encode("cp1252")
    assert "data.encoding" in refused(tmp_path, line, "rows.jsonl")
    bad = refused(tmp_path, GERMAN.encode("utf-8"), encoding="ascii")
    assert "expected ASCII" in bad
    for wrong in ("base64", "rot13", "no such", "idna", "unicode_escape", "undefined", ""):
        with pytest.raises(ConfigError, match=r"data\.encoding must name"):
            Source(kind="csv", train="x", encoding=wrong)


@pytest.mark.parametrize("method", [gzip, bz2, lzma])
@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv", "rows.jsonl"])
def test_compressed_files(tmp_path: Path, method: Any, name: str) -> None:
    lines = "\n".join(json.dumps(row) for row in records({"text": "ab", "label": "xy"}))
    plain = (lines if "json" in name else "text,label\na,x\nb,y\n").encode()
    packed = method.compress(plain)
    assert read(tmp_path, packed, name) == Rows("ab", "xy")
    for cut in (packed[:-9], packed[:14]):
        assert "damaged or cut off" in refused(tmp_path, cut, name)


@pytest.mark.parametrize(
    ("start", "fix"),
    [(b"PK\x03\x04", "data=excel"), (b"PAR1", "data=parquet"), (b"%PDF-1.7", "a table")],
)
def test_files_of_another_kind_are_known(tmp_path: Path, start: bytes, fix: str) -> None:
    assert fix in refused(tmp_path, start + b"SECRET" * 9)
    assert fix in refused(tmp_path, start + b"SECRET" * 9, "rows.jsonl")


# -- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("start", ["", "\ufeff", " \n "])
def test_an_array_of_objects(tmp_path: Path, indent: int | None, start: str) -> None:
    rows = records({"text": ["a", "b"], "label": [1, 2]})
    assert read(tmp_path, start + json.dumps(rows, indent=indent), "x.json") == Rows("ab", "12")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[]", ["at least one row", "an empty file"]),
        ('[{"text": "SECRET", "label": "x"}, 7]', ["row 2 (item 2)", "a JSON int"]),
        ('[{"text": "SECRET", "label": "x"}', ["malformed JSON", "cut off"]),
        ('[{"text": "SECRET", "label": "x"}, {"text": "b"}]', ["row 2 (item 2)", "'label'"]),
        ('[{"text": "SECRET",\n "text": "x"}]', ["stands twice"]),
        (
            '{"text": {"0": "SECRET"}, "label": {"0": "x"}}',
            ["row 1 (line 1)", "data.text=text.NAME"],
        ),
    ],
)
def test_faults_of_arrays(tmp_path: Path, content: str, parts: list[str]) -> None:
    message = refused(tmp_path, content, "rows.json")
    for part in parts:
        assert part in message


NESTED: dict[str, list[Any]] = {
    "note": [{"text": "a", "meta": {"dx": "x"}}, {"text": "b", "meta": {"dx": "y"}}],
    "who": [{"id": 1}, {"id": 2}],
}


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "saved"])
def test_dotted_names_go_into_objects(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path, NESTED)
    keys: dict[str, Any] = {"text": "note.text", "label": "note.meta.dx", "patient": "who.id"}
    assert loaded(path, kind, **keys).train == Rows("ab", "xy", None, "12")
    with pytest.raises(DataError, match=r"row 1.*'note.body' \(the text\), got nothing"):
        loaded(path, kind, **{**keys, "text": "note.body"})
    with pytest.raises(DataError, match=r"row 1.*type str where an object belongs"):
        loaded(path, kind, **{**keys, "text": "note.text.x"})
    with pytest.raises(
        DataError,
        match=r"a column 'other.text'.*the columns: note.text, note.meta.dx, who.id; .*=note.text",
    ):
        loaded(path, kind, **{**keys, "text": "other.text"})


def test_a_name_with_a_dot_is_first_of_all_a_name(tmp_path: Path) -> None:
    assert read(tmp_path, "note.text,label\na,x\nb,y\n", text="note.text") == Rows("ab", "xy")
    rows = '{"note.text": "a", "note": {"text": 7}, "label": "x"}\n'
    rows += '{"note.text": "b", "note": {"text": 7}, "label": "y"}'
    assert read(tmp_path, rows, "x.jsonl", text="note.text") == Rows("ab", "xy")


# -- workbooks -----------------------------------------------------------------------------------

SHEET: list[list[Any]] = [
    ["text", "label", None],
    ["a", "x", None],
    ["b", 2, "a remark"],
    [None, None, None],
]


def test_workbooks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.xlsx"
    path.write_bytes(workbook([[None]], [[None], *SHEET]))
    assert loaded(path, "excel").train == Rows("ab", "x2")
    assert not caplog.records
    other: list[list[Any]] = [["text", "label"], ["c", "z"], ["d", "x"]]
    path.write_bytes(workbook([], SHEET, other))
    assert loaded(path, "excel").train == Rows("ab", "x2")
    assert "sheet 'S2' is read; there are values in 'S3' too (data.sheet=NAME" in caplog.text
    assert loaded(path, "excel", sheet="S3").train == Rows("cd", "zx")
    with pytest.raises(DataError, match=r"'S9', got the sheets: S1, S2, S3; set data.sheet"):
        loaded(path, "excel", sheet="S9")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([], ["at least one row", "an empty file"]),
        ([["text", "label"]], ["at least one row"]),
        ([["text", "label"], ["SECRET", None]], ["rows.xlsx[S1], row 1 (row 2 of", "'label'"]),
        ([["text", "label"], ["SECRET", 1e17]], ["row 2 of the sheet", "15 digits", "as text"]),
        ([["befund", "label"], ["SECRET", "x"]], ["befund, label", "perhaps data.text=befund"]),
        ([["SECRET a b c d e f", "x"]], ["2 columns whose names look like data"]),
        ([["text", "text", "label"]], ["more than once"]),
    ],
)
def test_faults_of_workbooks(tmp_path: Path, rows: list[list[Any]], parts: list[str]) -> None:
    path = tmp_path / "rows.xlsx"
    path.write_bytes(workbook(rows))
    with pytest.raises(DataError) as caught:
        loaded(path, "excel")
    assert "SECRET" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_what_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    for content in (b"", b"text,label\nSECRET,x\n", workbook(SHEET)[:-40]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="a whole workbook, got one that is damaged"):
            loaded(path, "excel")


def test_without_the_library_of_workbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    (tmp_path / "rows.xlsx").write_bytes(workbook(SHEET))
    with pytest.raises(MissingExtraError, match=r"data=excel needs .*pip install 'fedmodel\[excel"):
        loaded(tmp_path / "rows.xlsx", "excel")


# -- rows that lack a value ----------------------------------------------------------------------

GAPS: dict[str, list[Any]] = {
    "text": ["a", None, "c", "d", None, "e", "f"],
    "label": ["x", "y", None, "y", None, "y", None],
    "patient": ["1", "2", "3", None, None, "5", None],
}


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


# -- what has no effect is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"kind": "parquet", "separator": ";"}, r"data\.separator is for data=csv"),
        ({"kind": "jsonl", "separator": ";"}, r"data\.separator is for data=csv"),
        ({"kind": "excel", "encoding": "cp1252"}, r"data\.encoding is for data=csv"),
        ({"kind": "csv", "sheet": "S1"}, r"data\.sheet is for data=excel"),
        ({"kind": "csv", "test": "x", "train_only": ("a",)}, r"data\.train_only says"),
        ({"kind": "folder", "test_split": "x", "train_only": ("a",)}, r"data\.train_only says"),
        ({"kind": "synthetic", "train_only": ("a",)}, r"data\.train_only says"),
    ],
)
def test_keys_without_effect(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Source(train="x", **values)
