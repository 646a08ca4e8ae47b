"""A finished run of schema ``fedmodel.run/1``, as version 0.1.0 wrote it, is read and verified.

The folder is as it was written, but for what no reader needs: the sites' keys, salts and leaves.
"""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedmodel import cli, config
from fedmodel.accounting.claims import claim
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.export import export_run
from fedmodel.job import Job
from fedmodel.ledger import Ledger
from fedmodel.report.page import report_page
from fedmodel.runs import RunFolder, Summary
from fedmodel.runs.files import to_json

VECTORS = Path(__file__).parents[2] / "vectors"
RUN = VECTORS / "run_v1"
SUMMARIES = sorted((VECTORS / "summaries_v1").glob("*.json"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run_v1"))


def summary_of(folder: RunFolder) -> Summary:
    summary = folder.summary()
    assert summary is not None
    return summary


def test_manifest_and_summary_come_back_byte_for_byte() -> None:
    folder = RunFolder.open(RUN)
    manifest, summary = folder.manifest, summary_of(folder)
    assert to_json(manifest.to_mapping()) == (RUN / "manifest.json").read_bytes()
    assert to_json(summary.to_mapping()) == (RUN / "summary.json").read_bytes()
    assert re.fullmatch("run_v1-[0-9a-f]{8}", folder.run)
    # A job is named by its text, whatever this version makes of it.
    assert config.digest(manifest.job) == manifest.job_sha256 == summary.job_sha256


def test_there_is_a_summary_for_every_kind_of_run() -> None:
    found = {path.stem for path in SUMMARIES}
    assert found == {"distributed", "none", "seal", "shared1", "shared2", "site"}


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.stem)
def test_a_summary_comes_back_byte_for_byte(path: Path) -> None:
    summary = Summary.from_mapping(json.loads(path.read_bytes()))
    assert to_json(summary.to_mapping()) == path.read_bytes()
    assert report_page(summary, path.stem)


def test_metrics_checkpoint_and_model_belong_together() -> None:
    folder = RunFolder.open(RUN)
    summary, last, rows = summary_of(folder), folder.last_checkpoint(), folder.metrics()
    assert last is not None
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[-1]["accuracy"] == summary.final["accuracy"]
    assert last.round == summary.rounds == 2
    assert summary.released is not None
    assert last.state["released"]["accuracy"] == summary.released.accuracy
    model = folder.model()
    assert set(model) == set(last.parameters)
    assert all((model[name] == last.parameters[name]).all() for name in model)


def test_the_claim_follows_from_the_ledgers() -> None:
    folder = RunFolder.open(RUN)
    privacy = summary_of(folder).privacy
    assert privacy.delta is not None
    assert set(privacy.sites) == {"site-1", "site-2", "site-3"}
    for name, site in privacy.sites.items():
        spends = Ledger(folder.ledger(name)).spends(run=folder.run, job=folder.manifest.job_sha256)
        assert len(spends) == 3  # two rounds and the evaluation
        assert claim(spends, privacy.delta, privacy.adjacency).epsilon == pytest.approx(
            site.epsilon, rel=1e-9
        )


def test_the_budget_verb_checks_the_ledgers_against_their_tree_heads(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["budget", f"run='{run}'", "format=json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["site"] for each in shown["ledgers"]] == ["site-1", "site-2", "site-3"]
    ledger = run / "ledger" / "site-1.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    assert cli.main(["budget", f"run='{run}'"]) == 1
    assert "an old copy" in capsys.readouterr().err


def test_the_page_can_be_made_again_from_the_summary() -> None:
    def words(page: str) -> list[str]:
        text = html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", "", page, flags=re.DOTALL))
        return re.sub(r"[^\S\n]*[\u2500-\u257f]+[^\S\n]*", " ", text).split()

    def interval(found: re.Match[str]) -> str:  # how a released figure stands there now
        value, error = float(found[1]), float(found[2])
        return f"{value} % ({value - 2 * error:.0f} to {value + 2 * error:.0f})"

    page = report_page(summary_of(RunFolder.open(RUN)), "run_v1")
    written = re.sub(r"([\d.]+) ± ([\d.]+) %", interval, (RUN / "report.html").read_text())
    assert "(31 to 49)" in written
    assert words(page) == words(written)


@pytest.mark.long
def test_the_model_of_a_run_of_the_first_format_is_exported_with_its_logits(
    run: Path, tmp_path: Path
) -> None:
    folder = RunFolder.open(run)
    job = Job.read(folder.manifest.job)
    assert job.weights == folder.manifest.job["model"]["digest"]
    to = export_run(run, tmp_path / "out")
    exported = load_file(to / "model.safetensors")
    for name, trained in folder.model().items():
        np.testing.assert_array_equal(exported[name], trained)
    assert folder.manifest.job_sha256[:16] in (to / "README.md").read_text()


def test_a_format_that_nobody_knows_names_the_version_that_can_export_it(
    run: Path, tmp_path: Path
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["job"]["format"] = "fedmodel.job/9"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match=r"fedmodel\.job/9.*fedmodel 0\.1\.0"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["model", "train", "privacy", "secagg"])
def test_a_job_of_the_first_format_that_lacks_something_is_refused(run: Path, part: str) -> None:
    mapping = json.loads(json.dumps(RunFolder.open(run).manifest.job))
    mapping["secagg"] |= {"mode": "on", "survivors": 4, "colluders": 1, "threshold": 4, "bits": 24}
    mapping["federation"]["sites"] = 5
    for key in list(mapping[part]):
        less = {**mapping, part: {k: v for k, v in mapping[part].items() if k != key}}
        with pytest.raises(ConfigError):
            Job.read(less)


def test_sums_of_the_first_format_are_todays(run: Path) -> None:
    mapping = json.loads(json.dumps(RunFolder.open(run).manifest.job))
    mapping["secagg"] |= {"mode": "on", "survivors": 4, "colluders": 1, "threshold": 4, "bits": 24}
    mapping["federation"]["sites"] = 5
    sums = Job.read(mapping).secagg.masked
    assert (sums.survivors, sums.colluders, sums.bits, sums.max_weight) == (4, 1, 24, 1)
