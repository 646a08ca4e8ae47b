"""What released versions wrote on disk: read, verified and continued by every later one.

When one of these fails, don't write the file anew: what others have on disk doesn't change with it.
"""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from fedmodel import cli
from fedmodel.accounting.claims import claim
from fedmodel.accounting.spends import Spend
from fedmodel.errors import ConfigError, LedgerError, ProtocolError, RollbackError
from fedmodel.identity import Roster
from fedmodel.ledger import Ledger, Mechanism, Part, Request, SpendEntry
from fedmodel.ledger.caps import total
from fedmodel.ledger.entries import Entry
from fedmodel.ledger.lines import decode, encode
from fedmodel.ledger.mechanism import DPSGD, require_fits
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import TreeHead
from tests.fedmodel.ledger.golden_life import Fixed, live

VECTORS = Path(__file__).parents[2] / "vectors"
ROWS = ["cough", "fever", "rash", "fall"], ["a", "b", "a", "b"]
TWO, THREE, REPEATS, FOUR = (
    VECTORS / f"ledger_{n}.jsonl" for n in ("v2", "v3", "v3_repeats", "v4")
)
FIRST_TYPES = {"open", "dataset", "reserve", "spend", "abort", "torn"}


@pytest.fixture(scope="module")
def expected() -> Any:
    return json.loads((VECTORS / "ledger_v2_expected.json").read_text())


@pytest.fixture
def home(tmp_path: Path, expected: Any) -> Path:
    """The state folder of the site that wrote the ledger of schema 2, as it left it."""
    folder = tmp_path / "state" / "north"
    for name in ("ledgers", "heads", "leaves"):
        (folder / name).mkdir(parents=True)
    for name in ("key", "salt"):
        (folder / name).write_text(expected[name])
        (folder / name).chmod(0o600)
    (folder / "ledgers" / "main.jsonl").write_bytes(TWO.read_bytes())
    (folder / "heads" / "main.json").write_text(expected["tree_head"])
    (folder / "leaves" / "main.bin").write_bytes(bytes.fromhex(expected["leaves"]))
    return folder


# -- ledgers ---------------------------------------------------------------------------------------


def test_a_ledger_of_schema_2_says_what_it_said(expected: Any) -> None:
    ledger = Ledger(TWO)
    entries, book = ledger.entries(), ledger.book()
    renamed = ["give-back" if t == "release" else t for t in expected["types"]]
    assert [e.type for e in entries] == renamed
    assert {e.schema for e in entries} == {"fedmodel.ledger/2"}
    spends = [e for e in entries if isinstance(e, SpendEntry)]
    assert sum(e.steps for e in spends if e.kind == "train") == expected["train_steps"]
    assert sum(e.steps for e in spends if e.kind == "evaluate") == expected["evaluations"]
    assert {e.mechanism for e in spends} == {None}  # it doesn't say
    given = [[p.noise_multiplier, p.steps] for e in spends for p in e.given_up]
    assert given == expected["given_up"]
    held = [[r.entry.run, sum(s.steps for s in r.held())] for r in book.open_ones()]
    assert held == expected["open"]
    ledger.check_extends(TreeHead.from_json(expected["tree_head"]))
    assert [encode(e) for e in entries] == TWO.read_bytes().splitlines()


@pytest.mark.long
def test_epsilon_of_a_ledger_of_schema_2(expected: Any) -> None:
    book = Ledger(TWO).book()
    for made, told in zip(book.of(), expected["runs"], strict=True):
        delta, adjacency = float(made.entry.delta), made.entry.adjacency
        found = claim(made.done(), delta, adjacency).epsilon
        assert (made.entry.run, made.entry.job) == (told["run"], told["job"])
        assert found == pytest.approx(told["spent"], rel=0.01)
    spent, held = book.charges()
    assert total(spent, "record").epsilon == pytest.approx(expected["spent"], rel=0.01)
    both = total([*spent, *held], "record").epsilon
    assert both == pytest.approx(expected["reserved"], rel=0.01)


def test_a_ledger_of_schema_2_goes_on_in_todays(home: Path, expected: Any) -> None:
    state = SiteState(home, "north")
    ledger = state.ledger()
    noted = state.note_rows(ledger, *ROWS, ["p1", "p1", "p2", "p3"])
    assert (noted.added, noted.removed) == (0, 0)  # by the leaves of then
    new = Request(
        unit="record",
        adjacency="add-remove",
        epsilon=1.0,
        delta=1e-5,
        parts=(Part.of(Spend(0.1, 5.0, 2), DPSGD),),
    )
    ledger.reserve(new, run="fourth", job="4" * 64, code="test")
    ledger.spend(new.parts[0], run="fourth", job="4" * 64, round=1, clip=1.0)
    ledger.give_back("fourth", "4" * 64)
    ledger.give_back_run("second")  # what was reserved then is given back now
    text = ledger.path.read_bytes()
    assert text.startswith(TWO.read_bytes())
    entries = Ledger(ledger.path).entries()
    assert [e.schema for e in entries[20:]] == ["fedmodel.ledger/4"] * 5
    assert Ledger(ledger.path).book().open_ones() == []
    old = TreeHead.from_json(expected["tree_head"])
    ledger.head().check_follows(old, ledger.prove(old.size))
    # No version writes an older line after a newer one.
    line = encode(entries[1]).replace(b'"seq":1,', b'"seq":25,')
    following = line.replace(entries[1].prev.encode(), ledger.head().last.encode())
    ledger.path.write_bytes(text + following + b"\n")
    with pytest.raises(LedgerError, match=r"line 26: a line of fedmodel\.ledger/2 can't follow"):
        Ledger(ledger.path).entries()


def test_an_old_copy_of_a_ledger_of_schema_2_is_still_noticed(home: Path) -> None:
    path = home / "ledgers" / "main.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(RollbackError, match="has 19 entries, but a head of 20"):
        SiteState(home, "north").ledger().entries()


def test_budget_reads_it_and_gives_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["budget", f"state={home.parent}", "release=second", "format=json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["ledgers"]
    states = {(run["run"], run["state"]) for run in told["runs"]}
    assert states == {
        ("first-01234567", "released"),
        ("second", "released"),
        ("third", "released"),
    }
    last = Ledger(home / "ledgers" / "main.jsonl").entries()[-1]
    assert (last.type, last.schema) == ("give-back", "fedmodel.ledger/4")


def test_a_ledger_of_schema_4_is_written_to_the_same_bytes(tmp_path: Path) -> None:
    written = live(tmp_path / "north").path.read_bytes()
    assert written.decode().splitlines() == FOUR.read_text().splitlines()


def test_a_ledger_of_schema_3_goes_on_in_todays(tmp_path: Path) -> None:
    ledger = SiteState(tmp_path, "north", Fixed("golden 3")).ledger()
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(REPEATS.read_bytes())
    before = ledger.entries()
    assert {e.schema for e in before} == {"fedmodel.ledger/3"}
    assert before == tuple(map(decode, REPEATS.read_bytes().splitlines()))
    (held,) = ledger.book().open_ones()
    part = held.entry.parts[0]
    ledger.spend(
        part, run=held.entry.run, job=held.entry.job, round=3, clip=1.0, within=lambda *_: ()
    )
    assert ledger.path.read_bytes().startswith(REPEATS.read_bytes())
    assert [e.schema for e in ledger.entries()[len(before) :]] == ["fedmodel.ledger/4"]


def test_repeats_cost_nothing() -> None:
    for path in (REPEATS, FOUR):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [e["attempt"] for e in lines if e["type"] == "repeat"] == [2, 3]
        (run,) = Ledger(path).book().of("fourth")
        assert run.done() == [Spend(0.1, 1.5, 3)]


def test_a_ledger_of_schema_4_says_what_came_of_its_steps() -> None:
    book = Ledger(FOUR).book()
    found = {
        (e.run, e.round, e.attempt): [o.result for o in book.outcomes.of(e.seq)]
        for held in book.of()
        for e in held.spent
    }
    unknown = {("second", 1, 1), ("second", 2, 1), ("second", 2, 2), ("third", 1, 1)}
    assert {name for name, came in found.items() if not came} == unknown
    assert found["first-01234567", 2, 1] == ["failed"]
    assert found["fourth", 3, 1] == ["given", "given"]  # masked anew for another attempt
    for held in book.of():
        assert held.entry.grounds is not None
        for approval in held.entry.grounds.approved:
            approval.check(held.entry.run, held.entry.job)


@pytest.mark.long
def test_a_ledger_of_schema_3_can_be_accounted_from_the_file_alone() -> None:
    """As a stranger would: JSON, and what docs/ledger.md says of it."""
    lines = [json.loads(line) for line in THREE.read_bytes().splitlines()]
    spends = [line for line in lines if line["type"] == "spend"]
    named = {(s["kind"], s["mechanism"]["name"], s["unit"]) for s in spends}
    assert named == {
        ("train", "dpsgd", "record"),
        ("evaluate", "counts", "record"),
        ("train", "distributed", "patient"),
        ("train", "site", "site"),
    }
    for run, job in {(s["run"], s["job"]) for s in spends}:
        ours = [s for s in spends if (s["run"], s["job"]) == (run, job)]
        steps = [Spend(float(s["rate"]), float(s["noise_multiplier"]), s["steps"]) for s in ours]
        by_hand = claim(steps, float(ours[0]["delta"]), ours[0]["adjacency"]).epsilon
        book = Ledger(THREE).book()
        by_book = claim(
            [s for r in book.of(run, job) for s in r.done()],
            float(ours[0]["delta"]),
            ours[0]["adjacency"],
        )
        assert by_book.epsilon == pytest.approx(by_hand, rel=1e-9)
    shared = next(s["mechanism"] for s in spends if s["mechanism"]["name"] == "distributed")
    assert shared == {"name": "distributed", "honest": 7, "survivors": 9}


def test_every_type_of_line_is_in_the_golden_files() -> None:
    three = {"give-back"}
    four = three | {"repeat", "outcome"}
    parts = (TWO, {"release"}), (THREE, three), (REPEATS, three | {"repeat"}), (FOUR, four)
    for path, more in parts:
        types = {json.loads(line)["type"] for line in path.read_bytes().splitlines()}
        assert types == FIRST_TYPES | more
    assert {e["type"] for e in map(json.loads, FOUR.read_bytes().splitlines())} == {
        get_args(get_type_hints(e)["type"])[0] for e in get_args(Entry)
    }
    for path in (TWO, THREE, REPEATS, FOUR):
        for line in path.read_bytes().splitlines():
            assert encode(decode(line)) == line


@pytest.mark.parametrize(
    ("schema", "type_", "says"),
    [
        ("fedmodel.ledger/5", "spend", r"schema is fedmodel\.ledger/5 and its type spend.*newer"),
        ("fedmodel.ledger/1", "spend", r"reads fedmodel\.ledger/4 and fedmodel\.ledger/3.*before"),
        ("fedmodel.bill/3", "spend", "isn't a ledger's line"),
        ("fedmodel.ledger/3", "release", "expected an entry of type open or .*got release"),
        ("fedmodel.ledger/3", "outcome", "expected an entry of type open or .*got outcome"),
        ("fedmodel.ledger/2", "give-back", "expected an entry of type open or .*got give-back"),
    ],
)
def test_what_is_not_known_is_named(tmp_path: Path, schema: str, type_: str, says: str) -> None:
    lines = THREE.read_bytes().splitlines(keepends=True)
    changed = json.loads(lines[3]) | {"schema": schema, "type": type_}
    lines[3] = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (tmp_path / "main.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=f"line 4: .*{says}"):
        Ledger(tmp_path / "main.jsonl").entries()


def test_a_line_of_one_schema_is_not_read_as_anothers() -> None:
    spend = next(x for x in THREE.read_bytes().splitlines() if b'"type":"spend"' in x)
    older = spend.replace(b"ledger/3", b"ledger/2")
    with pytest.raises(Exception, match="canonical form"):
        decode(older)
    old = next(x for x in TWO.read_bytes().splitlines() if b'"type":"spend"' in x)
    with pytest.raises(Exception, match="mechanism"):
        decode(old.replace(b"ledger/2", b"ledger/3"))
    new = next(x for x in FOUR.read_bytes().splitlines() if b'"type":"spend"' in x)
    with pytest.raises(Exception, match="canonical form"):
        decode(new.replace(b"ledger/4", b"ledger/3"))
    with pytest.raises(Exception, match="canonical form"):
        decode(spend.replace(b"ledger/3", b"ledger/4"))


# -- tree heads and rosters ------------------------------------------------------------------------


def test_a_tree_head_verifies() -> None:
    text = (VECTORS / "tree_head_v1.json").read_bytes()
    head = TreeHead.from_json(text)
    assert head.to_json() == text
    Ledger(TWO).check_extends(head)
    with pytest.raises(ProtocolError, match="doesn't verify"):
        TreeHead.from_json(text.replace(b'"size":20', b'"size":21'))


def test_a_roster_names_the_same_consortium() -> None:
    text = (VECTORS / "roster_v1.json").read_bytes()
    roster = Roster.from_json(text)
    assert roster.to_json() == text
    assert roster.sha256 == "2c84e9dd5d62c27c13b2265302f76538a33f454c3c2060d6e456c15d0690511b"
    assert [m.name for m in roster.members] == ["north", "Ospedale Sant'Anna", "południe"]
    assert roster.number_of("południe") == 3


def test_mechanisms_are_checked() -> None:
    for wrong in ({"honest": 0}, {"honest": 3, "survivors": 2}):
        with pytest.raises(Exception, match="honest"):
            Mechanism(name="distributed", **wrong)
    for name in ("dpsgd", "counts"):
        with pytest.raises(Exception, match="all noise is the site's own"):
            Mechanism(name=name, honest=2, survivors=2)


@pytest.mark.parametrize(
    ("name", "kind", "unit", "says"),
    [
        ("site", "train", "record", "go together"),
        ("site", "train", "patient", "go together"),
        ("dpsgd", "train", "site", "go together"),
        ("distributed", "train", "site", "go together"),
        ("counts", "evaluate", "site", "go together"),
        ("counts", "train", "record", "steps to train are by"),
        ("dpsgd", "evaluate", "record", "steps to evaluate are by"),
    ],
)
def test_a_mechanism_is_of_its_kind_and_unit(name: Any, kind: Any, unit: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        require_fits(Mechanism(name=name), kind, unit)
