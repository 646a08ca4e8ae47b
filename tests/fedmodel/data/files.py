"""Writers of the same table in every kind of file that is read, by other tools than our readers."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

KINDS = (
    "csv", "tsv", "csv.gz", "jsonl", "json", "parquet", "excel", "saved",
    "folder of csv", "folder of tsv", "folder of csv.gz", "folder of jsonl", "folder of json",
    "folder of parquet",
)  # fmt: skip

Table = Mapping[str, Sequence[Any]]


def records(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def source_kind(kind: str) -> str:
    """Return the choice of ``data`` that reads a kind of file."""
    if kind.startswith(("folder", "saved")):
        return "folder"
    return {"tsv": "csv", "csv.gz": "csv", "json": "jsonl"}.get(kind, kind)


def write(kind: str, folder: Path, table: Table) -> Path:
    """Write a table and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind.startswith("folder of "):
        inner = kind.removeprefix("folder of ")
        (folder / "rows").mkdir()
        write(inner, folder, table).rename(folder / "rows" / f"train.{inner}")
        return folder / "rows"
    path = folder / f"rows.{kind}"
    if kind == "saved":
        import datasets

        datasets.Dataset.from_dict(dict(table)).save_to_disk(path)
    elif kind == "parquet":
        pq.write_table(pa.table(dict(table)), path)
    elif kind == "excel":
        path.write_bytes(workbook([list(table), *map(list, zip(*table.values(), strict=True))]))
    elif kind in ("jsonl", "json"):
        rows = records(table)
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(table), delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(records(table))
        data = text.getvalue().encode()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def workbook(*sheets: Sequence[Sequence[Any]]) -> bytes:
    """Return a workbook with sheets S1, S2, … of rows of cells."""
    numbers = range(1, len(sheets) + 1)
    named = "".join(f'<sheet name="S{i}" sheetId="{i}" r:id="r{i}"/>' for i in numbers)
    types = "application/vnd.openxmlformats-"
    links = "".join(
        f'<Relationship Id="r{i}" Type="{_REL}/worksheet" Target="worksheets/s{i}.xml"/>'
        for i in numbers
    )
    book = f'<workbook xmlns="{_MAIN}" xmlns:r="{_REL}"><sheets>{named}</sheets></workbook>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        f'ContentType="{types}package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="{types}officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r" '
        f'Type="{_REL}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": book,
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{links}'
        "</Relationships>",
    }
    for i, rows in zip(numbers, sheets, strict=True):
        body = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
        parts[f"xl/worksheets/s{i}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
        )
    return _zipped(parts)


def _zipped(parts: Mapping[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return made.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value!r}</v></c>"
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def open_document(rows: Sequence[Sequence[Any]]) -> bytes:
    """Return an OpenDocument spreadsheet, with the empty cells that programs fill it up with."""
    namespaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    tail = '<table:table-cell table:number-columns-repeated="1000"/>'
    body = "".join(
        f"<table:table-row>{''.join(map(_open_cell, row))}{tail}</table:table-row>" for row in rows
    )
    rest = f'<table:table-row table:number-rows-repeated="1000000">{tail}</table:table-row>'
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    named = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    parts = {
        "mimetype": kind,
        "META-INF/manifest.xml": f'<m:manifest xmlns:m="{named}"><m:file-entry m:full-path="/" '
        f'm:media-type="{kind}"/></m:manifest>',
        "content.xml": f"<office:document-content {namespaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="S1">{body}{rest}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>",
    }
    return _zipped(parts)


def _open_cell(value: Any) -> str:
    kind = f'float" office:value="{value}' if isinstance(value, int | float) else "string"
    text = f"<text:p>{escape(str(value))}</text:p>"
    return f'<table:table-cell office:value-type="{kind}">{text}</table:table-cell>'
