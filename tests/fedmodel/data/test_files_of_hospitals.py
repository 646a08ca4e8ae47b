"""Files that hospitals bring: each is read as it is meant, or refused with what to do."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from fedmodel.data import Rows, Source, load
from fedmodel.data.looks import near_equal
from fedmodel.errors import DataError
from fedmodel.seeds import Seed
from tests.fedmodel.data.files import workbook
from tests.fedmodel.data.reading import SINGLE, loaded, read, refused

PLAIN = "text,label\na,x\nb,y\n"
LINES = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
ROWS = Rows("ab", "xy")
MANY = "".join(f"note {i * 7919 % 1000} of {i},{'xy'[i % 2]}\n" for i in range(3000))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.txt", PLAIN.replace(",", "\t").encode("utf-16")),  # Excel's "Unicode text"
        ("rows.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
        ("rows.jsonl", LINES.encode("utf-16")),
        ("rows.csv", "\ufeff" + PLAIN),
        ("rows.csv", '\ufeff"text","label"\r\na,x\r\nb,y\r\n'),
        ("rows.csv", " text ,\u00a0label\u00a0\na,x\nb,y\n"),
        ("rows.csv", "text,label\u200b\na,x\nb,y\n"),
        ("rows.csv", "\u202atext\u202c,label\u200e\na,x\nb,y\n"),  # marks of direction
        ("rows.csv", "text,label,,,\na,x,,,\nb,y,,,\n,,,,\n"),
        ("rows.csv", "text,label\na,x,\nb,y,,\n"),  # a separator ends each row, but no header
        ("rows.csv", ",text,label\n0,a,x\n1,b,y\n"),  # an index without a name
        ("rows.csv", "text,label,note,note\na,x,1,2\nb,y,3,4\n"),  # doubles of no concern
        ("rows.csv", "text,label\r\na,x\nb,y\r"),
        ("rows.json", "\ufeff[" + LINES.strip().replace("\n", ",\n") + "]"),
    ],
)
def test_read_as_it_is_meant(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(tmp_path, content, name) == ROWS


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('text,label\r\n"a\r\n\r\n""b"", c",x\r\nd,y\r\n', Rows(['a\r\n\r\n"b", c', "d"], "xy")),
        (f"text,label\n{'a' * 3_000_000},x\nb,y\n", Rows(["a" * 3_000_000, "b"], "xy")),
        ("text,label\na,0.0\nb,1.0\n", Rows("ab", ["0.0", "1.0"])),
        ("text,diagnose\u0301\na,x\nb,y\n", ROWS),
        ('text,label,pid\na,x,"1,234"\nb,y,1 234\n', Rows("ab", "xy", None, ["1,234", "1 234"])),
    ],
    ids=["line breaks", "a long cell", "zero and one as fractions", "decomposed", "thousands"],
)
def test_values_stay_what_they_are(tmp_path: Path, content: str, rows: Rows) -> None:
    keys: dict[str, Any] = {"patient": "pid"} if "pid" in content else {}
    keys |= {"label": "diagnos\u00e9"} if "diagnos" in content else {}
    assert read(tmp_path, content, **keys) == rows


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", "text,label,text\nSECRET,x,1\n", ["more than once: 'text'", "rename"]),
        ("a.csv", "text,text \nSECRET,x\n", ["'label'", "data.label"]),
        ("a.csv", "Text,LABEL\nSECRET,x\n", ["data.text=Text", "data.label=LABEL"]),
        ("a.csv", "text,label\nSECRET,x\nb,x\n", ["at least 2 classes", "one class in all 2"]),
        ("a.csv", "text,label\n \t,x\nb,y\n\u00a0\u2003,y\n", ["only white", "2 of 3 rows lack"]),
        ("a.csv", b"text,label\nSECRET\0,x\n", ["row 1 (line 2)", "NUL byte"]),
        ("a.csv", PLAIN.encode("utf-16-be"), ["NUL byte", "data.encoding=utf-16"]),
        ("a.csv", "text,label\nSECRET große,x\n".encode("cp1252"), ["data.encoding=cp1252"]),
        ("a.csv.gz", gzip.compress(MANY.encode())[:-900], ["gzip", "damaged or cut off"]),
        ("a.csv", 'text,label\n"SECRET,x\nb,y\n', ["closing quote", "cut off"]),
        ("a.csv", "# SECRET export of ward 7\ntext,label\na,x\n", ["looks like data", "begin the"]),
        ("a.csv", "SECRET report of ward 7\n\ntext,label\na,x\n", ["looks like data"]),
        ("a.csv", "text~label\nSECRET~x\n", ["set data.separator to the character"]),
        ("a.csv", "text,label\n", ["at least one row of data"]),
        ("a.csv", "\n\n", ["an empty file"]),
        ("a.csv", LINES, ["a file of JSON", "data=jsonl"]),
        ("a.csv", f"[{LINES}]", ["a file of JSON", "data=jsonl"]),
        ("a.csv", "<!DOCTYPE html><html>SECRET</html>", ["a web page", "to log in"]),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid SECRET\n", ["git lfs pull"]),
        ("a.csv", "{\\rtf1 SECRET}", ["RTF", "as CSV"]),
        ("a.jsonl", "text,label\nSECRET,x\n", ["line 1", "data=csv"]),
        ("a.jsonl", LINES + '{"text": "SECRET",\n' + LINES, ["row 3 (line 3)", "correct the line"]),
        ("a.jsonl", LINES.replace("}", "},"), ["row 1 (line 1)", "malformed JSON"]),
        ("a.jsonl", LINES.replace('"y"', "NaN"), ["row 2 (line 2)", "null or NaN", "=drop"]),
        ("a.jsonl", LINES.replace('"y"', '["y", "SECRET"]'), ["multi-label-classification"]),
        ("a.json", '{"text": ["SECRET"], "label": ["x"]}', ["row 1", "type list"]),
    ],
)
def test_refused_with_what_to_do(
    tmp_path: Path, name: str, content: str | bytes, parts: list[str]
) -> None:
    message = refused(tmp_path, content, name)
    for part in parts:
        assert part in message


def test_lists_that_are_written_as_text(tmp_path: Path) -> None:
    rows = "".join(f"\"note {i}\",\"['x', 'y{i % 2}']\"\n" for i in range(12))
    message = refused(tmp_path, "text,label\n" + rows)
    assert "lists that are written as text" in message
    assert "data.label_separator" in message


def test_a_name_in_brackets_is_no_list(tmp_path: Path) -> None:
    rows = "".join(f"note {i},[{'xy'[i % 2]}-ray]\n" for i in range(12))
    assert set(read(tmp_path, "text,label\n" + rows).labels) == {"[x-ray]", "[y-ray]"}
    for written in ("[0]", "[]", '["x"]', "[ 'x' ]", "[x, y]"):
        quoted = written.replace('"', '""')
        rows = f'a,"{quoted}"\nb,[9]\n' * 6
        message = refused(tmp_path, "text,label\n" + rows)
        assert "lists that are written as text" in message


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "parquet", "excel"):
        with pytest.raises(DataError, match=r"got a folder; name the file, or set data=folder"):
            loaded(tmp_path, kind)


def test_an_empty_site_is_a_gap(tmp_path: Path) -> None:
    content = "text,label,ward\na,x,A\nb,y,\nc,y,B\n"
    assert "site ('ward') 1" in refused(tmp_path, content, site="ward")
    left = read(tmp_path, content, site="ward", missing="drop")
    assert left == Rows("ac", "xy", "AB")


def test_one_class_at_a_site_is_no_fault(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label,ward\na,x,A\nb,x,A\nc,y,B\nd,x,B\n", site="ward")
    assert found.sites == ("A", "A", "B", "B")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Benign", "benign"], "'Benign' (10 rows), 'benign' (10 rows)"),
        (["0", "0.0"], "'0' (10 rows), '0.0' (10 rows)"),
        (["x", "NaN"], "'NaN' is a class, of 10 rows"),
        (["x", "NULL"], "'NULL' is a class, of 10 rows"),
    ],
)
def test_classes_that_are_hardly_meant_are_said(
    tmp_path: Path, labels: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"note {i},{labels[i % 2]}\n" for i in range(20))
    assert set(read(tmp_path, "text,label\n" + rows).labels) == set(labels)
    assert said in caplog.text


def test_numbers_that_differ_are_not_near() -> None:
    assert near_equal(["1.05", "1.5", "10", "1", "0.1", "1.10", "2,5", "2,05", "100"]) == []
    assert near_equal(["1", "1.0", "01", "1,00"]) == [["01", "1", "1,00", "1.0"]]


def test_a_sheet_with_an_index_and_blanks_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    sheet: list[list[Any]] = [[None, " text", "label "], [1, "a", 1.0], [2, "b", 0.0]]
    path.write_bytes(workbook(sheet))
    source = Source(kind="excel", train=str(path))
    assert load(source, Seed(0), 1, SINGLE).train == Rows("ab", "10")
