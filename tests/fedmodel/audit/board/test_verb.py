"""The verb: which files it writes, how it ends, and what it leaves alone."""

import csv
import hashlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from fedmodel import _files, cli
from fedmodel.audit.board import page
from fedmodel.errors import UnavailableError
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN

BOARD = {"report.html", "report.json", "report.pdf"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PDF takes seconds; what is in it is tested where it is made."""
    monkeypatch.setattr(page, "report_pdf", lambda report: b"%PDF-1.7\n")


def report(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.main(["report", *args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_it_writes_page_pdf_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = report(capsys, f"run={GOLDEN / 'record'}", f"to={tmp_path / 'a b' / 'out'}")
    assert (code, err) == (0, "")
    assert out.startswith("release under conditions: ")
    assert {each.name for each in (tmp_path / "a b" / "out").iterdir()} == BOARD


def test_terms_stand_as_they_were_typed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ('recipients=the board, and [one] "other"', "until=2999-01-31")
    code, _, err = report(capsys, f"run={GOLDEN / 'record'}", f"to={tmp_path / 'out'}", *args)
    assert (code, err) == (0, "")
    told = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert 'the board, and [one] "other"' in " ".join(told["questions"][13]["answer"])


def test_where_a_check_fails_it_is_written_and_ends_with_1(
    forge: Forge, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    forged = forge()
    forged.write_rows(forged.rows()[:1])
    code, out, _ = report(capsys, f"run={forged.path}", f"to={tmp_path / 'out'}")
    assert code == 1
    assert out.startswith("don't release: rounds-numbered (run) was refuted")
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["to=out"], "report needs run="),
        (["run=RUN"], "report needs to="),
        (["run=RUN", "to=full"], "is there already"),
        (["run=RUN", "to=full/note"], "is there already"),
        (["run=RUN", "to=out", "until=soon"], "until must be a day"),
        (["run=RUN", "to=out", "until=2020-01-01"], "until=2020-01-01 is over"),
        (["run=nowhere", "to=out"], "there is no folder"),
        (["run=RUN", "to=out", "format=docx"], "format"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    args: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    code, out, err = report(capsys, *(a.replace("RUN", str(GOLDEN / "none")) for a in args))
    assert code == 2
    assert out == ""
    assert error in err
    assert [each.name for each in tmp_path.iterdir()] == ["full"]


def test_a_disk_that_is_full_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _files.write_atomic

    def full(path: Path, data: bytes, **named: bool) -> None:
        if path.name == "report.json":
            raise OSError(28, "No space left on device")
        real(path, data, **named)

    monkeypatch.setattr(_files, "write_atomic", full)
    code, _, err = report(capsys, f"run={GOLDEN / 'none'}", f"to={tmp_path / 'out'}")
    assert code == 1
    assert "No space left on device" in err
    assert list(tmp_path.iterdir()) == []


def test_without_pango_the_pdf_is_left_out_and_that_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(made: object) -> bytes:
        raise UnavailableError("this machine lacks Pango")

    monkeypatch.setattr(page, "report_pdf", lacking)
    code, out, _ = report(capsys, f"run={GOLDEN / 'none'}", f"to={tmp_path / 'out'}")
    assert code == 0
    assert "report.pdf was left out, and report.html prints as well: this machine lacks" in out
    assert {each.name for each in (tmp_path / "out").iterdir()} == BOARD - {"report.pdf"}


def test_the_output_checkers_folder_is_one_that_their_viewer_opens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    to = tmp_path / "out"
    code, _, err = report(capsys, f"run={GOLDEN / 'record'}", f"to={to}", "format=sacro")
    assert (code, err) == (0, "")
    told = json.loads((to / "outputs.json").read_bytes())
    assert tuple(map(int, told["version"].split("."))) >= (0, 4, 0)
    listed: list[str] = []
    for name, output in told["results"].items():
        assert output["uid"] == name
        assert output["status"] in ("pass", "fail", "review")
        assert {"type", "properties", "outcome", "command", "summary"} <= set(output)
        assert {"timestamp", "comments", "exception"} <= set(output)
        assert output["files"]
        listed += [each["name"] for each in output["files"]]
    assert sorted(listed) == sorted([*BOARD, "checks.csv", "sites.csv"])
    for name in (*listed, "outputs.json"):
        found = hashlib.sha256((to / name).read_bytes()).hexdigest()
        assert (to / "checksums" / f"{name}.txt").read_text() == found
    rows = list(csv.DictReader(io.StringIO((to / "checks.csv").read_text())))
    assert {"PASS", "NOT TESTED"} == {row["verdict"] for row in rows}


def test_the_commands_of_the_page_do_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "record", tmp_path / "runs" / "demo")
    page_text = (Path(__file__).parents[4] / "docs" / "report.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page_text, re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    for number, command in enumerate(commands):
        shutil.rmtree("report", ignore_errors=True)
        assert cli.main(command) == (number == 1)  # whose fingerprint isn't that of the roster
        assert capsys.readouterr().err == ""
    assert (tmp_path / "outputs" / "outputs.json").exists()


def test_a_name_is_no_formula(forge: Forge) -> None:
    from fedmodel.audit.board import sacro

    assert sacro._cell("=1+1") == "'=1+1"
    assert sacro._cell("@x") == "'@x"
    assert sacro._cell(-1.5) == "-1.5"
    assert sacro._cell(None) == ""
