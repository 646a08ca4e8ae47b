"""A site's state: its folders, its secrets, its datasets."""

from pathlib import Path

import pytest

from fedmodel.errors import ConfigError, DataError, LedgerError
from fedmodel.state import SiteState, folder_name, sites_in

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
    leaves.unlink()
    assert (join(tmp_path / "a").added, join(tmp_path / "a", texts=["x"]).added) == (0, 1)


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a" * 65, ".x"])
def test_a_datasets_name_names_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"budget\.dataset"):
        SiteState(tmp_path / "a", "a").ledger(name)
