"""Hand-ins of sites, and a run's bundle that is put together from them."""

import json
import shutil
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.packing import in_memory, pack
from fedmodel.audit.bundles.statement import Packer
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.identity.keyfile import secret_text, write_secret
from tests.fedmodel.audit.bundles.conftest import claim_of
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN, Forged, head_of
from tests.fedmodel.audit.forged_coordinator import coordinators_head, key_of, seed_of
from tests.fedmodel.audit.shown_tampered import newer_than_the_ledger, shown_of


class Sites:
    """A run whose folder has no ledger, and its sites, each with a state of its own."""

    def __init__(self, forged: Forged, root: Path) -> None:
        self.forged, self.root = forged, root
        self.shown = {site: shown_of(forged, site) for site in forged.sites}
        write_secret(root / "key", secret_text(seed_of("auditor"), "key"))
        for site in forged.sites:
            for inner in ("ledgers", "heads"):
                (root / site / inner).mkdir(parents=True)
            shutil.move(forged.ledger(site), root / site / "ledgers" / "main.jsonl")
            shutil.move(forged.own_head(site), root / site / "heads" / "main.json")
            shutil.move(shown_of(forged, site).parents[1], root / site / "runs")
            shutil.copyfile(forged.roster, root / site / "roster.json")
            write_secret(root / site / "key", secret_text(seed_of(site), "key"))

    def hand_in(self, site: str, to: str | None = None, run: str | None = None) -> int:
        args = [f"state={self.root / site}", f"to={self.root / (to or f'{site}.zip')}"]
        return cli.main(["site", "hand-in", run or self.forged.run, *args])

    def bundle(self, *files: str, to: str = "run.zip") -> int:
        given = ",".join(str(self.root / name) for name in files)
        args = [f"run={self.forged.path}", f"to={self.root / to}", f"with=[{given}]"]
        return cli.main(["bundle", *args, f"as={self.root / 'key'}", "name=auditor"])

    def found(self, to: str = "run.zip") -> dict[str, dict[str, Verdict]]:
        """Return check → party → verdict."""
        told: dict[str, dict[str, Verdict]] = {}
        for checks in verify(read_records(BundleEvidence(self.root / to))).checks.values():
            for each in checks:
                told.setdefault(each.name, {})[each.party] = each.verdict
        return told


@pytest.fixture
def sites(forge: Forge, tmp_path: Path) -> Sites:
    return Sites(forge(), tmp_path)


def test_a_bundle_of_what_all_handed_in(sites: Sites, capsys: pytest.CaptureFixture[str]) -> None:
    for site in sites.forged.sites:
        assert sites.hand_in(site) == 0
    assert "a ledger has every run of its dataset" in capsys.readouterr().out
    files = [f"{site}.zip" for site in sites.forged.sites]
    assert sites.bundle(*files) == 0
    assert "handed in by: site-1, site-2, site-3" in capsys.readouterr().out
    assert sites.bundle(*reversed(files), to="again.zip") == 0
    assert (sites.root / "run.zip").read_bytes() == (sites.root / "again.zip").read_bytes()
    found = sites.found()
    assert set(found["bundle-handed-in"].values()) == {Verdict.PASS}
    assert set(found["coordinator-head"].values()) == {Verdict.PASS}
    assert set(found["shown-head"].values()) == {Verdict.PASS}
    assert not [name for name, some in found.items() if Verdict.FAIL in some.values()]


def test_a_run_is_called_as_an_approval_calls_it(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    run, job = (
        sites.forged.run,
        json.loads((sites.forged.path / "manifest.json").read_bytes())["job_sha256"],
    )
    for number, name in enumerate((run[:-9], f"{run}/{job[:4]}", job[:8])):
        assert sites.hand_in("site-1", f"{number}.zip", run=name) == 0
    capsys.readouterr()
    assert sites.hand_in("site-1", run=f"{run[:-10]}x") == 2
    said = capsys.readouterr().err
    assert f"did you mean '{run}'?" in said or f"its runs are: {run}" in said


def test_no_secret_of_a_site_is_in_its_hand_in(sites: Sites) -> None:
    assert sites.hand_in("site-1") == 0
    whole = (sites.root / "site-1.zip").read_bytes()
    assert seed_of("site-1") not in whole
    assert seed_of("site-1").hex().encode() not in whole


def test_one_that_is_missing_is_named(sites: Sites, capsys: pytest.CaptureFixture[str]) -> None:
    assert sites.hand_in("site-1") == 0
    assert sites.bundle("site-1.zip") == 0
    assert "ledgers that it lacks: site-2, site-3" in capsys.readouterr().out
    assert BundleEvidence(sites.root / "run.zip").signed.claim.lacking == ("site-2", "site-3")


def test_what_contradicts_is_refused_by_both_names(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sites.hand_in("site-1") == 0
    ledger = sites.root / "site-1" / "ledgers" / "main.jsonl"
    whole = ledger.read_bytes()
    older = b"".join(line + b"\n" for line in whole.splitlines()[:2])
    sites.forged.ledger().write_bytes(older)
    assert sites.bundle("site-1.zip", to="newer.zip") == 0  # it goes on from the folder's copy
    sites.forged.ledger().write_bytes(whole.replace(b'"round":1', b'"round":9'))
    capsys.readouterr()
    assert sites.bundle("site-1.zip") == 2
    err = capsys.readouterr().err
    assert "doesn't go on from the one in" in err
    assert "site-1.zip" in err
    assert str(sites.forged.path) in err
    sites.forged.ledger().unlink()
    assert sites.hand_in("site-1", "twice.zip") == 0
    assert sites.bundle("site-1.zip", "twice.zip") == 2
    assert "are both of site 'site-1'" in capsys.readouterr().err


def test_a_hand_in_of_another_run_or_consortium(
    sites: Sites, forge: Forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "others").mkdir()
    others = Sites(forge("resumed", "other"), tmp_path / "others")
    assert others.hand_in("site-1") == 0
    assert sites.bundle("others/site-1.zip") == 2
    assert "expected 'record-" in capsys.readouterr().err
    text = next(iter((sites.forged.path / "rosters").iterdir())).read_bytes()
    (foreign,) = (GOLDEN / "record" / "rosters").iterdir()
    (sites.root / "site-1" / "roster.json").write_bytes(foreign.read_bytes())
    assert foreign.read_bytes() != text
    assert sites.hand_in("site-1") == 0
    assert sites.bundle("site-1.zip") == 2
    assert "are signed by two consortia" in capsys.readouterr().err


def test_what_is_no_hand_in(sites: Sites, capsys: pytest.CaptureFixture[str]) -> None:
    assert sites.hand_in("site-1") == 0
    assert sites.bundle("site-1.zip") == 0
    assert sites.bundle("run.zip", to="x.zip") == 2
    assert "is no site's hand-in" in capsys.readouterr().err
    assert cli.main(["verify", f"bundle={sites.root / 'site-1.zip'}"]) == 2
    assert "is what one party hands in, not a run" in capsys.readouterr().err
    assert sites.hand_in("site-1", run="nothing") == 2
    assert "has nothing of run 'nothing'" in capsys.readouterr().err


def test_one_that_was_signed_by_another_key_fails(sites: Sites) -> None:
    (sites.root / "site-1" / "key").unlink()
    write_secret(sites.root / "site-1" / "key", secret_text(seed_of("x"), "key"))
    assert sites.hand_in("site-1") == 0
    assert sites.bundle("site-1.zip") == 0
    assert sites.found()["bundle-handed-in"]["site site-1"] == Verdict.FAIL


# -- tree heads ----------------------------------------------------------------------------------


def test_what_a_site_was_shown_tells_of_a_coordinators_rollback(
    forge: Forge, tmp_path: Path
) -> None:
    forged = forge()
    newer_than_the_ledger(forged)
    sites = Sites(forged, tmp_path)
    for site in forged.sites:
        assert sites.hand_in(site) == 0
        name = sites.shown[site].relative_to(forged.path).as_posix()
        assert name in BundleEvidence(tmp_path / f"{site}.zip").signed.parts
    assert sites.bundle(*(f"{site}.zip" for site in forged.sites)) == 0
    found = sites.found()
    assert found["shown-head"]["site site-1"] == Verdict.FAIL
    assert [check for check, some in found.items() if Verdict.FAIL in some.values()] == [
        "shown-head"
    ]


def test_a_site_that_was_shown_nothing_hands_in_the_rest(sites: Sites) -> None:
    shutil.rmtree(sites.root / "site-1" / "runs")
    assert sites.hand_in("site-1") == 0
    assert sites.bundle("site-1.zip") == 0
    assert sites.found()["shown-head"]["site site-1"] == Verdict.NOT_TESTED


def test_a_site_hands_in_what_it_was_shown_in_this_run_alone(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs,) = (sites.root / "site-1").glob("runs")
    shutil.copytree(next(runs.iterdir()), runs / "other-01234567")
    assert sites.hand_in("site-1") == 0
    parts = BundleEvidence(sites.root / "site-1.zip").signed.parts
    assert len([name for name in parts if "/runs/" in name]) == 1


@pytest.mark.parametrize(
    "name",
    [
        "sites/site-1/runs/other-01234567/coordinator-head.json",
        "sites/site-2/heads/main.json",
        "coordinator-head.json",
    ],
)
def test_what_is_of_another_run_or_party_isnt_a_sites_to_hand_in(
    sites: Sites, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of("site-1")
    packer = Packer(key=key.public.hex(), role="site", name="site-1")
    ledger = sites.root / "site-1" / "ledgers" / "main.jsonl"
    parts = {"ledger/site-1.jsonl": ledger.read_bytes(), name: b"{}\n"}
    claim = claim_of(sites.forged.path, packer=packer, lacking=())
    pack(sites.root / "site-1.zip", claim, in_memory(parts), key)
    assert sites.bundle("site-1.zip") == 2
    assert f"{name!r} isn't site 'site-1''s to hand in" in capsys.readouterr().err


def heads_of(sites: Sites, which: str) -> tuple[Path, Path]:
    """Return where a site keeps a tree head, and where a run's folder has a copy of it."""
    if which == "own":
        return sites.root / "site-1" / "heads" / "main.json", sites.forged.own_head()
    (mine,) = (sites.root / "site-1").glob("runs/*/coordinator-head.json")
    return mine, sites.shown["site-1"]


def head_over(sites: Sites, which: str, size: int, ends: bytes = b"") -> bytes:
    """Return a signed tree head of so many entries, of which the last is another."""
    ledger = sites.root / "site-1" / "ledgers" / "main.jsonl"
    path = ledger if which == "own" else sites.forged.coordinator.path
    lines = path.read_bytes().splitlines()[:size]
    lines[-1] += ends
    if which == "own":
        return head_of(lines, key_of("site-1")).to_json() + b"\n"
    return coordinators_head(lines, key_of("coordinator")).to_json() + b"\n"


@pytest.mark.parametrize("which", ["own", "shown"])
def test_an_older_tree_head_never_takes_the_place_of_a_newer_one(
    sites: Sites, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = heads_of(sites, which)
    theirs.parent.mkdir(parents=True, exist_ok=True)

    def merged(before: bytes, after: bytes) -> str:
        theirs.write_bytes(before)
        mine.write_bytes(after)
        for name in ("site-1.zip", "run.zip"):
            (sites.root / name).unlink(missing_ok=True)
        assert sites.hand_in("site-1") == 0
        code = sites.bundle("site-1.zip")
        err = capsys.readouterr().err
        assert bool(code) == bool(err)
        return err

    five, six = (head_over(sites, which, size) for size in (5, 6))
    assert merged(five, six) == ""
    assert merged(six, six) == ""
    assert merged(b"{}\n", six) == ""
    err = merged(six, five)
    assert "it is older, of 5 entries, and the other is of 6" in err
    assert "site-1.zip" in err
    assert str(sites.forged.path) in err
    assert (
        "both are of 6 entries, and their roots differ: one of them was rewritten, or forged"
        in merged(six, head_over(sites, which, 6, b"x"))
    )
    assert "it can't be read" in merged(six, b"{}\n")
    assert "and the other of" in merged(six, head_over(sites, _OTHER[which], 7))


_OTHER = {"own": "shown", "shown": "own"}
