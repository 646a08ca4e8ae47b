"""A paid round of noise in shares: what is noted, and what a kill or another roster changes."""

import os
from pathlib import Path

import pytest

from clients.exchange.paid_round import PaidRound
from tests.clients.four_sites import POOLED, Talk, job_of


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def test_what_a_released_version_noted_of_a_paid_round_is_read(tmp_path: Path) -> None:
    noted = PaidRound(tmp_path, "a" * 64, "b" * 64)
    assert not noted.covers(3, 0)
    noted.note(3, 0)
    other = PaidRound(tmp_path, "a" * 64, "c" * 64)
    other.note(3, 1)
    (path,) = tmp_path.iterdir()
    golden = Path(__file__).parents[1] / "vectors" / "paid_v1.json"
    if os.environ.get("FEDMODEL_WRITE_VECTORS"):
        golden.write_bytes(path.read_bytes())
    assert path.read_bytes() == golden.read_bytes()
    assert noted.covers(3, 1)
    assert not noted.covers(3, 0)  # noted, and never paid
    assert other.covers(3, 2)
    assert not other.covers(3, 1)  # that payment is the first one's
    assert not noted.covers(2, 2)
    assert not noted.covers(4, 2)
    assert not PaidRound(tmp_path, "a" * 64, "d" * 64).covers(3, 2)
    noted.note(4, 0)
    assert not noted.covers(3, 2)


def test_a_note_that_was_lost_leaves_no_payment_to_another_roster(tmp_path: Path) -> None:
    one, two = (PaidRound(tmp_path, "a" * 64, letter * 64) for letter in "bc")
    one.note(3, 0)
    next(tmp_path.iterdir()).write_bytes(b"{")
    two.note(3, 1)  # and the process dies before it is paid
    assert not two.covers(3, 1)
    assert not one.covers(3, 1)
    two.note(3, 1)
    assert two.covers(3, 2)


def test_a_kill_between_the_payment_and_what_follows_costs_the_round_no_second_time(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(privacy=POOLED)
    protocol = talk.begin(job)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fedmodel.training.local.gradient", killed)
        with pytest.raises(KeyboardInterrupt):
            talk.send("train", talk.order(talk.open(protocol, 1, 1), 1))
    assert talk.spent() == 1
    talk.restart()
    protocol = talk.begin(job)
    assert not talk.send("train", talk.order(talk.open(protocol, 1, 1), 1)).has_error()
    assert talk.spent() == 1


def test_what_was_noted_and_never_paid_is_not_covered_by_another_rosters_payment(
    tmp_path: Path,
) -> None:
    one, two = (PaidRound(tmp_path, "a" * 64, letter * 64) for letter in "bc")
    one.note(3, 0)  # and the process dies before it is paid
    two.note(3, 0)
    assert two.covers(3, 1)
    assert not one.covers(3, 1)
