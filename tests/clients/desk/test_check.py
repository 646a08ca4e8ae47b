"""The check of a hospital's own file, as its people use it."""

import json
from pathlib import Path
from typing import Any

import pytest

from clients.desk.check import _wide
from fedmodel.cli import main
from fedmodel.provision.site_file import site_file_text

RECORDS = "[20, 90]"


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return the folder of a site that has keys, rows and a file that fits them."""
    home = tmp_path / "north"
    assert main(["provision", "role=site", f"home={home}", "name=Klinikum Süd, Nord"]) == 0
    lines = ["text,label", *(f"a note {i},{'ab'[i % 2]}" for i in range(40))]
    (home / "rows.csv").write_text("\n".join(lines))
    fill(home, "train: null  # file", "train: rows.csv  # file")
    fill(home, "  records: null", f"  records: {RECORDS}")
    capsys.readouterr()
    return home


def fill(home: Path, before: str, after: str) -> None:
    path = home / "site.yaml"
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def checked(home: Path, capsys: pytest.CaptureFixture[str], code: int = 1) -> Any:
    assert main(["site", "check", f"site={home / 'site.yaml'}", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_what_fits_is_said_to_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = checked(folder, capsys)
    assert told["schema"] == "fedmodel.site-check/1"
    assert told["site"] == "Klinikum Süd, Nord"
    assert told["declared"]["records"] == [20, 90]
    assert told["found"]["records"] == [40, 40]
    assert told["found"]["labels"] == ["a", "b"]
    assert 0 < told["held_out"] < 40
    assert told["policy"]["limits"]["epsilon"] == 3.0
    (only,) = told["problems"]
    assert only.startswith("no roster was taken over yet")


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (f"records: {RECORDS}", "records: [20, 39]", "says 20 to 39, and the rows have 40"),
        (f"records: {RECORDS}", "records: null", "declared.records is null: write how many rows"),
        (f"records: {RECORDS}", "records: null", "such as [20, 90]"),
        ("  labels: null", "  labels: [a]", "and the rows have 1 other class"),
        ("  labels: null", "  labels: [a, b, c]", "says c, and the rows have none of them"),
        ("  patients: null", "  patients: [1, 9]", "says 1 to 9, and the rows have none"),
        ("train: rows.csv", "train: gone.csv", "gone.csv"),
        ('name: "Klinikum Süd, Nord"', "name: other", "the file says 'other', and the keys are of"),
        ("state: .", "state: elsewhere", "has no keys"),
        ("  ends: null", "  ends: 2026-01-31", "today every job is refused, by policy.begins=null"),
        ("  begins: null", "  begins: 9999-01-31", "today every job is refused"),
    ],
)
def test_what_does_not_fit_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, says: str
) -> None:
    fill(folder, before, after)
    assert any(says in problem for problem in checked(folder, capsys)["problems"])


def test_a_path_begins_at_the_files_folder_and_nothing_says_otherwise(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    fill(folder, "train: rows.csv", "train: gone.csv")
    told = " ".join(checked(Path("north"), capsys)["problems"])
    assert f"{folder / 'gone.csv'}: expected a file" in told
    assert "working folder" not in told


def test_a_key_that_others_may_read_or_is_gone_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "key").chmod(0o644)
    assert any("others may read the secret" in each for each in checked(folder, capsys)["problems"])
    (folder / "key").unlink()
    assert any("key is missing" in each for each in checked(folder, capsys)["problems"])


def test_a_site_need_not_have_more_than_one_of_the_classes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"n {i},a\n" for i in range(40)))
    told = checked(folder, capsys)
    assert told["found"]["labels"] == ["a"]
    (only,) = told["problems"]
    assert only.startswith(
        f"no roster was taken over yet: fedmodel provision role=site home={folder}"
    )


def test_people_read_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(folder, "  epsilon: 3.0", "  epsilon: 1.5")
    assert main(["site", "check", f"site={folder / 'site.yaml'}"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "records │ 20 to 90 │ 40," in text
    assert "policy.epsilon │ 1.5 │ 3.0" in text
    assert "policy.delta │ 0.0001 │ │" in text
    assert "not so: no roster" in text


def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["site", "check"]) == 2
    assert "site check needs site=" in capsys.readouterr().err
    assert main(["site", "check", "site=north"]) == 2
    assert "site.yaml>, got site=north" in capsys.readouterr().err
    path = tmp_path / "site.yaml"
    path.write_text(site_file_text("x", "strict") + "extra: 1\n")
    for words in (["check"], ["jobs"]):
        assert main(["site", *words, f"site={path}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "unknown key 'extra'" in line
    path.write_text(site_file_text("x", "strict").replace("\npolicy:", "\npolic:"))
    assert main(["site", "check", f"site={path}"]) == 2
    said = capsys.readouterr().err
    assert "unknown key 'polic' (did you mean 'policy'?)" in said
    assert "approval, approvers, budget" in said
    path.write_text(site_file_text("x", "strict").replace("  records: null", "  records: 500"))
    assert main(["site", "check", f"site={path}"]) == 2
    assert "must be two numbers, [at least, at most], such as" in capsys.readouterr().err
    assert main(["site", "show", f"site={path}"]) == 2
    assert f"fedmodel site jobs site={path}" in capsys.readouterr().err


def test_the_desk_goes_by_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "jobs", f"site={folder / 'site.yaml'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == []


@pytest.mark.parametrize("count", [*range(30), 99, 100, 1830, 12345])
def test_a_suggested_bracket_is_wide_and_round(count: int) -> None:
    least, most = _wide(count)
    assert least <= count < most or count == 0
    assert least * 1.5 <= count or count < 3
    assert most >= 2 * count


def test_a_sealed_key_is_opened_with_the_passphrase_that_join_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, credentials = tmp_path / "north", tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "north").write_text("correct horse battery\n")
    (credentials / "north").chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    words = ["provision", "role=site", f"home={home}", "name=Nord", "passphrase=credential:north"]
    assert main(words) == 0
    if "passphrase: null" in (home / "site.yaml").read_text():
        fill(home, "passphrase: null", "passphrase: credential:north")
    capsys.readouterr()

    def about_keys() -> list[str]:
        told = checked(home, capsys)["problems"]
        return [each for each in told if "passphrase" in each or "CREDENTIALS" in each]

    assert about_keys() == []
    (credentials / "north").write_text("another horse battery\n")
    assert len(about_keys()) == 1
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert len(about_keys()) == 1
