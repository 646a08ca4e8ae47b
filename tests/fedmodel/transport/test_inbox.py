"""What a site's inbox says of an order that has come, in the files of a site and in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import ConfigError, ReplayError, RunFolderError
from fedmodel.transport.inbox import Inbox, Store, Verdict
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.stamps import Stamp, Standing
from tests.fedmodel.transport.stamped import ONE, RUN, TWO, Memory, digest, stamp

Process = Callable[[], Inbox]


@pytest.fixture(params=["files", "memory"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Process:
    """Start a process of the site, on the disk that the last one has left."""
    memory = Memory()

    def start() -> Inbox:
        store: Store = InboxStore(tmp_path.joinpath) if request.param == "files" else memory
        return Inbox(store)

    return start


def whole(inbox: Inbox, of: Stamp) -> bytes:
    return b"".join(inbox.reply(of))


def test_an_order_is_done_once_and_answered_by_the_very_reply(process: Process) -> None:
    inbox, first = process(), stamp(1)
    assert inbox.admit(first) is Verdict.DO
    assert inbox.admit(first) is Verdict.BUSY
    assert inbox.unacknowledged(RUN) == ()
    assert inbox.answered(first, [b"the ", memoryview(b"reply"), b""])
    assert inbox.admit(first) is Verdict.AGAIN
    assert whole(inbox, first) == b"the reply"
    assert inbox.unacknowledged(RUN) == (first,)
    inbox.acknowledge(RUN, 1, 1)
    assert inbox.unacknowledged(RUN) == ()
    with pytest.raises(ReplayError, match="acknowledged"):
        inbox.admit(first)


def test_a_reply_outlives_its_process_and_what_has_none_is_lost(process: Process) -> None:
    inbox = process()
    for seq in (1, 2, 3):
        assert inbox.admit(stamp(seq)) is Verdict.DO
    assert inbox.answered(stamp(2), [b"two"])
    inbox = process()
    verdicts = [inbox.admit(stamp(seq)) for seq in (1, 2, 3)]
    assert verdicts == [Verdict.LOST, Verdict.AGAIN, Verdict.LOST]
    assert inbox.unacknowledged(RUN) == (stamp(2),)
    assert whole(inbox, stamp(2)) == b"two"
    with pytest.raises(ReplayError, match="isn't being acted on by this process"):
        inbox.answered(stamp(1), [b"late"])
    assert inbox.admit(stamp(4)) is Verdict.DO
    with pytest.raises(ReplayError, match="over"):
        inbox.admit(stamp(1))
    assert inbox.admit(stamp(2)) is Verdict.AGAIN


def test_where_a_site_stands(process: Process) -> None:
    inbox = process()
    assert inbox.standing(RUN) == Standing()
    inbox.obey(RUN, 3, ONE)
    assert inbox.standing(RUN) == Standing(epoch=3, start=ONE)
    for seq in (4, 7, 9):
        inbox.admit(stamp(seq, 3))
        inbox.answered(stamp(seq, 3), [b"x"])
    inbox.acknowledge(RUN, 3, 4)
    inbox.acknowledge(RUN, 3, 5)  # nothing
    inbox.acknowledge(RUN, 2, 7)  # of another epoch: nothing
    expected = Standing(epoch=3, start=ONE, taken=9, digest=digest(("order", 9)), has=(7, 9))
    assert inbox.standing(RUN) == expected
    assert process().standing(RUN) == expected
    assert process().standing("another-0123abcd") == Standing()


def test_only_the_last_coordinator_is_obeyed(process: Process) -> None:
    inbox = process()
    inbox.admit(stamp(5, 2))
    for each in (inbox, process()):
        for epoch, start, why in ((1, ONE, "epoch 2 was obeyed"), (2, TWO, "another coordinator")):
            with pytest.raises(ReplayError, match=why):
                each.admit(stamp(6, epoch, start))
            with pytest.raises(ReplayError, match=why):
                each.check(RUN, epoch, start)
            with pytest.raises(ReplayError, match=why):
                each.obey(RUN, epoch, start)
        each.check(RUN, 2, ONE)
        each.check(RUN, 3, TWO)
        each.obey(RUN, 2, ONE)
    assert inbox.standing(RUN).taken == 5


@pytest.mark.parametrize("told", ["by its welcome", "by its first order"])
def test_a_later_coordinator_begins_anew(process: Process, told: str) -> None:
    inbox = process()
    for seq in (5, 6):
        inbox.admit(stamp(seq, 1))
    inbox.answered(stamp(5, 1), [b"five"])
    if told == "by its welcome":
        inbox.obey(RUN, 2, TWO)
    else:
        assert inbox.admit(stamp(1, 2, TWO)) is Verdict.DO
    assert inbox.unacknowledged(RUN) == ()
    assert not inbox.answered(stamp(6, 1), [b"for nobody"])
    assert process().unacknowledged(RUN) == ()
    with pytest.raises(ReplayError):
        inbox.admit(stamp(7, 1))
    assert inbox.admit(stamp(2, 2, TWO)) is Verdict.DO


def test_another_order_of_the_same_number_is_refused(process: Process) -> None:
    inbox = process()
    inbox.admit(stamp(1))
    for each in (inbox, process()):
        with pytest.raises(ReplayError, match=r"differs .* start one with resume=true"):
            each.admit(stamp(1, order="another"))
    inbox.answered(stamp(1), [b"one"])
    with pytest.raises(ReplayError, match="differs"):
        inbox.admit(stamp(1, order="another"))


def test_an_older_order_is_not_done_even_where_it_never_came(process: Process) -> None:
    inbox = process()
    inbox.admit(stamp(2))
    with pytest.raises(ReplayError, match="a later one was accepted"):
        inbox.admit(stamp(1))


def test_an_order_is_answered_once(process: Process) -> None:
    inbox = process()
    with pytest.raises(ReplayError):
        inbox.answered(stamp(1), [b"never asked"])
    inbox.admit(stamp(1))
    inbox.answered(stamp(1), [b"first"])
    with pytest.raises(ReplayError):
        inbox.answered(stamp(1), [b"second"])
    assert whole(inbox, stamp(1)) == b"first"


def test_an_order_in_work_stays_when_it_is_acknowledged_by_mistake(process: Process) -> None:
    inbox = process()
    inbox.admit(stamp(1))
    inbox.acknowledge(RUN, 1, 1)
    assert inbox.admit(stamp(1)) is Verdict.BUSY
    assert inbox.answered(stamp(1), [b"one"])


def test_a_reply_is_none_before_whoever_made_it_hears_that_it_is_kept() -> None:
    """Else another thread could tell it, and let it go, while its maker is about to tell it."""

    class Meanwhile(Memory):
        def keep(self, *args: Any) -> None:
            super().keep(*args)
            assert inbox.unacknowledged(RUN) == ()
            assert inbox.standing(RUN).has == ()
            inbox.acknowledge(RUN, 1, 1)
            assert inbox.admit(stamp(1)) is Verdict.BUSY

    inbox = Inbox(Meanwhile())
    inbox.admit(stamp(1))
    assert inbox.answered(stamp(1), [b"one"])
    assert whole(inbox, stamp(1)) == b"one"


def test_runs_know_nothing_of_one_another(process: Process) -> None:
    inbox, other = process(), Stamp("other-0123abcd", 1, TWO, 1, digest("x"))
    inbox.admit(stamp(7, 5))
    assert inbox.admit(other) is Verdict.DO
    inbox.answered(other, [b"other"])
    inbox.admit(stamp(8, 5))
    assert inbox.unacknowledged(other.run) == (other,)
    assert inbox.unacknowledged(RUN) == ()
    inbox.acknowledge(other.run, 1, 1)
    inbox.admit(stamp(9, 5))
    with pytest.raises(ReplayError, match="acknowledged"):
        inbox.admit(other)


def test_nothing_is_done_or_sent_that_the_disk_has_no_room_for() -> None:
    memory = Memory()
    inbox = Inbox(memory)
    memory.full = True
    for _ in range(2):
        with pytest.raises(RunFolderError):
            inbox.admit(stamp(1))
    memory.full = False
    assert inbox.admit(stamp(1)) is Verdict.DO
    memory.full = True
    with pytest.raises(RunFolderError):
        inbox.answered(stamp(1), [b"too large"])
    assert inbox.admit(stamp(1)) is Verdict.BUSY
    memory.full = False
    assert inbox.answered(stamp(1), [b"small"])
    assert whole(inbox, stamp(1)) == b"small"


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 0},
        {"seq": 0},
        {"seq": True},
        {"seq": 1 << 53},
        {"start": "1" * 31},
        {"digest": "A" * 64},
        {"run": "../x"},
    ],
    ids=str,
)
def test_a_stamp_checks_itself(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"run": RUN, "epoch": 1, "start": ONE, "seq": 1, "digest": digest(1)}
    Stamp(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Stamp(**good | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 1},
        {"start": ONE},
        {"epoch": 1, "start": ONE, "taken": 2},
        {"taken": 2, "digest": digest(1)},
        {"epoch": 1, "start": ONE, "taken": 2, "digest": digest(1), "has": (3,)},
        {"epoch": 1, "start": ONE, "taken": 2, "digest": digest(1), "has": (0,)},
    ],
    ids=["no start", "no epoch", "no digest", "nobody's orders", "beyond", "no number"],
)
def test_a_standing_checks_itself(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Standing(**wrong)  # type: ignore[arg-type]
