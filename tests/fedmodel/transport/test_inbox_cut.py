"""A site's inbox after a power cut: what was told is on disk, whatever the cache had."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from fedmodel.transport.inbox import Inbox, Verdict
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.stamps import Standing
from tests.fedmodel.cuts import NEVER, KilledAtSync, came_to_its_end
from tests.fedmodel.identity.killed import Killed
from tests.fedmodel.ledger.lives_cut import Disk
from tests.fedmodel.transport.stamped import RUN, stamp

pytestmark = [
    pytest.mark.long,
    pytest.mark.parametrize("bound", [0, 1 << 20], ids=["anew", "added"]),
    pytest.mark.parametrize("small", [0, 100], ids=["large", "small"]),
]


def reply(seq: int) -> list[bytes]:
    return [b"x" * 10, b"%d" % seq]


def answer(inbox: Inbox, seq: int, told: list[str]) -> None:
    """Do an order, and say what somebody goes by now."""
    assert inbox.admit(stamp(seq)) is Verdict.DO
    told.append("do")
    assert inbox.answered(stamp(seq), reply(seq))
    told.append("answered")


def test_a_power_cut_at_any_call_loses_nothing_that_was_told(
    tmp_path: Path, small: int, bound: int
) -> None:
    def process() -> Inbox:
        return Inbox(InboxStore(tmp_path.joinpath, small, bound))

    seq = 0
    for seed in range(3):
        call, whole = 1, False
        while not whole:
            seq, told = seq + 1, list[str]()
            disk = Disk(tmp_path, call, random.Random(seed))

            def live(now: int = seq, told: list[str] = told) -> None:
                answer(process(), now, told)

            whole = came_to_its_end(disk, live)
            disk.restart(zeros=False)
            _check(process(), seq, told)
            call += 1
        assert call > 10


def _check(inbox: Inbox, seq: int, told: list[str]) -> None:
    verdict = inbox.admit(stamp(seq))
    if "answered" in told:
        assert verdict is Verdict.AGAIN
        assert b"".join(inbox.reply(stamp(seq))) == b"".join(reply(seq))
    else:
        assert verdict in ((Verdict.LOST, Verdict.AGAIN) if told else tuple(Verdict))
    inbox.acknowledge(RUN, 1, seq)


def test_what_a_killed_process_has_not_synced_is_on_disk_before_the_next_one_tells_it(
    tmp_path: Path, small: int, bound: int
) -> None:
    """Where a site stands is told to its coordinator, who gives no such order again."""

    def process(folder: Path) -> Inbox:
        return Inbox(InboxStore(folder.joinpath, small, bound))

    for number in range(24):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = KilledAtSync(folder, NEVER, random.Random(number))
        disk.syncs = 1 + number % 8
        told = list[Standing]()

        def live(
            disk: KilledAtSync = disk, folder: Path = folder, told: list[Standing] = told
        ) -> None:
            with suppress(Killed):
                answer(process(folder), 1, [])
                answer(process(folder), 2, [])
            disk.syncs = NEVER
            told.append(process(folder).standing(RUN))

        assert came_to_its_end(disk, live)
        disk.restart(zeros=False)
        inbox = process(folder)
        assert [inbox.standing(RUN)] == told
        for has in told[0].has:
            assert b"".join(inbox.reply(stamp(has))) == b"".join(reply(has))
