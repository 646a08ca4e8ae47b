"""The verb ``budget`` where files are gone: what knows of them is named, and it fails."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmodel import cli, config
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.site_state import SiteState
from fedmodel.runs import RunFolder
from tests.conftest import new_run
from tests.fedmodel.test_budget import JOB, spend_some

SITES = ("east", "north", "west")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return the state of three sites, each with what the coordinator remembers of it."""
    heads = {}
    for name in SITES:
        site = SiteState(tmp_path / "st" / name, name)
        ledger = site.ledger()
        site.note_rows(ledger, ["a", "b"], ["x", "y"])
        spend_some(ledger, "first", end=True)
        heads[ledger.head().ledger] = ledger.head()
    memory = tmp_path / "st" / "coordinator"
    memory.mkdir()
    (memory / "heads.json").write_bytes(heads_text(heads))
    return tmp_path / "st"


def asked(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = cli.main(["budget", *args])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (["ledgers/main.jsonl"], ["main.jsonl is gone", "heads/main.json knows of 5 entries"]),
        (["ledgers", "heads"], ["main.jsonl is gone", "leaves/main.bin knows of it"]),
        (["ledgers", "heads", "leaves"], ["isn't here", "coordinator/heads.json knows of 5 ent"]),
        (["."], ["/main isn't here", "coordinator/heads.json knows of 5 entries"]),
        (["heads"], ["heads/main.json is gone", "nothing beside the ledger would tell"]),
        (["leaves"], ["leaves/main.bin is gone", "knows of its rows"]),
        (["key"], ["key is gone, which signs its ledgers"]),
        (["key", "ledgers"], ["main.jsonl is gone", "key is gone"]),
    ],
)
def test_what_is_gone_is_named(
    state: Path, lose: list[str], says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in lose:
        path = state / "north" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    code, out, err = asked(capsys, f"state={state}")
    assert code == 1
    assert "site east" in out
    assert "site west" in out
    assert "this isn't all that was spent" in err
    for text in says:
        assert text in err
    if lose != ["."]:
        assert "site north" in err


@pytest.mark.long
def test_half_a_statement_is_none(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, f"state={state}", "format=json")[0] == 0
    (state / "north" / "ledgers" / "main.jsonl").unlink()
    # Neither for scripts, nor to give anything back on.
    for more in ("format=json", "release=first"):
        code, out, _ = asked(capsys, f"state={state}", more)
        assert (code, out) == (1, "")
    # What is whole can be asked for by itself, what isn't can't.
    assert asked(capsys, f"state={state}", "site=north")[0] == 1
    assert asked(capsys, f"state={state}", "site=west")[0] == 0
    shutil.rmtree(state / "north")
    assert asked(capsys, f"state={state}", "site=west")[0] == 0


def test_a_ledger_that_was_emptied_is_gone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "north" / "ledgers" / "main.jsonl").write_bytes(b"")
    code, _, err = asked(capsys, f"state={state}")
    assert (code, "main.jsonl has no entry" in err) == (1, True)


def test_a_copy_of_a_ledger_beside_it_is_no_dataset(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledgers = state / "north" / "ledgers"
    for name in ("main.2024.jsonl", "main (copy).jsonl"):
        shutil.copy(ledgers / "main.jsonl", ledgers / name)
    code, out, _ = asked(capsys, f"state={state}", "site=north", "format=json")
    assert (code, len(json.loads(out)["ledgers"])) == (0, 1)
    (ledgers / "main.jsonl").unlink()  # and doesn't stand for it either
    assert asked(capsys, f"state={state}", "site=north")[0] == 1


def test_a_site_alone_is_looked_at_the_same_way(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "north" / "ledgers" / "main.jsonl").unlink()
    code, _, err = asked(capsys, f"state={state / 'north'}")
    assert (code, "heads/main.json knows of 5 entries" in err) == (1, True)


def test_an_old_ledger_with_its_head_is_noticed_by_the_coordinators_memory(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = SiteState(state / "north", "north")
    old = {p: p.read_bytes() for p in (site.ledger_path("main"), site.head_path("main"))}
    spend_some(site.ledger(), "second", end=True)
    heads = {site.ledger().head().ledger: site.ledger().head()}
    (state / "coordinator" / "heads.json").write_bytes(heads_text(heads))
    for path, content in old.items():
        path.write_bytes(content)
    code, out, err = asked(capsys, f"state={state}")
    assert (code, out) == (1, "")
    assert "an old copy" in err


def test_nothing_at_all_is_said_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = asked(capsys, "state=empty")
    assert code == 1
    assert "nothing that knows of one" in err


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = new_run(tmp_path / "runs" / "demo", job=config.to_mapping(JOB), config={})
    heads = {}
    for name in SITES:
        ledger = SiteState(folder.site_state(name), name).ledger(path=folder.ledger(name))
        spend_some(ledger, "demo", end=True)
        heads[ledger.head().ledger] = ledger.head()
    folder.tree_heads.write_bytes(heads_text(heads))
    return folder


@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (lambda run: run.ledger("north").unlink(), "heads/main.json knows of 4 entries"),
        (lambda run: shutil.rmtree(run.site_state("north") / "heads"), "has no tree head of it"),
    ],
)
def test_a_run_folder_likewise(
    run: RunFolder,
    lose: Callable[[RunFolder], None],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert asked(capsys, "run=demo")[0] == 0
    lose(run)
    code, out, err = asked(capsys, "run=demo")
    assert code == 1
    assert "site east" in out
    assert "site north" in err
    assert says in err


def test_a_runs_own_memory_knows_of_a_ledger_that_is_gone_with_its_state(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run.ledger("north").unlink()
    shutil.rmtree(run.site_state("north"))
    code, _, err = asked(capsys, "run=demo")
    assert code == 1
    assert "demo/heads.json knows of 4 entries" in err
    run.tree_heads.unlink()
    assert asked(capsys, "run=demo")[0] == 0  # nothing is left that would know


@pytest.mark.long
def test_a_summary_knows_who_has_spent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "vectors" / "run_v1"
    copy = tmp_path / "runs" / "old"
    shutil.copytree(golden, copy)
    assert asked(capsys, "run=old")[0] == 0
    (copy / "ledger" / "site-2.jsonl").unlink()
    shutil.rmtree(copy / "sites" / "site-2")
    assert json.loads((copy / "summary.json").read_bytes())["privacy"]["sites"]["site-2"]["steps"]
    code, _, err = asked(capsys, "run=old")
    assert code == 1
    assert "site site-2: " in err
    assert "summary.json knows of it" in err
