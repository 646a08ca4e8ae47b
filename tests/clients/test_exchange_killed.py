"""A site that is killed between any two system calls on files, in a round of each exchange."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmodel import wire
from fedmodel.job import Job, ProposedPrivacy
from tests.clients.four_sites import POOLED, RECORD, WHOLE, Talk, job_of, nothing
from tests.fedmodel.identity.killed import killed_at

CLOSED = "has agreed to a sum in round 1"
Life = Callable[[Talk, Job, int, list[str]], None]


def summed(talk: Talk, job: Job, round_: int, left: list[str]) -> None:
    """Take part in a round of a secure sum; what leaves the site is noted."""
    attempt = talk.open(talk.begin(job), round_)
    reply = talk.send("train", talk.order(attempt, round_))
    assert not reply.has_error(), reply.error
    left.append(f"update {round_}")
    note(talk, round_, left)
    talk.upload(attempt, reply, nothing)
    told = attempt.survivors_message()
    attempt.take_consent(1, talk.tell("query.consent", told))
    left.append(f"consent {round_}")
    for number, other in talk.others.items():
        attempt.take_consent(number, other.consent(told))
    attempt.close_consents()
    attempt.take_reveal(1, talk.tell("query.reveal", attempt.request_for(1)))
    left.append(f"reveal {round_}")


def plain(talk: Talk, job: Job, round_: int, left: list[str]) -> None:
    """Take part in a round in which the coordinator reads the site's own update."""
    reply = talk.offer(job)
    assert not reply.has_error(), reply.error
    order = wire.encode_order("test", round_, job.sha256, wire.pack(talk.initial))
    reply = talk.send("train", order)
    assert not reply.has_error(), reply.error
    left.append(f"update {round_}")
    note(talk, round_, left)


def note(talk: Talk, round_: int, left: list[str]) -> None:
    """Note which noised update it was that left, where the site keeps one."""
    for path in talk.kept.glob("update-*.bin"):
        left.append(f"noised {round_} {hashlib.sha256(path.read_bytes()).hexdigest()}")


def live_on(talk: Talk, job: Job, life: Life, left: list[str]) -> None:
    """Go on as another process does: round 1 unless it is closed, and the next one."""
    was_closed = closed(talk)
    talk.restart()
    if was_closed:
        with pytest.raises(AssertionError, match=CLOSED):
            life(talk, job, 1, left)
    else:
        life(talk, job, 1, left)
    talk.restart()
    life(talk, job, 2, left)


def closed(talk: Talk) -> bool:
    """Return whether the site has written down that it agrees to a sum."""
    return any(path.read_text() == "1\n" for path in talk.kept.glob("closed-*.txt"))


def check(folder: Path, job: Job, life: Life, call: int) -> bool:
    """Kill a site at a system call, and look at what the next processes make of it."""
    left: list[str] = []
    first = Talk(folder)
    killed = killed_at(call, lambda: life(first, job, 1, left))
    agreed = "consent 1" in left
    later: list[str] = []
    talk = Talk(folder)
    assert not agreed or closed(talk)
    live_on(talk, job, life, later)
    assert left.count("reveal 1") + later.count("reveal 1") <= 1
    assert not (agreed and "update 1" in later)  # one set of survivors a round, whoever asks
    assert "update 2" in later
    sent = [each for each in left + later if each.startswith("update")]
    if job.privacy.private:
        rounds = len(set(sent))
        # Each noised update is paid, and is the same as often as it leaves; a shared one's attempts
        # are one, and a joining pays its own.
        paid = talk.spent()
        assert rounds <= paid <= 3
        noised = [each for each in left + later if each.startswith("noised")]
        assert len(noised) == (0 if job.privacy.shared else len(sent))
        assert len(set(noised)) == len({each.split()[1] for each in noised})
        assert paid == rounds or "update 1" not in left or job.privacy.shared
    return killed


EVERYWHERE = [("on", each, 1, 1) for each in (ProposedPrivacy(), RECORD, POOLED, WHOLE)]
ALL = [f"{name} everywhere" for name in ("summed", "private", "distributed", "whole sites")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "privacy", "first", "stride"),
    [
        ("off", RECORD, 1, 1),
        ("seal", RECORD, 2, 3),
        ("on", ProposedPrivacy(), 1, 2),
        # These call for the same, but for their ledgers' lines: each is killed at a sixth.
        ("on", RECORD, 2, 6),
        ("on", POOLED, 4, 6),
        ("on", WHOLE, 6, 6),
        *(pytest.param(*every, marks=pytest.mark.soak) for every in EVERYWHERE),
    ],
    ids=["plain", "sealed", "summed", "summed private", "distributed", "whole sites", *ALL],
)
def test_a_site_killed_anywhere_hides_no_spend_and_agrees_once(
    tmp_path: Path, mode: Any, privacy: ProposedPrivacy, first: int, stride: int
) -> None:
    job = job_of(mode, privacy)
    life, call = summed if mode == "on" else plain, first
    while check(tmp_path / str(call), job, life, call):
        call += stride
    assert call > 20
