"""A run as it is deployed, but for the network: from folders and files to a finished run folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from fedmodel import cli
from fedmodel._signals import Stopped
from fedmodel.cli import jobs
from fedmodel.errors import ConfigError, RunFolderError, UnavailableError
from fedmodel.identity.home import PartyHome
from fedmodel.job import Job
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder, Summary, check_unchanged
from server import serve as serving
from server.ask import Ask
from simulations.loopback import LoopbackGrid
from simulations.parties import gather
from simulations.scenario import Scenario
from tests.deployed import EACH, LABELS, Deployed

pytestmark = pytest.mark.long

HEAD = ["train=head", "train.rounds=2", "train.steps=2", "train.batch_size=8"]
SMALL = [*HEAD, "model.max_length=16", "federation.min_rows=1"]


def words(deployed: Deployed, *more: str) -> list[str]:
    return [
        *SMALL,
        f"model.labels={LABELS}",
        f"home={deployed.coordinator}",
        *more,
    ]


def mapping(deployed: Deployed, *more: str) -> tuple[dict[str, Any], list[str]]:
    (composed,) = jobs.compose_all("serve", words(deployed, *more))
    return composed.mapping, composed.given


def serve(deployed: Deployed, *more: str) -> int:
    """Serve by the command line's own way, over the loopback; return the exit code."""
    composed, given = mapping(deployed, *more)
    return serving.main(composed, given, carrier=deployed.carry)


def simulated(deployed: Deployed, *more: str) -> RunFolder:
    rows = ["data=csv", f"data.train={deployed.root / 'all.csv'}", "data.site=site"]
    assert cli.main(["simulate", *SMALL, *rows, "run=simulated", *more]) == 0
    return RunFolder.open(Path("runs/simulated"))


def test_without_privacy_the_model_is_the_simulations_bit_for_bit(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows, seed and job, by other folders, files and facts that are said, not counted."""
    alike = ["privacy=none", "seed=5", f"data.test={deployed.root / 'test.csv'}"]
    one = simulated(deployed, *alike)
    capsys.readouterr()
    assert serve(deployed, *alike, "run=served") == 0
    other = RunFolder.open(Path("runs/served"))
    assert other.manifest.job_sha256 == one.manifest.job_sha256
    assert {n: a.tobytes() for n, a in other.model().items()} == {
        n: a.tobytes() for n, a in one.model().items()
    }
    found, told = other.summary(), capsys.readouterr()
    assert found is not None
    assert found.final["accuracy"] == one.summary().final["accuracy"]  # type: ignore[union-attr]
    assert {s.rounds for s in found.privacy.sites.values()} == {2}
    assert (other.path / "report.html").exists()
    assert "INFO 3 of 3 sites are here (2 are needed): site-1, site-2, site-3" in told.err
    assert "round 2/2" in told.err
    assert "from start to end" in told.out
    assert "3 of 3 sites joined" in other.log.read_text()


@pytest.mark.parametrize(
    ("more", "units"),
    [
        (["privacy=record"], "[40,40,40]"),
        (["privacy=record"], "40"),
        (["privacy=distributed", "train.steps=1"], "[40,40,40]"),
        (["privacy=none", "secagg=on"], "40"),
    ],
)
def test_facts_that_are_said_make_the_simulations_job(
    deployed: Deployed, more: list[str], units: str, capsys: pytest.CaptureFixture[str]
) -> None:
    test = f"data.test={deployed.root / 'test.csv'}"
    rows = ["data=csv", f"data.train={deployed.root / 'all.csv'}", "data.site=site"]
    (asked,) = jobs.compose_all("simulate", [*SMALL, *rows, *more, test, "train.rounds=1"])
    job = gather(Scenario.from_mapping(asked.mapping)).job
    capsys.readouterr()
    said = [*more, test, "train.rounds=1", f"declared.units={units}", "check=true", "format=json"]
    assert serve(deployed, *said) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["job_sha256"] == job.sha256
    assert Job.from_mapping(shown["job"]) == job
    assert not deployed.seen


def test_a_private_run_tells_what_a_coordinator_can_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    deployed = Deployed(tmp_path, held_out=True)
    private = ["privacy=record", "privacy.epsilon=4", f"declared.units={EACH}", "run=served"]
    deployed.fill("site-2", "epsilon: null  # largest", "epsilon: 3.5  # largest")
    assert serve(deployed, *private) == 0
    found = RunFolder.open(Path("runs/served"))
    summary = found.summary()
    assert summary is not None
    privacy = summary.privacy
    assert (privacy.basis, privacy.epsilon) == ("plan", 4.0)
    assert summary.traffic is not None
    assert summary.traffic.bytes_up > 0
    refused = privacy.sites["site-2"]
    assert refused.epsilon == refused.rounds == 0
    assert "policy" in str(refused.refused)
    assert summary.released is not None
    assert summary.released.sites == 2
    for name in ("site-1", "site-3"):
        site, path = privacy.sites[name], deployed.state / name / "ledgers" / "main.jsonl"
        assert site.ledger is not None
        assert site.ledger.entries == len(Ledger(path).entries())
        assert (site.epsilon, site.rounds, site.refused) == (4.0, 2, None)
    # No figure of a site's own is in it, and what is read again is what was written.
    written = json.loads((found.path / "summary.json").read_text())
    assert not {"train_s", "overhead_s"} & set(written["time"])
    assert "epsilon_total" not in written["privacy"]["sites"]["site-1"]
    assert "at most" in (found.path / "report.html").read_text()
    log = (deployed.coordinator / "security.jsonl").read_text()
    assert "site-refused" in log
    assert cli.main(["budget", "run=served"]) == 2
    assert "a site's ledger is its own" in capsys.readouterr().err


class Cut(LoopbackGrid):
    """A grid whose coordinator is asked to stop in the second round."""

    def _deliver(self, message: Message) -> Message:
        if message.metadata.message_type == "train" and self._counter > 8:
            raise Stopped
        return super()._deliver(message)


def test_test_rows_that_changed_since_a_run_was_begun_are_noticed(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    public = deployed.root / "test.csv"
    asked = ["privacy=none", f"data.test={public}", "run=served", "resume=true"]
    monkeypatch.setattr(deployed, "grid", Cut)
    assert serve(deployed, *asked) == 0
    public.write_text("\n".join(public.read_text().splitlines()[:-1]) + "\n")
    monkeypatch.undo()
    monkeypatch.chdir(deployed.root)
    capsys.readouterr()
    assert serve(deployed, *asked) == 1
    assert "can't be continued: the rows changed since it was begun" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_by_the_same_command(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["privacy=none", "seed=5", f"data.test={deployed.root / 'test.csv'}"]
    one = simulated(deployed, *asked)
    asked[2] = "data.test=test.csv"
    asked += ["run=served", "resume=true", "purpose=To <sort> letters"]
    monkeypatch.setattr(deployed, "grid", Cut)
    assert serve(deployed, *asked) == 0
    assert "asked to stop" in capsys.readouterr().err
    folder = RunFolder.open(Path("runs/served"))
    assert folder.summary() is None
    assert len(list(folder.metrics())) == 1
    monkeypatch.undo()
    monkeypatch.chdir(deployed.root)
    with folder.locked():
        assert serve(deployed, *asked) == 1
    assert "is being run by another process" in capsys.readouterr().err
    summed_up, before = RunFolder.write_summary, list[bool]()

    def write_summary(self: RunFolder, summary: Summary) -> None:
        before.append((self.path / "model" / "trained.safetensors").exists())
        summed_up(self, summary)

    monkeypatch.setattr(RunFolder, "write_summary", write_summary)
    assert serve(deployed, *asked, "deadline=7") == 0
    assert before == [True]  # a summary says that all is there
    assert {n: a.tobytes() for n, a in folder.model().items()} == {
        n: a.tobytes() for n, a in one.model().items()
    }
    page = folder.path / "report.html"
    written = page.read_text()
    assert f"begun: {folder.manifest.created}, by fedmodel" in written
    assert "purpose: To &lt;sort&gt; letters" in written
    page.unlink()  # as by a kill just before it is written
    assert serve(deployed, *asked) == 0
    assert "is finished already" in capsys.readouterr().err
    assert page.read_text() == written
    page.write_text("with what people wrote beside it")
    assert serve(deployed, *asked) == 0
    assert page.read_text() == "with what people wrote beside it"
    assert serve(deployed, *asked, "train.rounds=3") == 2
    assert "train.rounds would change it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_another_process_finishes_meanwhile_is_not_played_again(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had been waited for sites of which none came any more."""
    asked = ["privacy=none", "declared.rows=40", "train.rounds=2", "run=served", "resume=true"]
    with monkeypatch.context() as patched:
        patched.setattr(deployed, "grid", Cut)
        assert serve(deployed, *asked) == 0

    def other(*checked: Any) -> None:
        monkeypatch.setattr("server.serve.check_unchanged", check_unchanged)
        assert serve(deployed, *asked) == 0
        check_unchanged(*checked)

    monkeypatch.setattr("server.serve.check_unchanged", other)
    capsys.readouterr()
    assert serve(deployed, *asked) == 0
    assert len(deployed.seen) == 2
    assert capsys.readouterr().err.count("is finished already") == 1


@pytest.mark.parametrize("mode", ["seal", pytest.param("on", marks=pytest.mark.slow)])
def test_updates_are_hidden_by_the_keys_of_the_folders(deployed: Deployed, mode: str) -> None:
    words = ["privacy=none", f"secagg={mode}", "declared.rows=40", "run=served", "train.rounds=1"]
    assert serve(deployed, *words) == 0
    summary = RunFolder.open(Path("runs/served")).summary()
    assert summary is not None
    assert summary.secagg.mode == mode
    assert {site.rounds for site in summary.privacy.sites.values()} == {1}


@pytest.mark.slow
def test_a_newer_roster_and_a_passphrase_are_taken(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    board = deployed.state / "consortium"
    assert cli.main(["provision", "role=consortium", f"home={board}", "renew=roster"]) == 0
    newer = f"roster={board / 'roster.json'}"
    home = PartyHome(deployed.coordinator)
    before = home.current_roster().version
    asked = ["privacy=none", "train.rounds=1", "declared.rows=40", newer]
    assert serve(deployed, *asked, "check=true") == 0
    assert home.current_roster().version == before  # it was only shown
    for name in deployed.names:
        taken = ["provision", "role=site", f"home={deployed.state / name}", newer]
        assert cli.main(taken) == 0
    assert serve(deployed, *asked, "run=served", "federation.exclude=[site-3]") == 0
    assert home.current_roster().version == before + 1 == deployed.seen[-1].roster.version
    summary = RunFolder.open(Path("runs/served")).summary()
    assert summary is not None
    assert "left out" in str(summary.privacy.sites["site-3"].refused)
    capsys.readouterr()
    assert serve(deployed, *asked, "run=other", "federation.exclude=[site-3,site-1]") == 2
    assert "leaves 1 sites, and 2 are needed" in capsys.readouterr().err


@pytest.mark.parametrize("secagg", ["off", "on"])
def test_where_sites_have_a_newer_roster_it_is_said_and_the_same_command_goes_on_with_it(
    secagg: str, deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the midst of a run: what sites hold for it stays held, and is spent once."""
    public = [f"declared.units={EACH}", f"data.test={deployed.root / 'test.csv'}"]
    asked = [*public, "privacy=record", f"secagg={secagg}", "federation.quorum=1"]
    asked += ["run=served", "resume=true"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(deployed, "grid", Cut)
        assert serve(deployed, *asked) == 0
    board = deployed.state / "consortium"
    assert cli.main(["provision", "role=consortium", f"home={board}", "renew=roster"]) == 0
    newer, version = f"roster={board / 'roster.json'}", deployed.seen[0].roster.version
    for name in deployed.names:
        home = f"home={deployed.state / name}"
        assert cli.main(["provision", "role=site", home, newer]) == 0
    capsys.readouterr()
    assert serve(deployed, *asked) == 3
    said = capsys.readouterr().err
    assert (
        f"site-1, site-2, site-3 refused: this site has version {version + 1} of the roster, and "
        f"this run goes by version {version}; its coordinator takes" in said
    )
    assert "3 site(s) have a newer roster than this run's: take it over: fedmodel prov" in said
    assert f"home={deployed.coordinator} roster=PATH" in said
    assert "try again later: the same command" in said
    office = ["provision", "role=coordinator", f"home={deployed.coordinator}", newer]
    assert cli.main(office) == 0
    assert serve(deployed, *asked) == 0
    folder = RunFolder.open(Path("runs/served"))
    for name in deployed.names:
        book = Ledger(deployed.state / name / "ledgers" / "main.jsonl").book()
        (reservation,) = book.of(folder.run, folder.manifest.job_sha256)
        assert sum(spend.steps for spend in reservation.done()) == 2 * 2


def test_sites_that_do_not_come_are_named_and_the_code_says_try_again(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.away = {"site-1", "site-3"}
    asked = ["privacy=none", "wait=0.1", "run=served", "resume=true"]
    assert serve(deployed, *asked) == UnavailableError.exit_code == 3
    assert re.search(
        r"ERROR 1 of 3 sites came within wait=0.1 seconds, 2 are needed; awaited: site-1, site-3",
        capsys.readouterr().err,
    )
    deployed.away = {"site-2"}
    assert serve(deployed, *asked) == 0  # enough: those who are away are asked, and fail


def test_a_served_run_goes_on_by_its_own_verb(
    deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.away = set(deployed.names)
    assert serve(deployed, "privacy=none", "wait=0", "run=served", "resume=true") == 3
    capsys.readouterr()
    for words in (["simulate", "run=served", "resume=true"], ["export", "run=served", "to=m"]):
        assert cli.main(words) != 0
        assert (
            f"fedmodel serve home={deployed.coordinator} run=runs/served" in capsys.readouterr().err
        )
    with pytest.raises(RunFolderError, match=r"fedmodel serve .* run=served resume=true"):
        RunFolder.open(Path("runs/served")).model()


def test_another_rosters_sites_make_another_run(
    deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["privacy=none", "wait=0", "run=served", "resume=true"]
    deployed.away = set(deployed.names)
    assert serve(deployed, *asked) == 3
    folder = RunFolder.open(Path("runs/served"))
    manifest = json.loads((folder.path / "manifest.json").read_text())
    manifest["config"]["sites"] = ["site-1", "site-9"]
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    assert serve(deployed, *asked) == RunFolderError.exit_code
    assert "another roster's sites make another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["model.labels=null"], "serve sees no rows, so it must be told the classes"),
        ([], "declared.units=[…], one number for each of the 3 sites"),
        (["declared.units=[40,40]"], "declared.units has 2 numbers, and the roster 3 sites"),
        (["declared.units=[40,0,40]"], "declared.units must be 1 or more"),
        (["declared.units=40", "privacy.delta=0.1"], "privacy.delta=0.1 must be below 1/"),
        (["declared.units=40", "federation.exclude=[site-9]"], "which is no site of this run"),
        (["declared.units=40", "listen=8443"], "listen must be an address and a port"),
        (["declared.units=40", "deadline=0"], "deadline must be seconds"),
        (["declared.units=40", "resume=true"], "resume=true needs run="),
        (["home=nowhere"], "nowhere has no coordinator; make one"),
        (["home=demo/site-1"], "has the site 'site-1'; serve needs a coordinator's folder"),
        (["roster=nowhere.json"], "nowhere.json"),
        (["declared.units=40", "federation.patience=2"], "public test set"),
        (["job=job.json"], "is a whole job, taken as it is"),
    ],
)
def test_what_is_lacking_or_wrong_is_one_line(
    deployed: Deployed, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    composed, given = mapping(deployed, *more)
    try:
        code = serving.main(composed, given, carrier=deployed.carry)
        told = capsys.readouterr().err
    except ConfigError as error:
        code, told = 2, str(error)
    assert code == 2
    assert says in told
    assert not deployed.seen


def test_without_a_folder_it_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match="serve needs home="):
        Ask.of({})
