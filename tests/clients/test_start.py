"""Rows that a site's own file leads to and that can't be read: the hint is for that file."""

from pathlib import Path

import pytest

from clients.site_file import SiteFile
from clients.start import read_rows
from fedmodel.errors import DataError


@pytest.mark.parametrize("name", ["rows.csv", "data.test.csv", "data.train"])
@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        (b"text,label\nd\xe9j\xe0 vu,a\n", "encoding:"),
        (b"words,label\nx,a\n", "text:"),
        (b"Befund,Diagnose\nx,a\n", "text: and label:"),
        (b"text,label\n", ""),
        (b"text,label\nx,a\n", "train_only: and test:"),  # too few to hold one out
    ],
)
def test_a_hint_says_where_a_key_stands_in_the_sites_own_file(
    name: str, rows: bytes, keys: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(rows)
    lines = ["schema: fedmodel.site/1", "name: north", f"data: {{kind: csv, train: {name}}}"]
    with pytest.raises(DataError) as raised:
        read_rows(SiteFile.parse("\n".join(lines).encode(), tmp_path))
    said = str(raised.value)
    assert said.endswith(f" (in site.yaml: {keys} below data:)") == bool(keys), said
    assert ("below data:" in said) == bool(keys)
