"""When a coordinator's orders are answered, sent again, lost and given up."""

from dataclasses import replace

import pytest

from fedmodel.errors import ConfigError, ProtocolError, ReplayError
from fedmodel.transport.outbox import Connected, Failed, Outbox, Reason
from fedmodel.transport.stamps import Stamp, Standing
from tests.fedmodel.transport.stamped import ONE, RUN, TWO, digest

A, B = "a" * 32, "b" * 32
NEW = Standing()


def made() -> Outbox:
    return Outbox(RUN, 2, ONE, members=(0, 1), grace=10.0)


def post(outbox: Outbox, member: int = 0, now: float = 0.0, deadline: float = 100.0) -> Stamp:
    seq = outbox.next_seq()
    return outbox.post(member, seq, digest(("order", seq)), now, deadline)


def stands(taken: int, *has: int, epoch: int = 2, start: str = ONE) -> Standing:
    return Standing(epoch=epoch, start=start, taken=taken, digest=digest(("order", taken)), has=has)


def test_a_reply_counts_once() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    first, second = post(outbox), post(outbox)
    assert (first.seq, second.seq) == (1, 2)
    assert outbox.replied(0, second)
    assert not outbox.replied(0, second)
    assert outbox.replied(0, first)
    assert outbox.waiting(0) == ()
    assert outbox.next_time() is None


def test_a_reply_to_what_was_never_asked_is_refused() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    asked = post(outbox)
    for wrong in (
        replace(asked, digest=digest("another")),
        replace(asked, seq=2),
        replace(asked, epoch=1),
        replace(asked, start=TWO),
        replace(asked, run="other-0123abcd"),
    ):
        with pytest.raises(ProtocolError, match="never gave it"):
            outbox.replied(0, wrong)
    with pytest.raises(ProtocolError, match="never gave it"):
        outbox.replied(1, asked)
    assert outbox.replied(0, asked)


def test_a_deadline_gives_an_order_up_and_its_late_reply_counts_no_more() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    early, late = post(outbox, deadline=50.0), post(outbox, deadline=60.0)
    assert outbox.next_time() == 50.0
    assert outbox.due(49.0) == []
    assert outbox.due(50.0) == [Failed(0, early.seq, Reason.LATE)]
    assert outbox.due(50.0) == []
    assert not outbox.replied(0, early)
    assert outbox.next_time() == 60.0
    assert outbox.replied(0, late)


def test_who_is_away_is_waited_for_until_the_grace_is_over() -> None:
    outbox = made()
    number = outbox.connected(0, A, NEW, 0.0).number
    before = post(outbox)
    outbox.disconnected(0, number, 20.0)
    during = post(outbox, now=25.0)
    assert outbox.present(29.0) == {0}
    assert outbox.next_time() == 30.0
    assert outbox.due(29.0) == []
    back = outbox.connected(0, A, NEW, 29.5)
    assert back.again == (before.seq, during.seq)
    assert outbox.next_time() == 100.0
    outbox.disconnected(0, back.number, 40.0)
    assert outbox.due(50.0) == [
        Failed(0, before.seq, Reason.AWAY),
        Failed(0, during.seq, Reason.AWAY),
    ]
    assert outbox.present(50.0) == frozenset()


def test_who_is_not_there_fails_at_once() -> None:
    outbox = made()
    never = post(outbox, member=1, now=5.0)
    assert outbox.next_time() == 5.0
    assert outbox.due(5.0) == [Failed(1, never.seq, Reason.ABSENT)]
    number = outbox.connected(0, A, NEW, 0.0).number
    outbox.disconnected(0, number, 1.0)
    gone = post(outbox, now=11.0)
    assert outbox.due(11.0) == [Failed(0, gone.seq, Reason.AWAY)]


def test_who_comes_back_before_an_order_is_given_up_is_asked() -> None:
    outbox = made()
    asked, over = post(outbox, now=5.0), post(outbox, now=5.0, deadline=6.0)
    found = outbox.connected(0, A, NEW, 6.0)
    assert found.again == (asked.seq,)
    assert outbox.due(6.0) == [Failed(0, over.seq, Reason.LATE)]
    assert outbox.replied(0, asked)


def test_the_end_of_a_replaced_connection_is_nothing() -> None:
    outbox = made()
    old = outbox.connected(0, A, NEW, 0.0).number
    new = outbox.connected(0, A, NEW, 1.0).number
    outbox.disconnected(0, old, 2.0)
    assert outbox.present(50.0) == {0}
    outbox.disconnected(0, new, 2.0)
    assert outbox.present(50.0) == frozenset()


def test_what_a_site_has_taken_is_not_sent_again() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    seqs = [post(outbox).seq for _ in range(4)]
    found = outbox.connected(0, A, stands(2, 1), 1.0)
    assert found == Connected(number=2, again=(3, 4), lost=(), anew=False)
    assert outbox.waiting(0) == tuple(seqs)


def test_a_restarted_site_has_lost_what_it_took_and_has_no_reply_to() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    stamps = [post(outbox) for _ in range(4)]
    found = outbox.connected(0, B, stands(3, 2), 1.0)
    lost = (Failed(0, 1, Reason.RESTARTED), Failed(0, 3, Reason.RESTARTED))
    assert found == Connected(number=2, again=(4,), lost=lost, anew=True)
    assert outbox.incarnation(0) == B
    assert [outbox.replied(0, each) for each in stamps] == [False, True, False, True]


def test_orders_of_an_earlier_coordinator_are_none_of_these() -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    post(outbox)
    found = outbox.connected(0, B, stands(9, 1, 9, epoch=1, start=TWO), 1.0)
    assert (found.again, found.lost) == ((1,), ())


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (stands(1, epoch=3), "epoch 3"),
        (stands(1, start=TWO), "another coordinator of epoch 2"),
        (stands(5), "another coordinator of epoch 2"),
        (replace(stands(1), digest=digest("else")), "another coordinator of epoch 2"),
    ],
    ids=["later", "another start", "never given", "another order"],
)
def test_a_coordinator_notices_that_another_one_is_obeyed(standing: Standing, why: str) -> None:
    outbox = made()
    outbox.connected(0, A, NEW, 0.0)
    post(outbox)
    with pytest.raises(ReplayError, match=why):
        outbox.connected(0, B, standing, 1.0)
    assert outbox.incarnation(0) == A
    assert outbox.waiting(0) == (1,)
    with pytest.raises(ReplayError, match=why):
        outbox.connected(0, A, standing, 1.0)


def test_a_process_that_another_has_followed_is_not_heard_again() -> None:
    outbox = made()
    assert outbox.incarnation(0) is None
    assert not outbox.connected(0, A, NEW, 0.0).anew
    assert outbox.connected(0, B, NEW, 1.0).anew
    with pytest.raises(ReplayError, match="two can't take part"):
        outbox.connected(0, A, NEW, 2.0)
    assert outbox.incarnation(0) == B


def test_orders_are_posted_in_order_to_members() -> None:
    outbox = made()
    first, second = outbox.next_seq(), outbox.next_seq()
    outbox.post(0, second, digest(2), 0.0, 1.0)
    outbox.post(1, first, digest(1), 0.0, 1.0)
    assert [outbox.before(member) for member in (0, 1)] == [digest(2), digest(1)]
    for seq in (first, second, 3):
        with pytest.raises(ProtocolError, match="in order"):
            outbox.post(0, seq, digest(3), 0.0, 1.0)
    for ask in (
        lambda: outbox.post(7, 2, digest(2), 0.0, 1.0),
        lambda: outbox.connected(7, A, NEW, 0.0),
        lambda: outbox.disconnected(7, 1, 0.0),
        lambda: outbox.incarnation(7),
    ):
        with pytest.raises(ProtocolError, match="no member 7"):
            ask()
    with pytest.raises(ConfigError):
        Outbox(RUN, 0, ONE, members=(0,), grace=1.0)
