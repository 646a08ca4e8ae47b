"""Simulated hospitals that have files of their own: each goes by its own, as in earnest."""

from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.ledger import Ledger
from tests.simulations.test_simulate import FAST

pytestmark = pytest.mark.long

JOB = ["federation.sites=3", "privacy.epsilon=4", "federation.quorum=0.6"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return the folder of a whole demo."""
    home = tmp_path / "demo"
    assert cli.main(["provision", "role=demo", f"home={home}"]) == 0
    return home


def fill(state: Path, site: str, before: str, after: str) -> None:
    path = state / site / "site.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def simulate(state: Path, *words: str, code: int = 0) -> None:
    run = f"run='{state.parent / 'run'}'"
    assert cli.main(["simulate", *FAST, *JOB, f"state='{state}'", run, *words]) == code


def test_a_site_refuses_by_its_own_file_and_the_others_go_on(
    state: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fill(state, "site-2", "epsilon: 20.0", "epsilon: 3.5")
    simulate(state)
    told = " ".join("".join(capsys.readouterr()).split())
    assert "site-1, site-2, site-3: what stands in its own site.yaml counts there" in caplog.text
    assert "allows policy.epsilon=3.5" in told
    assert "2 of 3 sites joined" in told
    for name, spent in (("site-1", True), ("site-2", False), ("site-3", True)):
        path = state / name / "ledgers" / "main.jsonl"
        assert (path.exists() and bool(Ledger(path).spends())) == spent, name


@pytest.mark.slow
def test_dataset_and_caps_are_those_of_the_file(state: Path) -> None:
    fill(state, "site-1", "dataset: main", "dataset: wards")
    fill(state, "site-3", "budget:\n  epsilon: null", "budget:\n  epsilon: 0.5")
    simulate(state)
    assert (state / "site-1" / "ledgers" / "wards.jsonl").exists()
    assert not (state / "site-3" / "ledgers" / "main.jsonl").exists()


def test_another_sites_file_and_rows_beyond_what_is_declared_stop_it(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(state, "site-1", "records: null", "records: [1, 9]")
    simulate(state, code=2)
    assert "declared.records says 1 to 9, and the rows have" in "".join(capsys.readouterr())
    fill(state, "site-1", "records: [1, 9]", "records: [1, 999]")
    fill(state, "site-2", 'name: "site-2"', "name: site-9")
    simulate(state, code=2)
    assert "is of the site 'site-9'" in " ".join("".join(capsys.readouterr()).split())


def test_what_to_type_is_said_where_only_a_sites_own_file_asks_its_people(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for site in ("site-1", "site-2"):
        fill(state, site, "approval: auto", "approval: each")
    simulate(state, code=1)
    told = "".join("".join(capsys.readouterr()).split())  # a long path is folded anywhere
    assert f"eachsite'speopledecide:fedmodelsitejobsstate={state}site=NAME" in told
    assert "goesonwithresume=true" in told
