"""Signed reports: whose they are, and what shows that one was edited since."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedmodel import _hazmat, cli
from fedmodel.audit.board import page
from fedmodel.audit.board.signed import STATEMENT
from fedmodel.identity.keyfile import secret_text, write_secret
from tests.fedmodel.audit.forged import GOLDEN

SIGNED = {"report-signed", "report-signer", "report-files", "report-says"}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a report that an auditor has signed."""
    monkeypatch.setattr(page, "report_pdf", lambda report: b"%PDF-1.7\n")
    monkeypatch.chdir(tmp_path)
    write_secret(tmp_path / "my.key", secret_text(bytes(range(32)), "key"))
    args = [f"run={GOLDEN / 'record'}", "to=report", "as=my.key", "name=A. Auditor"]
    assert cli.main(["report", *args]) == 0
    return tmp_path / "report"


def verified(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, str]]:
    """Verify a report, and return the exit code and what each of its checks has found."""
    capsys.readouterr()
    code = cli.main(["verify", "report=report", "--json", *args])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, {c["check"]: c["verdict"] for c in told["checks"] if c["family"] == "report"}


@pytest.mark.usefixtures("made")
def test_one_that_nobody_touched_passes(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(Path("report/report.json").read_bytes())
    key = told["signer"]["key"]
    code, found = verified(capsys)
    assert code == 0
    assert found == dict.fromkeys(SIGNED, "PASS") | {
        "report-signer": "NOT TESTED",
        "report-says": "NOT TESTED",
    }
    code, found = verified(
        capsys, f"signer={_hazmat.fingerprint(bytes.fromhex(key))}", f"run={GOLDEN / 'record'}"
    )
    assert (code, found) == (0, dict.fromkeys(SIGNED, "PASS"))
    assert "signed by A. Auditor (other), whose key" in " ".join(told["questions"][11]["answer"])


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.pdf"])
def test_one_that_was_edited_fails(
    name: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (made / name).read_bytes()
    (made / name).write_bytes(text[:-2] + b" " + text[-1:])
    code, found = verified(capsys)
    assert code == 1
    assert {check for check, verdict in found.items() if verdict == "FAIL"} == {"report-files"}


def test_one_that_lacks_a_file_or_has_another_one_fails(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "annex.html").write_text("more")
    assert verified(capsys)[1]["report-files"] == "FAIL"
    (made / "annex.html").unlink()
    (made / "report.pdf").unlink()
    assert verified(capsys)[1]["report-files"] == "FAIL"


def test_anothers_key_and_anothers_run_show(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verified(capsys, "signer=0123-4567-89ab-cdef-0123-4567-89ab-cdef")
    assert (code, found["report-signer"]) == (1, "FAIL")
    assert cli.main(["verify", "report=report", "packer=0123-4567-89ab-cdef"]) == 2
    assert "packer is about a bundle" in capsys.readouterr().err
    assert cli.main(["verify", f"run={GOLDEN / 'site'}", "signer=0123-4567-89ab-cdef"]) == 2
    assert "signer is about a report" in capsys.readouterr().err
    code, found = verified(capsys, f"run={GOLDEN / 'site'}")
    assert (code, found["report-says"]) == (1, "FAIL")
    # Of the same run, with its records changed since.
    shutil.copytree(GOLDEN / "record", "run")
    Path("run/heads.json").unlink()
    code, found = verified(capsys, "run=./run")
    assert found["report-says"] == "INCONCLUSIVE"


def test_every_byte_of_the_statement_counts(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (made / STATEMENT).read_bytes()
    for place in range(0, len(text), 41):
        (made / STATEMENT).write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        assert cli.main(["verify", "report=report", "--json"]) in (1, 2), place
    assert "Traceback" not in capsys.readouterr().err


def test_what_nobody_signed_says_so(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / STATEMENT).unlink()
    assert cli.main(["verify", "report=report"]) == 2
    assert "that nobody has signed can't be verified" in capsys.readouterr().err


def test_the_output_checkers_folder_is_signed_too(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(made)
    args = [f"run={GOLDEN / 'record'}", "to=report", "as=my.key", "name=A. Auditor"]
    assert cli.main(["report", *args, "format=sacro"]) == 0
    code, found = verified(capsys)
    assert (code, found["report-files"]) == (0, "PASS")
    listed = json.loads((made / "outputs.json").read_bytes())["results"]["report"]["files"]
    assert STATEMENT in {each["name"] for each in listed}
    assert (made / "checksums" / f"{STATEMENT}.txt").exists()
    (made / "sites.csv").write_text("site,epsilon\n")
    assert verified(capsys)[1]["report-files"] == "FAIL"
