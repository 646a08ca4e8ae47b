import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.runs import Hiding, RunFolder, Summary, write_atomic
from tests.fedmodel.report.conftest import PLAIN, RELEASED, private, served

ON = Hiding(mode="on", survivors=4, colluders=1, honest=3, threshold=3, bits=20)
SUMMARIES = [
    PLAIN,
    private(),
    replace(private(noise_to_signal=2.5, adversaries={"coordinator": 1.0}), secagg=ON),
    replace(private(), released=RELEASED, stopped="budgets are spent", notes=("a", "b")),
    served(),
]


@pytest.mark.long
@pytest.mark.parametrize("summary", SUMMARIES)
def test_a_summary_comes_back_from_its_file(tmp_path: Path, summary: Summary) -> None:
    folder = RunFolder(tmp_path)
    assert folder.summary() is None
    folder.write_summary(summary)
    assert folder.summary() == summary
    assert json.loads((tmp_path / "summary.json").read_text()) == summary.to_mapping()


def test_the_file_leaves_out_what_has_no_meaning() -> None:
    plain, hidden = PLAIN.to_mapping(), SUMMARIES[2].to_mapping()
    assert plain["secagg"] == {"mode": "off"}
    assert set(plain["privacy"]["sites"]["north"]) == {"epsilon", "steps", "refused"}
    assert set(hidden["secagg"]) == {
        "mode",
        "survivors",
        "colluders",
        "honest",
        "threshold",
        "bits",
    }
    assert "epsilon_total" in hidden["privacy"]["sites"]["north"]
    assert not {"rounds", "ledger"} & set(hidden["privacy"]["sites"]["north"])
    assert "basis" not in hidden["privacy"]


def test_a_served_runs_file_has_no_figure_that_only_a_site_knows() -> None:
    told = served().to_mapping()
    assert told["time"] == {"total_s": 3.0}
    assert (told["traffic"], told["privacy"]["basis"]) == (None, "plan")
    north, south = (told["privacy"]["sites"][name] for name in ("north", "south"))
    assert set(north) == {"epsilon", "steps", "refused", "rounds", "ledger"}
    assert set(south) == {"epsilon", "steps", "refused", "rounds"}
    assert set(north["ledger"]) == {"entries", "root", "time"}


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(mapping: dict[str, Any]) -> None:
        for name in path[:-1]:
            mapping = mapping[name]
        del mapping[path[-1]]

    return change


def _with(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(mapping: dict[str, Any]) -> None:
        for name in path[:-1]:
            mapping = mapping[name]
        mapping[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_with("fedmodel.summary/2", "schema"), r"'fedmodel\.summary/2'.*'fedmodel\.summary/1'"),
        (_without("schema"), "schema None"),
        (_without("rounds"), "missing key 'rounds'"),
        (_without("privacy", "adversaries"), r"missing key 'privacy\.adversaries'"),
        (_without("privacy", "sites", "north", "steps"), r"'privacy\.sites\.north\.steps'"),
        (_with(1, "round"), r"unknown key 'round' \(did you mean 'rounds'\?\)"),
        (_with(1, "privacy", "sites", "north", "stps"), r"privacy\.sites\.north\.stps"),
        (_with("7", "rounds"), "rounds must be a whole number"),
        (_with("2.98", "privacy", "epsilon"), r"privacy\.epsilon must be a number, got '2\.98'"),
        (_with("0.9", "final", "accuracy"), r"final\.accuracy"),
        (_with(True, "rounds"), "rounds must be a whole number"),
        (_with(False, "secagg", "mode"), r"secagg\.mode must be text, got False"),
        (_with([], "privacy", "sites"), r"privacy\.sites must be a mapping of names"),
        (_with("note", "notes"), "notes must be a list of text"),
        (_with("private", "test"), "test='private' isn't a choice"),
        (_with(None, "privacy", "epsilon"), r"privacy\.epsilon must be a number with"),
        (_with(None, "privacy", "sites", "north", "epsilon"), r"north\.epsilon must be a number"),
        (_with("none", "privacy", "mechanism"), r"privacy\.delta must be null"),
        (_with(-1, "privacy", "sites", "north", "steps"), "steps must be at least 0"),
        (_with(4, "secagg", "survivors"), r"secagg\.survivors goes with secagg\.mode=on"),
        (_with(None, "released", "accuracy"), "must both be numbers or both be null"),
        (_with({}, "time"), r"missing key 'time\.total_s'"),
        (_without("time", "train_s"), r"missing 'time\.train_s'"),
        (_with(None, "traffic"), r"missing 'traffic'"),
        (_with("guess", "privacy", "basis"), r"basis='guess' isn't a choice"),
    ],
)
def test_another_schema_key_or_type_is_one_clear_error(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    mapping = SUMMARIES[3].to_mapping()
    change(mapping)
    path = tmp_path / "summary.json"
    write_atomic(path, json.dumps(mapping).encode())
    with pytest.raises(RunFolderError, match=rf"{path}.*{says}"):
        RunFolder(tmp_path).summary()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', '{"schema": NaN}', "\xff"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"summary\.json isn't (a )?JSON.*restore it"):
        RunFolder(tmp_path).summary()


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(private())
    text = (tmp_path / "summary.json").read_bytes().rstrip()
    for size in range(0, len(text), 7):
        (tmp_path / "summary.json").write_bytes(text[:size])
        with pytest.raises(RunFolderError):
            folder.summary()


def test_an_infinite_or_undefined_figure_is_neither_written_nor_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        folder.write_summary(replace(PLAIN, final={"loss": float("nan")}))
    assert folder.summary() is None
    folder.write_summary(PLAIN)
    path = tmp_path / "summary.json"
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        path.write_text(path.read_text().replace("0.91234", number))
        with pytest.raises(RunFolderError, match="number"):
            folder.summary()
        folder.write_summary(PLAIN)


def test_a_promise_without_a_figure_isnt_made() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.epsilon must be a number"):
        replace(private().privacy, epsilon=None)
    with pytest.raises(ConfigError, match=r"secagg\.survivors"):
        Hiding(mode="on")
