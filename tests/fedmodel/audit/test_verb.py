"""The verb: what it prints, how it ends, and what it doesn't import."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmodel import cli
from fedmodel.audit.families import FAMILIES, table
from fedmodel.identity.names import grouped
from fedmodel.identity.signed_roster import read_roster
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN, key_of

PAGE = Path(__file__).parents[3] / "docs" / "verify.md"


def verify(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.main(["verify", *args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_clean_run_ends_with_0_and_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = verify(capsys, f"run='{GOLDEN / 'record'}'")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "Nothing was refuted by" in words
    assert "proved" not in words
    for family in FAMILIES:
        assert family.name in words


def test_one_that_fails_ends_with_1_and_says_what(
    forge: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = forge()
    forged.write_rows(forged.rows()[:1])
    code, out, _ = verify(capsys, f"run='{forged.path}'")
    words = " ".join(out.split())
    assert code == 1
    assert "1 check FAILs: " in words
    assert "rounds-numbered" in words


def test_plain_data_has_every_check(forge: Forge, capsys: pytest.CaptureFixture[str]) -> None:
    forged = forge()
    forged.write("site-2", forged.entries("site-2")[:-1], coordinator=False)
    code, out, _ = verify(capsys, f"run='{forged.path}'", "--json")
    told: dict[str, Any] = json.loads(out)
    assert code == 1
    assert told["schema"] == "fedmodel.findings/1"
    assert told["verdicts"]["FAIL"] == 1
    (failed,) = (each for each in told["checks"] if each["verdict"] == "FAIL")
    assert failed["check"] == "coordinator-head"
    assert failed["party"] == "site site-2"
    assert failed["entry"] == "heads.json"
    assert "rolled back" in failed["reason"]
    assert {each["check"] for each in told["checks"]} == {
        rule.name for family in FAMILIES for rule in family.rules
    }


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("manifest.json", None, "has no manifest.json, so it isn't a run folder"),
        ("manifest.json", b"{", "manifest.json can't be read"),
        ("manifest.json", b'{"schema": "fedmodel.run/2"}', "a newer fedmodel has written it"),
        ("summary.json", b'{"schema": "fedmodel.summary/9"}', "a newer fedmodel has written it"),
        ("heads.json", b'{"schema": "fedmodel.heads/2"}', "a newer fedmodel has written it"),
        ("ledger/site-1.jsonl", b'{"schema":"fedmodel.ledger/9"}\n', "newer fedmodel has written"),
    ],
)
def test_what_cant_be_verified_is_one_error_of_2(
    name: str, text: bytes | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(GOLDEN / "record", tmp_path / "run"))
    (run / name).unlink()
    if text is not None:
        (run / name).write_bytes(text)
    code, out, err = verify(capsys, f"run='{run}'")
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_no_run_is_an_error_of_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys)[0] == 2
    code, _, err = verify(capsys, f"run='{tmp_path / 'none'}'")
    assert code == 2
    assert "there is no folder" in err
    assert verify(capsys, f"run='{GOLDEN / 'record'}'", "roster=./nothing")[0] == 2


def test_an_auditors_own_roster_outranks_the_folders(
    forge: Forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = forge()
    (mine,) = (GOLDEN / "record" / "rosters").iterdir()
    assert read_roster(mine.read_bytes()) != read_roster(forged.roster.read_bytes())
    code, out, _ = verify(capsys, f"run='{forged.path}'", f"roster='{mine}'", "format=json")
    assert code == 1
    failed = {e["check"] for e in json.loads(out)["checks"] if e["verdict"] == "FAIL"}
    assert failed == {"roster-key", "coordinator-key"}


def test_a_roster_of_another_consortium_than_the_auditors(
    forge: Forge, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = forge()
    own = grouped(key_of("consortium").fingerprint)
    assert verify(capsys, f"run='{forged.path}'", f"consortium={own.upper()}")[0] == 0
    other = key_of("somebody").fingerprint
    code, out, _ = verify(capsys, f"run='{forged.path}'", f"consortium={other}", "--json")
    checks = json.loads(out)["checks"]
    assert code == 1
    assert {e["check"] for e in checks if e["verdict"] == "FAIL"} == {"roster-consortium"}
    (key, *_) = (e for e in checks if e["check"] == "roster-key")
    assert key["reason"] == "because roster-consortium failed"


def test_texts_of_the_folder_are_escaped(forge: Forge, capsys: pytest.CaptureFixture[str]) -> None:
    forged = forge()
    evil = "\x1b[2J[red]x\u202e"
    shutil.copyfile(forged.ledger(), forged.ledger(f"a{evil}"))
    code, out, _ = verify(capsys, f"run='{forged.path}'")
    assert code == 1
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert "[red]x" in "".join(out.split()).replace("│", "")


def test_every_check_has_its_own_name_and_sentence() -> None:
    rules = [rule for family in FAMILIES for rule in family.rules]
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.run or rule.coordinator or rule.site
        assert rule.says.endswith(".")
        assert rule.name == rule.name.lower().replace(" ", "-")


def test_the_page_has_the_table_of_checks() -> None:
    """FEDMODEL_WRITE_DOCS=1 writes it."""
    before, begin, rest = PAGE.read_text().partition("<!-- checks -->\n\n")
    _, end, after = rest.partition("\n<!-- end of checks -->")
    assert end
    text = before + begin + table() + end + after
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text


@pytest.mark.long
def test_neither_torch_nor_a_network_is_imported() -> None:
    code = (
        "import sys; from fedmodel.audit.verb import main; "
        "assert 'numpy' not in sys.modules, 'it is for accountants alone'; "
        f"code = main({{'run': {str(GOLDEN / 'record')!r}, 'format': 'json'}}); "
        "bad = {'torch', 'flwr', 'grpc', 'hydra', 'transformers', 'ssl', 'http.client'}; "
        "sys.exit(f'{bad & set(sys.modules)}' if bad & set(sys.modules) else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
