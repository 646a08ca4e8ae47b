"""A site's state: its folders, its secrets, its datasets."""

import errno
from pathlib import Path

import pytest

from fedmodel.errors import ConfigError, DataError, LedgerError
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState, folder_name, sites_in

TEXTS = [f"note {i}" for i in range(10)]
LABELS = ["a"] * 10


def join(folder: Path, dataset: str = "main", texts: list[str] | None = None, **more: list[str]):  # type: ignore[no-untyped-def]
    state = SiteState(folder, "a")
    rows = TEXTS if texts is None else texts
    return state.note_rows(state.ledger(dataset), rows, ["a"] * len(rows), **more)


def test_names_become_folders_that_do_not_meet() -> None:
    names = ["a", "A", "b c", "b-c", "B C", "ä", "å", "..", "a/b", "coordinator", "", "site.x"]
    names += [folder_name(n) for n in names if n not in ("a", "b-c")]
    folders = [folder_name(n) for n in names]
    assert len({f.lower() for f in folders}) == len(names)
    assert folders[0] == "a"
    assert all(f and f[0].isalnum() and "/" not in f and "." not in f for f in folders)
    assert "coordinator" not in folders


def test_what_is_kept_where(tmp_path: Path) -> None:
    join(tmp_path / "a")
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {
        "a/.lock",
        "a/key",
        "a/salt",
        "a/ledgers/main.jsonl",
        "a/heads/main.json",
        "a/leaves/main.bin",
    }
    assert all(p.stat().st_mode & 0o077 == 0 for p in tmp_path.rglob("*") if p.is_file())
    assert sites_in(tmp_path) == [tmp_path / "a"]
    assert SiteState(tmp_path / "a", "a").datasets() == ["main"]
    content = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"note 1" not in content


def test_a_join_is_written_down_changed_rows_or_not(tmp_path: Path) -> None:
    # One entry for each: the number of entries, which heads show, doesn't tell whether they did.
    entries = [
        join(tmp_path / "a"),
        join(tmp_path / "a", texts=TEXTS[::-1]),
        join(tmp_path / "a", texts=[*TEXTS[2:], "new"]),
        join(tmp_path / "a"),
    ]
    assert [e.seq for e in entries] == [1, 2, 3, 4]
    assert [(e.added, e.removed) for e in entries] == [(10, 0), (0, 0), (1, 2), (2, 1)]
    assert entries[0].root == entries[1].root == entries[3].root != entries[2].root


def test_rows_of_another_dataset_are_refused(tmp_path: Path) -> None:
    join(tmp_path / "a", patients=[f"p{i}" for i in range(10)])
    join(tmp_path / "a", "other", ["something else"], patients=["q"])
    before = (tmp_path / "a" / "ledgers" / "other.jsonl").read_bytes()
    for texts, patients in ((["note 3"], ["q"]), (["fresh"], ["p3"])):
        with pytest.raises(DataError, match=r"part of dataset 'main'.*budget\.dataset=main"):
            join(tmp_path / "a", "other", texts, patients=patients)
    # Rows that have left the dataset still can't start anew in another.
    join(tmp_path / "a", texts=["new"], patients=["p99"])
    with pytest.raises(DataError, match="1 texts or patients"):
        join(tmp_path / "a", "third", ["note 3"])
    assert (tmp_path / "a" / "ledgers" / "other.jsonl").read_bytes() == before
    # Another site's state is another site's matter.
    join(tmp_path / "b", "third", ["note 3"])


def test_rows_of_another_dataset_are_refused_also_in_another_form(tmp_path: Path) -> None:
    join(tmp_path / "a", "one", ["fever and cough"], patients=["M\u00fcller 7"])
    for texts, patient in ((["fever\r\nand  cough "], "p"), (["new"], "Mu\u0308ller  7")):
        with pytest.raises(DataError, match="1 texts or patients of dataset 'two' are, or were"):
            join(tmp_path / "a", "two", texts, patients=[patient])
    join(tmp_path / "a", "two", ["fever, cough"], patients=["M\u00fcller 8"])


def test_lost_secrets_are_not_made_anew(tmp_path: Path) -> None:
    join(tmp_path / "a")
    for name in ("key", "salt"):
        kept = (tmp_path / "a" / name).read_bytes()
        (tmp_path / "a" / name).unlink()
        with pytest.raises(LedgerError, match=f"restore the site's {name} from a copy"):
            join(tmp_path / "a")
        (tmp_path / "a" / name).write_bytes(kept)
        (tmp_path / "a" / name).chmod(0o600)
    join(tmp_path / "a")


def test_leaves_of_another_salt_or_damaged(tmp_path: Path) -> None:
    join(tmp_path / "a")
    join(tmp_path / "b")
    leaves = tmp_path / "a" / "leaves" / "main.bin"
    kept = leaves.read_bytes()
    leaves.write_bytes((tmp_path / "b" / "leaves" / "main.bin").read_bytes())
    with pytest.raises(LedgerError, match="another salt"):
        join(tmp_path / "a")
    leaves.write_bytes(kept[:-1])
    with pytest.raises(LedgerError, match=r"main\.bin: .*restore it from a copy"):
        join(tmp_path / "a")


def test_missing_or_older_leaves_do_not_let_rows_into_two_datasets(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    leaves = folder / "leaves" / "main.bin"
    join(folder)
    first = leaves.read_bytes()
    join(folder, texts=["between"])
    join(folder)  # the very rows of the first, but "between" has been there since
    newest = leaves.read_bytes()
    ledgers = {p: p.read_bytes() for p in (folder / "ledgers").glob("*")}
    for old in (None, first):
        leaves.write_bytes(old) if old else leaves.unlink()
        for dataset in ("main", "other"):
            with pytest.raises(LedgerError, match="restore the state folder whole from a backup"):
                join(folder, dataset, ["between"])
    assert {p: p.read_bytes() for p in (folder / "ledgers").glob("*")} == ledgers
    leaves.write_bytes(newest)
    with pytest.raises(DataError, match="part of dataset 'main'"):
        join(folder, "other", ["between"])
    # A copy of a ledger beside it is no dataset.
    copy = folder / "ledgers" / "main.2024.jsonl"
    copy.write_bytes(ledgers[folder / "ledgers" / "main.jsonl"])
    join(folder, "other", ["something else"])
    join(folder)


def test_leaves_stand_for_a_dataset_whose_ledger_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    join(folder, "main", ["a note"])
    for path in (folder / "ledgers" / "main.jsonl", folder / "heads" / "main.json"):
        path.unlink()
    with pytest.raises(DataError, match="part of dataset 'main'"):
        join(folder, "other", ["a note"])


def test_a_crash_between_leaves_and_ledger_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"

    def crash(*_: object) -> None:
        raise OSError(errno.EIO, "gone")

    def crashed(dataset: str, texts: list[str]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "note_dataset", crash)
            with pytest.raises(LedgerError, match="gone"):
                join(folder, dataset, texts)

    crashed("main", ["a"])  # before the ledger begins
    assert (join(folder, texts=["a", "b"]).added) == 2
    for texts in (["c"], ["d"]):
        crashed("main", texts)
    join(folder, "other", ["x"])
    with pytest.raises(DataError, match="part of dataset 'main'"):
        join(folder, "other", ["c"])
    # What has changed since the last entry isn't known any more, and not made up.
    entries = [join(folder, texts=["d"]), join(folder, texts=["d", "e"])]
    assert [(e.added, e.removed) for e in entries] == [(None, None), (1, 0)]


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a" * 65, ".x"])
def test_a_datasets_name_names_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"budget\.dataset"):
        SiteState(tmp_path / "a", "a").ledger(name)
