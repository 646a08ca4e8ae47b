"""Finished runs of rows that have changed since: refused, and never taken for what is there now."""

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmodel import cli
from fedmodel.errors import RunFolderError
from fedmodel.runs import RunFolder, Summary
from simulations.parties import gather, rows_digest
from simulations.run import simulate
from simulations.scenario import Scenario
from tests.conftest import new_run
from tests.fedmodel.report.conftest import PLAIN


class Bench:
    """A run that has come to its end, as far as a sweep or a resume looks at it."""

    def __init__(self, folder: Path) -> None:
        self.rows = folder / "rows.csv"
        lines = [f"note {i},d{i % 2},h{i % 3}" for i in range(90)]
        self.rows.write_text("\n".join(["text,label,site", *lines]) + "\n")
        self.said = io.StringIO()
        self.mapping: dict[str, Any] = cli.compose(
            "simulate",
            ["debug=fast", "train=head", "data=csv", f"data.train='{self.rows}'", "data.site=site"],
        )
        self.mapping |= {"run": str(folder / "r"), "resume": True}

    @property
    def scenario(self) -> Scenario:
        return Scenario.from_mapping(self.mapping)

    def finish(self, **changes: Any) -> None:
        known = {
            "rows_sha256": rows_digest(self.scenario),
            "config": self.mapping,
            "fedmodel": version("fedmodel"),
        }
        folder = new_run(Path(self.mapping["run"]), **(known | changes))
        folder.write_summary(PLAIN)

    def __call__(self) -> Summary:
        return simulate(self.mapping, Console(file=self.said, width=500))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_finished_run_is_of_the_rows_that_it_was_begun_with(bench: Bench) -> None:
    bench.finish()
    assert bench() == PLAIN
    assert "is finished already" in bench.said.getvalue()
    bench.rows.write_text(bench.rows.read_text().replace("note 7,", "note 8,"))
    with pytest.raises(RunFolderError, match=r"finished, .*rows have changed .* another run=NAME"):
        bench()
    assert RunFolder.open(Path(bench.mapping["run"])).summary() == PLAIN


def test_a_run_that_another_process_finishes_while_this_one_starts_is_not_played_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.finish()
    summary = Path(bench.mapping["run"]) / "summary.json"
    text = summary.read_bytes()
    summary.unlink()
    monkeypatch.setattr("simulations.run.check_unchanged", lambda *_: summary.write_bytes(text))
    monkeypatch.setattr("simulations.run._play", None)
    assert bench() == PLAIN
    assert "is finished already" in bench.said.getvalue()


def test_rows_that_are_gone_are_no_other_rows(bench: Bench) -> None:
    bench.finish()
    bench.rows.unlink()
    assert bench() == PLAIN
    assert "can't be told" in bench.said.getvalue()


def test_another_version_may_have_shared_the_same_rows_otherwise(bench: Bench) -> None:
    bench.finish(fedmodel="0.1.0", rows_sha256="ab" * 32)
    assert bench() == PLAIN


@pytest.mark.long
def test_what_a_run_writes_down_of_its_rows_is_what_is_compared(bench: Bench) -> None:
    assert gather(bench.scenario).rows_sha256 == rows_digest(bench.scenario)
