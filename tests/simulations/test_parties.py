"""What a simulation declares in the sites' stead: rate and test rows; what a run leaves behind."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

import server.rounds
from fedmodel import cli
from fedmodel.agreement import public_rate
from fedmodel.data import Rows, hold_out
from fedmodel.errors import ConfigError, DataError, QuorumError
from fedmodel.runs import RunFolder
from fedmodel.seeds import Seed
from server.coordinator import Silent
from simulations.parties import Parties, gather
from simulations.play import play
from simulations.scenario import Homes, Scenario
from tests.conftest import new_run


def gathered(*overrides: str) -> Parties:
    args = ["debug=fast", "train=head", "train.batch_size=8", *overrides]
    return gather(Scenario.from_mapping(cli.compose("simulate", args)))


@pytest.mark.long
@given(st.integers(1, 5000), st.lists(st.integers(1, 10**6), min_size=1, max_size=9))
def test_the_rate_is_the_batch_over_the_mean_rounded_up_to_two_digits(
    batch: int, units: list[int]
) -> None:
    rate = public_rate(batch, units)
    share = Fraction(batch * len(units), sum(units))
    assert 0 < rate <= 1
    if share >= 1:
        assert rate == 1
        return
    assert float(f"{rate:.1e}") == rate  # two significant digits
    assert float(share) * (1 - 1e-12) <= rate <= float(share) * 1.1 + 1e-12


@pytest.mark.long
def test_a_private_job_gets_one_public_rate_for_all_sites() -> None:
    parties = gathered("privacy=record")
    sizes = [len(rows) for rows in parties.sites.values()]
    assert len(set(sizes)) > 1
    assert parties.job.privacy.rate == public_rate(8, sizes)
    assert gathered("privacy=none").job.privacy.rate == 1.0  # without effect


def test_a_given_rate_is_kept() -> None:
    assert gathered("privacy=record", "privacy.rate=0.3").job.privacy.rate == 0.3


@pytest.mark.long
def test_patients_are_counted_where_they_are_the_unit() -> None:
    parties = gathered("privacy=patient")
    patients = [len(set(rows.patients or ())) for rows in parties.sites.values()]
    assert parties.job.privacy.rate == public_rate(8, patients)
    assert parties.job.privacy.rate > gathered("privacy=record").job.privacy.rate


@pytest.mark.long
def test_the_largest_weight_of_a_sum_is_that_of_the_largest_site() -> None:
    parties = gathered(
        "privacy=none", "secagg=on", "federation.partition=dirichlet", "data.rows=300"
    )
    sizes = sorted(len(rows) for rows in parties.sites.values())
    assert parties.job.secagg.masked.max_weight >= sizes[-1] > 2 * sizes[0]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("privacy", ["record", "patient"])
def test_the_same_scenario_gives_the_same_job(privacy: str) -> None:
    # A resume goes on only with the very job in the manifest.
    args = (f"privacy={privacy}", "data.test_rows=0")
    assert gathered(*args).job.sha256 == gathered(*args).job.sha256


@pytest.mark.long
def test_other_patients_are_other_rows(tmp_path: Path) -> None:
    args = ["privacy=patient", *csv_args(tmp_path, ",patient")]
    one = gathered(*args).rows_sha256
    path = tmp_path / "rows.csv"
    path.write_text(path.read_text().replace(",p0\n", ",p1\n", 1))
    assert gathered(*args).rows_sha256 != one


def csv_args(folder: Path, column: str = "") -> list[str]:
    path = folder / "rows.csv"
    lines = [f"note {i},d{i % 2},h{i % 3}{f',p{i // 4}' if column else ''}" for i in range(90)]
    path.write_text("\n".join([f"text,label,site{column}", *lines]) + "\n")
    patient = ["data.patient=patient"] if column else []
    return ["data=csv", f"data.train='{path}'", "data.site=site", *patient]


def test_patients_as_unit_need_their_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.patient=COLUMN"):
        gathered("privacy=patient", *csv_args(tmp_path))
    parties = gathered("privacy=patient", *csv_args(tmp_path, ",patient"))
    for name, rows in parties.sites.items():
        # No patient is trained and tested on.
        assert not set(rows.patients or ()) & set(parties.held_out[name].patients or ())


@pytest.mark.long
def test_the_job_says_where_the_test_rows_are(tmp_path: Path) -> None:
    public = gathered("privacy=record")
    assert (public.job.federation.test, public.held_out) == ("public", {})
    assert not public.job.publishes_evaluation
    for privacy, releases in (
        (["privacy=record"], True),
        (["privacy=record", "privacy.evaluation=suppressed"], False),
        (["privacy=none"], False),
    ):
        parties = gathered(*privacy, *csv_args(tmp_path))
        assert parties.job.federation.test == "held-out"
        assert parties.job.publishes_evaluation == releases
        assert set(parties.held_out) == set(parties.sites)
        assert len(parties.test) == sum(map(len, parties.held_out.values()))


def test_early_stopping_by_the_sites_own_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="public test set"):
        gathered("privacy=record", "federation.patience=1", *csv_args(tmp_path))


def test_a_test_set_has_a_row_whatever_the_fraction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(gathered("data.test_fraction=1e-9", *csv_args(tmp_path)).test) == 1
    assert "one was put on the other" in caplog.text


def falls(seed: int) -> bool:
    """Return whether all rows of site E fall among the test rows."""
    (train, test) = hold_out(
        Rows(["a"], ["x"], None, ["E"]), 0.2, Seed(seed).child("data").child("test", "E")
    )
    return len(test) > len(train)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("privacy", ["none", "record", "patient", "distributed", "site"])
def test_a_site_takes_part_wherever_its_only_patient_falls(tmp_path: Path, privacy: str) -> None:
    rows = [f"{s} {i} cough,{'xy'[i % 2]},{s},{s}{i // 2}" for s in "ABCD" for i in range(40)]
    rows += [f"E {i} fever,{'xy'[i % 2]},E,E" for i in range(20)]
    (tmp_path / "rows.csv").write_text("text,label,site,pid\n" + "\n".join(rows))
    args = [f"privacy={privacy}", "data=csv", f"data.train={tmp_path / 'rows.csv'}"]
    args += ["data.site=site", "data.patient=pid", "federation.sites=5", "train.batch_size=4"]
    args += ["federation.partition=natural", "federation.min_rows=1"]
    parties = gathered(*args, f"seed={next(filter(falls, range(99)))}")
    left = 20 if privacy in ("none", "site") else 0
    assert (len(parties.sites["E"]), len(parties.held_out["E"])) == (left, 20 - left)
    played = play(parties, new_run(tmp_path / "run"), Silent())
    assert not played.result.refused
    assert set(played.result.updates.values()) == {parties.job.train.rounds}


def copied(parties: Parties, folder: RunFolder) -> Sequence[str]:
    return [name for name in sorted(parties.sites) if folder.ledger(name).is_file()]


@pytest.mark.slow
@pytest.mark.long
def test_a_ledger_that_is_not_copied_is_logged_and_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parties, homes = gathered("privacy=record"), Homes(state=tmp_path / "state")
    folder = new_run(tmp_path / "run")
    first, second, *others = sorted(parties.sites)
    folder.ledger(first).mkdir(parents=True)  # a folder where the copy should be
    torn = tmp_path / "state" / second / "ledgers" / "main.jsonl"

    def fail(*_: Any) -> None:
        torn.write_bytes(b"not a ledger\n")
        raise QuorumError("the others are gone")

    with monkeypatch.context() as patch:
        patch.setattr(server.rounds._Run, "play", fail)
        with pytest.raises(QuorumError, match="the others are gone"):
            play(parties, folder, Silent(), homes=homes)
    assert f"site {first}: its ledger wasn't copied" in caplog.text
    assert f"site {second}: its ledger can't be reported" in caplog.text
    assert copied(parties, folder) == others
    # A run that goes well isn't lost by it either.
    folder, homes = new_run(tmp_path / "next"), Homes(state=tmp_path / "new")
    folder.ledger(first).mkdir(parents=True)
    caplog.clear()
    result = play(parties, folder, Silent(), homes=homes).result
    assert result.rounds == parties.job.train.rounds
    assert caplog.text.count("wasn't copied") == 1
    assert copied(parties, folder) == [second, *others]


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_is_interrupted_has_copies_of_its_ledgers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parties, homes = gathered("privacy=record"), Homes(state=tmp_path / "state")
    folder, real = new_run(tmp_path / "run"), server.rounds._Run.play

    def interrupted(self: Any, *rest: Any) -> None:
        if self.progress.round == 1:
            raise KeyboardInterrupt
        real(self, *rest)

    monkeypatch.setattr(server.rounds._Run, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play(parties, folder, Silent(), homes=homes)
    assert copied(parties, folder) == sorted(parties.sites)


@pytest.mark.slow
@pytest.mark.long
def test_a_job_has_a_datasets_classes_by_their_numbers(tmp_path: Path) -> None:
    names = ["none", "mild", "grave"]
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=names)
    )
    rows = {"text": [f"note {i}" for i in range(80)], "label": [0, 2] * 40}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    args = ["privacy=none", "data=parquet", f"data.train={tmp_path / 'rows.parquet'}"]
    args += ["federation.sites=2", "federation.partition=iid"]
    for seed in (0, 1):
        assert gathered(*args, f"seed={seed}").job.model.labels == tuple(names)
    asked = gathered(*args, "model.labels=[grave,none]")  # for there is no row of the other
    assert asked.job.model.labels == ("grave", "none")
