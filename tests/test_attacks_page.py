"""The page of attacks: every test that it names is there, in the file that it names."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CELL = re.compile(r"`(?:tests/)?([\w/…-]*)(?:\.py)?(?:::(test_\w+))?`")


def test_every_test_that_is_named_is_there() -> None:
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = 0
    for line in (ROOT / "docs" / "attacks.md").read_text().splitlines():
        file = ""
        for path, test in CELL.findall(line.rpartition(" | ")[2]):
            if not (path.rpartition("/")[2].startswith("test_") or path == "…"):
                continue
            file = file if path == "…" else path
            named += 1
            there = [text for each, text in files.items() if str(each).endswith(f"{file}.py")]
            assert there, f"no file {file}.py, in: {line}"
            assert not test or any(f"def {test}(" in text for text in there), f"{file}.py::{test}"
    assert named > 150
