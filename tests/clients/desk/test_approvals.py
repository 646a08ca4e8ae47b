"""Approvals: no run works at a site without the word of its people, for that run, at that time."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clients.desk import Approvals, Asked
from clients.desk import approvals as module
from fedmodel import _files, config
from fedmodel.errors import ConfigError, RefusedError, RunFolderError
from fedmodel.identity import SigningKey
from tests.jobs import make_job

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ONE, TWO = (SigningKey(bytes([n]) * 32) for n in (1, 2))
JOB = make_job()
VECTORS = Path(__file__).resolve().parents[2] / "vectors"
PAGE = b'{"page":1}'


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Approvals:
    return Approvals(tmp_path / "offers", [ONE.public], clock=clock)


def asked(run: str = "demo-01234567", **changes: Any) -> Asked:
    return Asked(**{"run": run, "since": "", "job": JOB.json.decode()} | changes)


def approve(desk: Approvals, offer: Asked, signer: SigningKey = ONE, days: float = 1) -> str:
    ends = desk.clock() + timedelta(days=days)
    return desk.decide(offer, "approved", signer, page=PAGE, expires=ends)


def refused(desk: Approvals, offer: Asked, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        desk.admit(offer)
    with pytest.raises(RefusedError, match=why):
        desk.require(offer.run, offer.job_sha256)


@pytest.mark.long
def test_a_run_waits_is_approved_works_and_ends(desk: Approvals, clock: Clock) -> None:
    offer = asked(purpose="triage")
    refused(desk, offer, "waits for the approval")
    ((kept, status),) = desk.all()
    assert (kept.run, kept.purpose, kept.job, status) == (offer.run, "triage", offer.job, "waiting")
    assert kept.since == "2026-11-30T12:00:00+00:00"
    assert kept.read_job() == JOB
    assert approve(desk, kept) == "approved"
    desk.admit(offer)
    desk.admit(offer)  # its process was restarted
    desk.require(offer.run, offer.job_sha256)
    desk.end(offer.run, offer.job_sha256)
    refused(desk, offer, "has ended here")
    with pytest.raises(ConfigError, match="nothing is left to decide"):
        approve(desk, kept)


def test_an_approval_is_of_one_run_of_one_job(desk: Approvals) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer)
    refused(desk, asked("demo-76543210"), "waits")
    refused(desk, asked(job=make_job(seed=1).json.decode()), "waits")
    desk.admit(offer)


def test_a_decision_that_was_moved_to_another_run_counts_for_nothing(desk: Approvals) -> None:
    offer, other = asked(), asked("demo-76543210")
    for each in (offer, other):
        refused(desk, each, "waits")
    approve(desk, offer)
    place = desk._place(offer.run, offer.job_sha256)
    aim = desk._place(other.run, other.job_sha256)
    (aim / "decisions.json").write_bytes((place / "decisions.json").read_bytes())
    with pytest.raises(RunFolderError, match="about another run or job"):
        desk.admit(other)


def test_it_expires_at_the_moment_it_says(desk: Approvals, clock: Clock) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer, days=2)
    clock.now = NOW + timedelta(days=2, seconds=-1)
    desk.require(offer.run, offer.job_sha256)
    clock.now = NOW + timedelta(days=2)
    refused(desk, offer, "has expired")
    assert approve(desk, offer) == "approved"  # anew
    desk.admit(offer)


@pytest.mark.parametrize(
    ("verdict", "why"), [("revoked", "have revoked"), ("refused", "have refused")]
)
def test_a_word_is_taken_back(desk: Approvals, verdict: Any, why: str) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer)
    assert desk.decide(offer, verdict, ONE, page=PAGE, why="the vote was withdrawn") == verdict
    refused(desk, offer, why)
    assert [s.decision.verdict for s in desk.decisions(offer.run, offer.job_sha256)] == [
        "approved",
        verdict,
    ]
    assert approve(desk, offer) == "approved"


def test_what_was_never_approved_cant_be_revoked(desk: Approvals) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    with pytest.raises(ConfigError, match=r"nothing to revoke: .* is waiting"):
        desk.decide(offer, "revoked", ONE, page=PAGE)
    desk.decide(offer, "refused", ONE, page=PAGE)
    with pytest.raises(ConfigError, match=r"nothing to revoke: .* is refused"):
        desk.decide(offer, "revoked", ONE, page=PAGE)


def test_two_people_where_two_are_needed(tmp_path: Path, clock: Clock) -> None:
    desk = Approvals(tmp_path / "offers", [ONE.public, TWO.public], needed=2, clock=clock)
    offer = asked()
    refused(desk, offer, "waits")
    assert approve(desk, offer) == "waiting"
    assert approve(desk, offer) == "waiting"  # the same person twice is one
    refused(desk, offer, "waits")
    assert approve(desk, offer, TWO, days=3) == "approved"
    desk.admit(offer)
    clock.now = NOW + timedelta(days=1)  # one of the two is over
    refused(desk, offer, "has expired")
    clock.now = NOW
    assert desk.decide(offer, "refused", TWO, page=PAGE) == "refused"  # either can stop it
    refused(desk, offer, "have refused")
    for needed in (0, 3):
        with pytest.raises(ConfigError, match="approvals are needed"):
            Approvals(tmp_path, [ONE.public, TWO.public, TWO.public], needed=needed)


def test_nobody_else_decides(desk: Approvals) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    with pytest.raises(ConfigError, match="of nobody who may decide"):
        approve(desk, offer, TWO)
    refused(desk, offer, "waits")


def test_the_page_that_was_shown_is_kept_by_its_hash(desk: Approvals) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer)
    (signed,) = desk.decisions(offer.run, offer.job_sha256)
    (page,) = desk._place(offer.run, offer.job_sha256).glob("page-*.json")
    assert page.read_bytes() == PAGE
    assert signed.decision.page == config.sha256(PAGE)
    assert page.stem == f"page-{signed.decision.page[:12]}"


def test_a_coordinator_fills_no_disk(desk: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    for n in range(3):
        refused(desk, asked(f"demo-{n:08d}"), "waits for the approval")
    for _ in range(2):
        with pytest.raises(RefusedError, match="3 offers wait"):
            desk.admit(asked("demo-00000003"))
    assert len(desk.all()) == 3
    desk.decide(desk.find("demo-00000001"), "refused", ONE, page=PAGE)
    refused(desk, asked("demo-00000003"), "waits for the approval")


@pytest.mark.parametrize("name", ["demo-01234567", "demo", JOB.sha256[:6], JOB.sha256])
def test_an_offer_is_found_by_its_names(desk: Approvals, name: str) -> None:
    refused(desk, asked(), "waits")
    assert desk.find(name).run == "demo-01234567"


def test_what_could_mean_two_offers_or_none_is_said(desk: Approvals) -> None:
    with pytest.raises(ConfigError, match=r"no offers are called 'demo'.*none"):
        desk.find("demo")
    refused(desk, asked(), "waits")
    refused(desk, asked("demo-76543210"), "waits")
    with pytest.raises(ConfigError, match=r"2 offers are called 'demo'.*say which"):
        desk.find("demo")
    with pytest.raises(ConfigError, match="no offers are called"):
        desk.find(JOB.sha256[:5])


@pytest.mark.parametrize("name", ["offer.json", "decisions.json"])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema":"fedmodel.asked/1"}', b"\xff" * 9])
def test_a_damaged_file_approves_nothing_and_is_named(
    desk: Approvals, name: str, text: bytes
) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer)
    path = desk._place(offer.run, offer.job_sha256) / name
    path.write_bytes(text)
    with pytest.raises(RunFolderError, match=name):
        desk.all()
    if name == "decisions.json":
        with pytest.raises(RunFolderError, match="Nothing is approved by it"):
            desk.admit(offer)


def test_a_full_disk_leaves_the_word_before(
    desk: Approvals, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    approve(desk, offer)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_atomic", full)
        with pytest.raises(RunFolderError, match="No space left"):
            desk.decide(offer, "revoked", ONE, page=PAGE)
    desk.admit(offer)


def test_hostile_names_stay_below_the_folder(desk: Approvals, tmp_path: Path) -> None:
    for run in ("..", "../x", "a/b", "", " x", "a\nb", "\u202e", "x" * 161):
        with pytest.raises(ConfigError, match="a run's name"):
            asked(run)
    refused(desk, asked("Ökumene 2026 (β)"), "waits")
    assert [p.parent.parent.parent for p in tmp_path.rglob("offer.json")] == [tmp_path / "offers"]


def test_what_the_first_version_wrote_is_read(tmp_path: Path) -> None:
    """Written once, by a site whose seed is 32 bytes of 1."""
    shutil.copytree(VECTORS / "offers_v1", tmp_path / "offers")
    for days, approved in ((1, "approved"), (14, "expired")):
        clock = Clock()
        clock.now = NOW + timedelta(days=days)
        desk = Approvals(tmp_path / "offers", [ONE.public], clock=clock)
        assert {asked.run.partition("-")[0]: status for asked, status in desk.all()} == {
            "approved": approved,
            "revoked": "revoked",
            "Ended run": "ended",
            "waiting": "waiting",
        }
    offer = desk.find("approved")
    (signed,) = desk.decisions(offer.run, offer.job_sha256)
    assert (signed.decision.why, offer.purpose) == ("vote of Monday", "Sorting letters: ä")
    (page,) = desk._place(offer.run, offer.job_sha256).glob("page-*.json")
    assert config.sha256(page.read_bytes()) == signed.decision.page
    assert json.loads(page.read_bytes())["schema"] == "fedmodel.page/1"
    with pytest.raises(RunFolderError, match="nobody who may decide"):
        Approvals(tmp_path / "offers", [TWO.public]).all()


def test_no_offer_hides_another_that_was_approved(desk: Approvals) -> None:
    """Whoever offers names the runs, and mustn't keep people from what they want to revoke."""
    offer, other = asked(), make_job(seed=1).json.decode()
    refused(desk, offer, "waits")
    approve(desk, desk.find("demo"))
    for each in (asked(job=other), asked("demo"), asked("other", job=offer.job)):
        refused(desk, each, "waits")
    for name in ("demo-01234567", "demo", offer.job_sha256[:8], offer.job_sha256):
        with pytest.raises(ConfigError, match=r"say which: .*demo-01234567/") as told:
            desk.find(name)
        assert f"demo-01234567/{offer.job_sha256[:16]}" in str(told.value)
    found = desk.find(f"{offer.run}/{offer.job_sha256[:16]}")
    assert (found.run, found.job) == (offer.run, offer.job)
    assert desk.decide(found, "revoked", ONE, page=PAGE) == "revoked"
    for name in (f"{offer.run}/", f"/{offer.job_sha256}", f"dem/{offer.job_sha256}"):
        with pytest.raises(ConfigError, match="no offers are called"):
            desk.find(name)


def test_an_approval_is_of_who_asks(desk: Approvals) -> None:
    offer = asked(coordinator="ab" * 32)
    refused(desk, offer, "waits")
    approve(desk, offer)
    for coordinator in ("cd" * 32, None):
        with pytest.raises(RefusedError, match="was offered here by the key ababab"):
            desk.admit(asked(coordinator=coordinator))
    desk.admit(offer)


def test_what_was_said_of_a_job_is_not_taken_for_another_of_the_same_run(desk: Approvals) -> None:
    one, two = asked(), asked(job=make_job(seed=1).json.decode())
    for offer in (one, two):
        refused(desk, offer, "waits")
    approve(desk, one)
    said = desk._place(one.run, one.job_sha256) / "decisions.json"
    _files.write_atomic(desk._place(two.run, two.job_sha256) / said.name, said.read_bytes())
    with pytest.raises(RunFolderError, match="another run or job"):
        desk.require(two.run, two.job_sha256)
    desk.require(one.run, one.job_sha256)


def test_a_no_can_be_said_however_much_was_said_before(desk: Approvals) -> None:
    offer = asked()
    refused(desk, offer, "waits")
    ends = desk.clock() + timedelta(days=1)
    full = False
    while not full:
        try:
            desk.decide(offer, "approved", ONE, page=PAGE, why="ü" * 2000, expires=ends)
        except ConfigError as error:
            full = "the decisions on one run take" in str(error)
    desk.admit(offer)
    assert desk.decide(offer, "revoked", ONE, page=PAGE, why="ü" * 2000) == "revoked"
    refused(desk, offer, "have revoked")
    assert approve(desk, offer) == "approved"
