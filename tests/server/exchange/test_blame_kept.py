"""Blame that outlives a coordinator: who was proved wrong stays out, who was in dispute is back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import RefusedError, RunFolderError
from fedmodel.identity import SigningKey
from fedmodel.runs import RunFolder
from fedmodel.runs.blame_file import Disputed, KeptBlame, read_blame, write_blame
from fedmodel.secagg.aggregator import Aggregator
from server.exchange.blame_kept import blame_of
from server.exchange.protocol import Invitation
from server.exchange.summed import Summed
from tests.conftest import new_run
from tests.server.exchange.masked import COORDINATOR_KEYS, KEYS, ROSTER, Sites, coordinator, job_of
from tests.server.exchange.masked import play as play_on
from tests.server.exchange.test_blamed import accusing, cut, times


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run")


def dies_in(round_: int, sites: Sites, folder: RunFolder) -> None:
    """Play a run until its coordinator dies as a round begins."""
    collect = Summed.collect

    def dying(self: Summed, channel: Any, invitation: Invitation) -> Any:
        return 1 / 0 if invitation.round == round_ else collect(self, channel, invitation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Summed, "collect", dying)
        with pytest.raises(ZeroDivisionError):
            play_on(sites, folder=folder)


def resumed(folder: RunFolder, closed: int = 1) -> tuple[Sites, list[dict[str, Any]]]:
    """Go on with a run whose sites are all honest now."""
    sites = Sites(job_of(rounds=closed + 1), closed=closed)
    return sites, play_on(sites, folder=folder)[1]


def test_who_was_proved_wrong_stays_out_after_a_restart(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    dies_in(2, Sites(job_of(rounds=2), cut), folder)
    (row,) = folder.metrics()
    caplog.clear()
    sites, rows = resumed(folder)
    assert (times(sites, "query.open", 4), times(sites, "query.open", 3)) == (0, 1)
    assert [(row["updates"], row["blamed"]) for row in rows] == [(4, row["blamed"])]
    assert set(row["blamed"]) == {"4"}
    assert caplog.text.count("site s4 was found to be wrong before this start") == 1
    assert "site s4 is wrong" not in caplog.text


def test_who_is_mended_is_back_once_its_record_is_removed(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    dies_in(2, Sites(job_of(rounds=2), cut), folder)
    dies_in(2, Sites(job_of(rounds=2), closed=1), folder)
    assert f"remove {folder.blame} and start anew" in caplog.text
    folder.blame.unlink()
    _, rows = resumed(folder)
    assert [row["updates"] for row in rows] == [5]


def test_what_is_proved_in_a_round_that_is_never_finished_is_kept_too(folder: RunFolder) -> None:
    """Before the next attempt: by whom that one leaves out, all see that something was found."""
    silent: list[int] = []

    def raising(kind: str, node: int) -> Exception | None:
        if (kind, node) == ("train", 6) and not silent:
            silent.append(node)
            return RefusedError("not now")
        return None

    begin = Aggregator.begin

    def dying(self: Aggregator, *, attempt: int, **parts: Any) -> Any:
        return 1 / 0 if attempt == 2 else begin(self, attempt=attempt, **parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Aggregator, "begin", dying)
        with pytest.raises(ZeroDivisionError):
            play_on(Sites(job_of(), cut, raising), folder=folder)
    assert folder.metrics() == []
    sites, rows = resumed(folder, closed=0)
    assert (times(sites, "query.open", 4), rows[0]["updates"]) == (0, 4)


def test_who_was_in_dispute_takes_part_again_after_a_restart(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    dies_in(2, Sites(job_of(rounds=2), raising=accusing(2, 3, also_silent=(6,))), folder)
    assert set(folder.metrics()[0]["blamed"]) == {"2", "4"}
    (dispute,) = read_blame(folder.blame).disputes
    assert [dispute.accuser, dispute.accused] == [KEYS[2].public.hex(), KEYS[4].public.hex()]
    sites, rows = resumed(folder)
    assert read_blame(folder.blame).disputes == (dispute,)
    assert [times(sites, "query.open", node) for node in (2, 4)] == [1, 1]
    assert [row["updates"] for row in rows] == [5]
    assert "blamed" not in rows[0]
    assert "wrong before this start" not in caplog.text


def test_disputes_before_and_after_a_restart_count_together(folder: RunFolder) -> None:
    dies_in(2, Sites(job_of(rounds=3), raising=accusing(2, 3, also_silent=())), folder)
    again = Sites(job_of(rounds=3), raising=accusing(6, 3, also_silent=()), closed=1)
    dies_in(3, again, folder)
    sites, rows = resumed(folder, closed=2)
    assert (times(sites, "query.open", 4), rows[0]["updates"]) == (0, 4)
    assert "2 sites are in dispute with it" in rows[0]["blamed"]["4"]


def test_a_proof_is_of_a_key_and_not_of_the_one_that_follows_it(folder: RunFolder) -> None:
    dies_in(2, Sites(job_of(rounds=2), cut), folder)
    assert set(read_blame(folder.blame).proved) == {KEYS[4].public.hex()}
    other = SigningKey(b"\x99" * 32).public.hex()
    members = tuple(replace(m, key=other) if m.name == "s4" else m for m in ROSTER.members)
    keys = replace(COORDINATOR_KEYS, roster=replace(ROSTER, members=members))
    blame = blame_of(coordinator(job_of(rounds=2), folder=folder, keys=keys))
    assert blame is not None
    assert blame.wrong() == {}


@pytest.mark.parametrize("stranger", ["accuser", "accused"])
def test_a_dispute_with_a_key_that_the_roster_hasnt_is_passed_over(
    stranger: str, folder: RunFolder
) -> None:
    dispute = Disputed(accuser=KEYS[2].public.hex(), accused=KEYS[4].public.hex(), why="rubbish")
    kept = replace(dispute, **{stranger: "99" * 32})
    write_blame(folder.blame, KeptBlame(disputes=(kept, dispute)))
    blame = blame_of(coordinator(job_of(), folder=folder))
    assert blame is not None
    assert blame.disputes == {(1, 3): "rubbish"}


def test_where_nothing_was_found_nothing_is_written_and_a_damaged_record_is_refused(
    folder: RunFolder,
) -> None:
    play_on(Sites(job_of()), folder=folder)
    assert not folder.blame.exists()
    for text in ("", "{}", '{"schema": "fedmodel.blame/1", "proved": {"ab": 1}}'):
        folder.blame.write_text(text)
        with pytest.raises(RunFolderError, match=r"blame\.json"):
            blame_of(coordinator(job_of(), folder=folder))
