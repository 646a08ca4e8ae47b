"""Whatever the bytes, a reader returns rows or raises a DataError."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedmodel.data.columns import Columns
from fedmodel.data.opened import Form
from fedmodel.data.read_csv import read_csv
from fedmodel.data.read_excel import read_excel
from fedmodel.data.read_jsonl import read_jsonl
from fedmodel.data.read_parquet import read_parquet
from fedmodel.data.values import as_name
from fedmodel.errors import DataError
from tests.examples import examples
from tests.fedmodel.data.files import write

COLUMNS = Columns(text="text", labels=("label",), site="site", optional=True)
FUZZ = settings(
    max_examples=examples(200),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Pieces that mean something to a parser, among bytes that don't.
PIECES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            b",",
            b";",
            b"\t",
            b"|",
            b"sep=;\n",
            b"text;label",
            b"\x1f\x8b\x08",
            b"\xff\xfe",
            b'"',
            b'""',
            b"\n",
            b"\r\n",
            b"\r",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xc3",
            b"\xe2\x80\xa8",
            b'{"text": "a", "label": "b"}',
            b"{",
            b"}",
            b"[",
            b"\\ud800",
            b"NaN",
            b"1e999",
            b"null",
        ]
    ),
)
FORMS = st.sampled_from(
    [Form(), Form(separator=";"), *(Form(encoding=e) for e in ("utf-16", "cp1252", "utf-7", "hz"))]
)
CONTENT = st.lists(PIECES, max_size=20).map(b"".join)


@pytest.mark.long
@FUZZ
@given(
    start=st.sampled_from([b"", b"text,label\n", b'text,label,site\na,"b\n']),
    rest=CONTENT,
    form=FORMS,
)
@example(start=b"text,label\n", rest=b"a\rb,c", form=Form())
def test_csv(tmp_path: Path, start: bytes, rest: bytes, form: Form) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(start + rest)
    with contextlib.suppress(DataError):
        assert len(read_csv(path, "fuzz.csv", COLUMNS, form)) > 0


@pytest.mark.long
@FUZZ
@given(
    start=st.sampled_from([b"", b'{"text": "a", "label": 1}\n', b'[{"text": "a", "label": 1}']),
    rest=CONTENT,
    form=FORMS,
)
def test_jsonl(tmp_path: Path, start: bytes, rest: bytes, form: Form) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(start + rest)
    with contextlib.suppress(DataError):
        assert len(read_jsonl(path, "fuzz.jsonl", COLUMNS, form)) > 0


@pytest.mark.long
@FUZZ
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)] * 2)
        .filter(lambda row: not any(value.isspace() for value in row)),
        min_size=1,
        max_size=5,
    )
)  # fmt: skip
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    path = tmp_path / "round.csv"
    lines = ["text,label", *(",".join(map(quoted, row)) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    read = read_csv(path, "round.csv", COLUMNS)
    assert list(zip(read.texts, read.labels, strict=True)) == [(t, as_name(n)) for t, n in rows]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("kind", ["csv.gz", "parquet", "excel"])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    table = {"text": [f"note {i}" for i in range(40)], "label": list("xy") * 20}
    path = write(kind, tmp_path, table)
    whole = path.read_bytes()

    @FUZZ
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(max_size=4)), max_size=4))
    def check(edits: list[tuple[int, bytes]]) -> None:
        data = bytearray(whole)
        for place, new in edits:
            data[place : place + 1 + len(new) // 2] = new
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            if kind == "excel":
                assert len(read_excel(path, "rows", COLUMNS)) > 0
            elif kind == "parquet":
                assert len(read_parquet(path, "rows", COLUMNS)) > 0
            else:
                assert len(read_csv(path, "rows", COLUMNS)) > 0

    check()


def test_the_fuzz_reaches_rows(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(b"text,label\na,b\n\nc,d")
    assert len(read_csv(path, "fuzz.csv", COLUMNS)) == 2
    path.write_bytes(b"text,label\na\0,b\n")
    with pytest.raises(DataError):
        read_csv(path, "fuzz.csv", COLUMNS)
