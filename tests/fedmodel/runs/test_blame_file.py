"""The record of who was wrong in a run's secure sums, as the first version wrote it."""

from pathlib import Path

from fedmodel.runs.blame_file import KeptBlame, read_blame, write_blame

GOLDEN = Path(__file__).parents[2] / "vectors" / "blame_v1.json"


def test_the_first_versions_record_comes_back_byte_for_byte(tmp_path: Path) -> None:
    kept = read_blame(GOLDEN)
    assert [len(kept.proved), len(kept.disputes)] == [1, 1]
    write_blame(tmp_path / "pending" / "blame.json", kept)
    assert (tmp_path / "pending" / "blame.json").read_bytes() == GOLDEN.read_bytes()


def test_where_there_is_no_record_nothing_was_found_out(tmp_path: Path) -> None:
    assert read_blame(tmp_path / "blame.json") == KeptBlame()
