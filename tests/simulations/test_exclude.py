"""Sites that the coordinator's operator leaves out, at the start or when a run is resumed."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fedmodel import cli
from fedmodel.cli import main
from fedmodel.data import Rows
from fedmodel.errors import ConfigError
from fedmodel.job import Privacy
from fedmodel.runs import RunFolder
from server import outcome
from server.coordinator import RunResult
from simulations import play
from simulations.outcome import _classes
from simulations.play import excluded
from simulations.scenario import Homes, Scenario
from tests.conftest import new_run
from tests.jobs import make_job

SMALL = [
    "simulate", "train=head", "privacy=none", "data.rows=120", "data.test_rows=0", "train.rounds=1",
    "train.steps=1", "train.batch_size=4", "model.max_length=16", "federation.sites=4",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
def test_a_site_that_is_left_out_is_never_asked_and_the_summary_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"run={tmp_path / 'run'}"
    assert main([*SMALL, place, "federation.exclude=[site-2]"]) == 0
    folder = RunFolder.open(tmp_path / "run")
    assert [(row["updates"], row["asked"]) for row in folder.metrics()] == [(3, 3)]
    summary = folder.summary()
    assert summary is not None
    assert summary.privacy.sites["site-2"].steps == 0
    # It is no part of the job: all agree to the same one.
    other = tmp_path / "other"
    assert main([*SMALL, f"run={other}"]) == 0
    assert RunFolder.open(other).manifest.job_sha256 == folder.manifest.job_sha256
    # Rows that nobody trained on aren't counted among those of the model.
    whole = RunFolder.open(other).summary()
    assert whole is not None
    fewer = [sum(found.classes["train"].values()) for found in (summary, whole)]
    assert 0 < fewer[0] < fewer[1]
    capsys.readouterr()
    assert main([*SMALL, f"run={tmp_path / 'x'}", "federation.exclude=[site-9]"]) == 2
    assert "which is no site of this run; its sites are site-1, site-2" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("privacy", [Privacy(), Privacy(mechanism="dpsgd", rate=0.5)])
def test_the_coordinator_knows_the_nodes_of_the_sites_that_are_named(
    tmp_path: Path, privacy: Privacy
) -> None:
    sites = dict.fromkeys(("site-2", "site-1", "site-3"))
    parties: Any = SimpleNamespace(sites=sites, job=make_job(privacy=privacy))
    folder, keys = new_run(tmp_path / "run"), cast(Any, None)
    assert not play._known(parties, folder, Homes(), {}, keys).exclude
    asked = Homes(exclude=("site-1", "site-3"))
    assert play._known(parties, folder, asked, {}, keys).exclude == {2, 4}
    says = "'site-9', which is no site of this run; its sites are site-1, site-2, site-3"
    with pytest.raises(ConfigError, match=says):
        excluded(parties, Homes(exclude=("site-1", "site-9")))


@pytest.mark.parametrize("exclude", ["site-1", [1], [["a"]], 7])
def test_names_are_texts_in_a_list(exclude: Any) -> None:
    with pytest.raises(ConfigError, match=r"federation\.exclude"):
        Scenario.from_mapping({"federation": {"exclude": exclude}})


def test_rows_that_nobody_trained_on_are_not_counted_among_the_models() -> None:
    rows = Rows(["x"] * 3, ["a", "b", "a"])
    parties: Any = SimpleNamespace(
        sites={"site-1": rows, "site-2": rows},
        test=rows,
        job=make_job(),
    )
    assert _classes(parties, {"site-2"})["train"] == {"a": 2, "b": 1}
    assert _classes(parties, {"site-1", "site-2"})["train"] == {"a": 4, "b": 2}


def test_the_summary_says_who_was_named_and_how_to_leave_it_out() -> None:
    """By the site's name, which nobody else's number stands for."""
    names = {node: f"site-{node - 1}" for node in (2, 3)}
    result = RunResult(vector=np.zeros(1, np.float32), blamed={3: "upload: malformed answer"})
    (note,) = outcome._blamed(result, names)
    assert note.startswith("Site site-2 was named in a secure sum: upload: malformed answer.")
    assert "federation.exclude=[site-2]" in note


@pytest.mark.parametrize(
    "site", ["site-2", "7", "St. Mary, East", "Sant'Anna", 'the "old" one', "a\\b"]
)
def test_what_a_note_says_leaves_a_site_out_as_it_stands(site: str) -> None:
    (typed,) = shlex.split(outcome._without(site))
    (overrides,) = cli.expand(cli.as_typed([typed], cli.LISTS["simulate"]))
    mapping = cli.compose("simulate", overrides)
    assert mapping["federation"]["exclude"] == [site]
