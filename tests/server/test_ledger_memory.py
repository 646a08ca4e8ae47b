"""What the coordinator remembers of the sites' ledgers."""

import json
from pathlib import Path

import pytest

from fedmodel.accounting.spends import Spend
from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.ledger import Ledger, Part, Request
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import Standing, TreeHead
from server.ledger_memory import LedgerMemory

STEP = Part.of(Spend(0.1, 1.0, 1), DPSGD)
TERMS = Request(
    unit="record",
    adjacency="add-remove",
    epsilon=8.0,
    delta=1e-5,
    parts=(Part.of(Spend(0.1, 1.0, 50), DPSGD),),
)


class Site:
    def __init__(self, folder: Path) -> None:
        self.state = SiteState(folder, folder.name)
        self.ledger: Ledger = self.state.ledger()
        self.ledger.reserve(TERMS, run="r", job="ab" * 32, code="test")

    @property
    def key(self) -> str:
        return self.state.key.public.hex()

    def spend(self) -> None:
        self.ledger.spend(STEP, run="r", job="ab" * 32, round=1, clip=1.0)

    def standing(self, since: int = 0) -> Standing:
        return Standing(head=self.ledger.head(), proof=tuple(self.ledger.prove(since)))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "a")


def test_heads_are_followed_and_kept(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "run" / "heads.json"
    heads = LedgerMemory([path], {2: site.key})
    assert (heads.offered(2), heads.entries(2)) == ([], 0)
    for _ in range(5):
        heads.note(2, site.standing(heads.entries(2)))
        site.spend()
    heads.save()
    again = LedgerMemory([path], {7: site.key})
    assert [h.size for h in again.offered(7)] == [6]
    assert again.offered(2) == []
    again.note(7, site.standing(6))
    assert again.entries(7) == 7
    # A head as it was stands too; a lesser one doesn't.
    again.note(7, site.standing(7))


def test_what_does_not_follow_is_refused(site: Site, tmp_path: Path) -> None:
    heads = LedgerMemory([], {2: site.key})
    first = site.standing()
    heads.note(2, first)
    site.spend()
    second = site.standing(2)
    with pytest.raises(ProtocolError, match="don't prove"):
        heads.note(2, Standing(head=second.head))
    heads.note(2, second)
    with pytest.raises(ProtocolError, match="rolled back"):
        heads.note(2, first)
    with pytest.raises(ProtocolError, match="no head"):
        heads.note(2, None)
    with pytest.raises(ProtocolError, match="signed by key"):
        heads.note(2, Site(tmp_path / "b").standing())
    assert heads.entries(2) == 3


def test_a_node_whose_key_nobody_knows_shows_it_once(site: Site, tmp_path: Path) -> None:
    heads = LedgerMemory()
    heads.note(2, None)
    heads.note(2, site.standing())
    with pytest.raises(ProtocolError):
        heads.note(2, Site(tmp_path / "b").standing())
    other = site.state.ledger("other")
    with pytest.raises(ProtocolError, match="a head of ledger"):
        heads.note(2, Standing(head=other.head()))


def test_two_runs_write_one_file_and_nothing_is_lost(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "state" / "heads.json"
    other = Site(tmp_path / "b")
    one, two = LedgerMemory([path], {2: site.key}), LedgerMemory([path], {2: other.key})
    one.note(2, site.standing())
    two.note(2, other.standing())
    one.save()
    two.save()
    both = LedgerMemory([path], {2: site.key, 3: other.key})
    assert len(both.offered(2)) == len(both.offered(3)) == 1
    # Whoever is late doesn't bring back an older head.
    site.spend()
    both.note(2, site.standing(2))
    both.save()
    late = LedgerMemory([], {2: site.key})
    late._files = (path,)
    late.note(2, Standing(head=one.offered(2)[0]))
    late.save()
    assert LedgerMemory([path], {2: site.key}).offered(2)[0].size == 3


def test_copies_of_others_are_read_and_never_written(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / name for name in ("old.json", "new.json", "foreign.json", "torn.json")]
    ours, theirs = {2: site.key}, Site(tmp_path / "b")
    for path in paths[:2]:
        memory = LedgerMemory([path], ours)
        memory.note(2, site.standing())
        memory.save()
        site.spend()
    memory = LedgerMemory([paths[2]], {2: theirs.key})
    memory.note(2, theirs.standing())
    memory.save()
    paths[3].write_text("{")
    before = [path.read_bytes() for path in paths]
    own = tmp_path / "own.json"
    found = LedgerMemory([own], ours, paths)
    assert [head.size for head in found.offered(2)] == [3]  # the newer of two
    found.save()
    assert [path.read_bytes() for path in paths] == before
    assert "torn.json can't be read" in caplog.text
    # What is told on is of these sites alone.
    assert theirs.key not in own.read_text()
    assert site.key in own.read_text()


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"schema":"fedmodel.heads/2","heads":[]}', "forged"]
)
def test_a_damaged_file_is_refused(site: Site, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "heads.json"
    heads = LedgerMemory([path], {2: site.key})
    heads.note(2, site.standing())
    heads.save()
    if damage == "forged":
        kept = json.loads(path.read_text())
        kept["heads"][0]["size"] = 1
        damage = json.dumps(kept)
    path.write_text(damage)
    with pytest.raises(RunFolderError, match="restore it"):
        LedgerMemory([path])


def test_a_file_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    heads = LedgerMemory([tmp_path / "file" / "heads.json"], {2: site.key})
    (tmp_path / "file").write_text("")
    heads.note(2, site.standing())
    with pytest.raises(RunFolderError, match="can't write"):
        heads.save()


def test_a_head_says_no_more_than_it_must(site: Site) -> None:
    assert set(json.loads(TreeHead.to_json(site.standing().head))) == {
        "schema",
        "ledger",
        "key",
        "size",
        "root",
        "last",
        "time",
        "signature",
    }
