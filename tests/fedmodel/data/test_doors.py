"""Files as people have them: separators, encodings, workbooks, nested objects."""

import base64
import bz2
import gzip
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmodel.cli.composing import as_typed, compose, expand
from fedmodel.cli.verbs import LISTS, TEXTS
from fedmodel.data import Partition, Rows, Source, split
from fedmodel.errors import ConfigError, DataError, MissingExtraError
from fedmodel.seeds import Seed
from tests.fedmodel.data.files import KINDS, Table, open_document, records, workbook, write
from tests.fedmodel.data.reading import SEVERAL, loaded, read, refused


def cli_keys(*overrides: str) -> Any:
    words = as_typed(overrides, TEXTS["simulate"] | LISTS["simulate"])
    (combination,) = expand(words)
    return compose("simulate", combination)["data"]


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
    for tab in ("tab", "TAB", "tabs", "<tab>", "\t", "\\t", "\\\\t", "\\x09", "Tabulator"):
        assert read(tmp_path, "text\tlabel\na\tx\nb\ty\n", separator=tab) == Rows("ab", "xy")
    words = {",": "comma", ";": "semicolon", "|": "pipe bar"}
    more = {
        ",": ["Commas", "\\,"],
        ";": ["semi-colon", "\\;", "';'", "'\";\"'"],
        "|": ["\\|", " | "],
    }
    for word, mark in ((w, m) for m in words for w in [m, *words[m].split(), *more[m]]):
        found = read(tmp_path, f"text{mark}label\na{mark}x\nb{mark}y\n", separator=word)
        assert found == Rows("ab", "xy")
    message = refused(tmp_path, "text,label\na,x\nb,y\n", separator=";")
    assert "a column 'text' (the text) and a column 'label' (the label)" in message
    for wrong in ("", "ab", '"', "a", " ", "\n", "t", "ts", "//"):
        with pytest.raises(ConfigError, match=r"data\.separator must be a word \(comma, semicolon"):
            Source(kind="csv", train="x", separator=wrong)


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize(
    "typed", [";", "\\;", "';'", "\\\\;", "\\t", "|", "\\|", "'|'", "tab", "\\"]
)
def test_a_separator_comes_through_a_command_line(typed: str) -> None:
    keys = cli_keys("data=csv", "data.train=x", f"data.separator={typed}")
    known = {"t": "\t", "tab": "\t", "": "\\"}
    bare = typed.strip("'").lstrip("\\")
    source = Source(kind="csv", train="x", separator=keys["separator"])
    assert source.form.separator == known.get(bare, bare)


@pytest.mark.parametrize("key", ["data.separator", "data.label_separator"])
def test_where_a_shell_has_cut_the_command(key: str) -> None:
    # What the shell leaves of `data.separator=; data.train=x`.
    keys = cli_keys("data=csv", f"{key}=")
    name = key.partition(".")[2]
    with pytest.raises(ConfigError, match=rf"in quotes: write {key}=semicolon, bar"):
        Source(kind="csv", **{name: keys[name]})
    with pytest.raises(ConfigError, match=rf"; write {key}=semicolon, tab, bar or comma"):
        cli_keys("data=csv", f"{key}=$'\\t'")


def test_words_stand_between_labels_too(tmp_path: Path) -> None:
    content = "text,label\na,x; y\nb,\n"
    for typed in (";", "semicolon", "\\;", "; "):
        found = read(tmp_path, content, task=SEVERAL, label_separator=typed)
        assert list(found.labels) == [("x", "y"), ()]


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
    assert "set data.encoding=utf-16" in refused(
        tmp_path, GERMAN.encode("utf-16"), encoding="utf-8"
    )
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


# A workbook of 1997 as other tools write it (BIFF8): what SHEET97 says.
OLD = lzma.decompress(base64.b85decode(
    "{Wp48S^xk9=GL@E0stWa761SMbT8$j;1&M@Z(RUrGrk;#Fn3_|q=YI!3><bRg7T4u+=$92y5XR=#sm{*o6VTHX*C"
    "rpnc)M|#puk@^h-b4s3P%T*|5j%FV#XmrK5@>cY#$Aa2quG5BsCaW&p=w%`2#&kvK33jLRL19^cVN7!7pe@YpAhl"
    "_+DTtxO8)TRNPt)$jvGwZ=DKT9_0{g2$JZU%zO6<~VSw4G;M{w;st9r-w<b@Tc+k&|CN&3`S&;8D$H(R&1aqNjQm"
    "I@-42P{P%Ep1#_Jhez|mhmNk05fxUyT<Aa^KHc{Jf2CWFOTK0K!iTP`pUo&aY7%^q(R%a4y1uf{b=m4j6cZ&sDRu"
    "pE;3WR%wP?pg8(2t|!H3xC;$K%buJxABKAx#5NIR;i8;Rk}sD6KOcAHO?FIA0X3aWGzUpu<?d?L_ffL>x`ZMi6PC"
    "C*7~vL;8&0RsxIPr(`?J7_wZJP${DND48T$viwd$-j37GoUX|dUVi<1@|gw}k!O0mFXl;!)y<joz|xc<-fQcoTCG"
    "-SwS|!1m=qS}W-<7FI@i1pG624CD~m+mL_Db@^T0oC(Z<W2*{7{AV-64tE%~OfOczPm@<|_sAemBT^QV@u@9bUfQ"
    "o;*jyd34Xo@z=>VlL4R94~IYAW<gcaHjC>!IfiXo%Fkj+;t@46X*IBG7XrFZIeP%l}w#arM@Vdyc@7awK65;wQR>"
    "D0CpLf;8N!jN65+qw=5u8@4KO@zD!D^U{F4n#L}>Rjj*A@;|jUg;L~&!3_eq3{`*yBoi#<0$0a#uT^SzTgXl5K=Q"
    "^^wX~qXABuZYbyPAI+kQVD?yZ`_Iv>W@ySnGke00D~yfGhw23AW6mvBYQl0ssI200dcD"
))  # fmt: skip
SHEET97: list[list[Any]] = [
    ["text", "label", "patient"],
    ["Größe 2,5", "x", "01"],
    ["b", 2, 7],
]


@pytest.mark.parametrize("kind", ["xls", "xlsx", "ods"])
def test_workbooks_of_every_kind(tmp_path: Path, kind: str) -> None:
    made = {"xls": OLD, "xlsx": workbook(SHEET97), "ods": open_document(SHEET97)}
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(made[kind])
    found = loaded(path, "excel", patient="patient").train
    assert found == Rows(["Größe 2,5", "b"], "x2", None, ["01", "7"])
    renamed = path.rename(tmp_path / "rows.csv")  # people do
    assert loaded(renamed, "excel", patient="patient").train == found
    with pytest.raises(DataError, match="set data=excel"):
        loaded(renamed)


def test_a_date_is_no_identifier(tmp_path: Path) -> None:
    path = tmp_path / "rows.xls"
    path.write_bytes(OLD)
    dates: list[dict[str, Any]] = [{"patient": "day"}, {"label": "day"}]
    for keys in dates:
        with pytest.raises(DataError, match=r"\[Daten\], row 1 .*got a date.*makes one of 3-4"):
            loaded(path, "excel", **keys)


def test_without_the_library_of_workbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    (tmp_path / "rows.xlsx").write_bytes(workbook(SHEET))
    with pytest.raises(MissingExtraError, match=r"data=excel needs .*pip install 'fedmodel\[excel"):
        loaded(tmp_path / "rows.xlsx", "excel")


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


@pytest.mark.long
@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", KINDS)
def test_where_no_site_is_named_a_column_is_guessed(tmp_path: Path, kind: str) -> None:
    table: Table = {"text": ["a", "b"], "age": [1, 2], "Hospital": ["h", "k"], "label": ["x", "y"]}
    found = loaded(write(kind, tmp_path, table), kind).train
    assert sorted(found.unread) == ["Hospital", "age"]
    with pytest.raises(DataError, match=r"perhaps data\.site=Hospital, or federation\.partition"):
        split(found, Partition(kind="natural"), Seed(0))


def test_a_column_inside_objects_is_guessed_too(tmp_path: Path) -> None:
    rows = [{"note": {"text": f"t{i}", "site": "h"}, "label": f"{i}"} for i in range(2)]
    content = "\n".join(map(json.dumps, rows))
    found = read(tmp_path, content, "rows.jsonl", text="note.text")
    with pytest.raises(DataError, match=r"perhaps data\.site=note\.site, or"):
        split(found, Partition(kind="natural"), Seed(0))
