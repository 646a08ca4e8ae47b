"""Each rule of the exactly-once layer is needed: without it some schedule shows what goes wrong."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from fedmodel.errors import ReplayError
from fedmodel.transport import inbox as rules
from fedmodel.transport.inbox import Inbox, Noted, Verdict
from fedmodel.transport.outbox import Connected, Failed, Outbox
from fedmodel.transport.stamps import Stamp, Standing
from tests.fedmodel.transport.toy import Kinds, ViolationError
from tests.fedmodel.transport.toy_world import Careless, Rivals, World

SCHEDULES = 600  # in which it must show; most show in the first ten


class HandsOnTwice(Inbox):
    """What is being acted on is acted on again."""

    def admit(self, stamp: Stamp) -> Verdict:
        found = super().admit(stamp)
        return Verdict.DO if found is Verdict.BUSY else found


class DoesLost(Inbox):
    """What an earlier process had accepted, and perhaps done, is done."""

    def admit(self, stamp: Stamp) -> Verdict:
        found = super().admit(stamp)
        if found is Verdict.LOST:
            self._busy.add(stamp)
            return Verdict.DO
        return found


class DoesOlder(Inbox):
    """An order that isn't known is done, also when a later one was accepted."""

    def _known(self, noted: Noted, stamp: Stamp) -> Verdict:
        try:
            return super()._known(noted, stamp)
        except ReplayError:
            self._busy.add(stamp)
            return Verdict.DO


class NoDigest(Inbox):
    """Orders are known by their numbers only."""

    def _known(self, noted: Noted, stamp: Stamp) -> Verdict:
        digests = {order.seq: order.digest for order in noted.open}
        return super()._known(noted, replace(stamp, digest=digests.get(stamp.seq, stamp.digest)))


class KeepsForTheDead(Inbox):
    """A reply is kept and told whoever is obeyed by then."""

    def _awaited(self, stamp: Stamp) -> bool:
        return True


class NotesNothing(Inbox):
    """Whether an order came before is known to the process only."""

    def admit(self, stamp: Stamp) -> Verdict:
        before = self._store.read(stamp.run)
        found = super().admit(stamp)
        if found is Verdict.DO and before.epoch == stamp.epoch:
            self._store.note(stamp.run, before)
        return found


class CountsTwice(Outbox):
    """Every reply counts."""

    def replied(self, member: int, stamp: Stamp) -> bool:
        super().replied(member, stamp)
        return True


class CountsLate(Outbox):
    """The first reply counts, also after its order was given up."""

    def replied(self, member: int, stamp: Stamp) -> bool:
        self.counted: set[int] = getattr(self, "counted", set())
        super().replied(member, stamp)
        new = stamp.seq not in self.counted
        self.counted.add(stamp.seq)
        return new


class NeverGivesUp(Outbox):
    """What a site has lost, or doesn't answer, is waited for."""

    def due(self, now: float) -> list[Failed]:
        return []

    def next_time(self) -> float | None:
        return None

    def connected(self, member: int, incarnation: str, standing: Standing, now: float) -> Connected:
        self._members[member].incarnation = incarnation
        return super().connected(member, incarnation, standing, now)


class SendsAllAgain(Outbox):
    """What a site has taken is sent again, to whichever process of it."""

    def connected(self, member: int, incarnation: str, standing: Standing, now: float) -> Connected:
        none = replace(standing, epoch=0, start="", taken=0, digest="", has=())
        return super().connected(member, incarnation, none, now)


class NamesNoneBefore(Outbox):
    """An order stands for itself only."""

    def before(self, member: int) -> str:
        return ""


class Planted(NamedTuple):
    kinds: Kinds
    rivals: Rivals
    shows: Sequence[str]


TWICE, FORGOTTEN = "acted on an order twice", "acted on an order that isn't noted"
TWO = ("obeyed two coordinators in epoch",)
PLANTED = {
    "acts first": Planted(Kinds(acts_first=True), "none", (FORGOTTEN, TWICE)),
    "tells first": Planted(Kinds(tells_first=True), "none", ("told what isn't on disk",)),
    "acts again": Planted(Kinds(acts_again=True), "none", (TWICE,)),
    "hands on twice": Planted(Kinds(HandsOnTwice), "none", (TWICE,)),
    "does what was lost": Planted(Kinds(DoesLost, SendsAllAgain), "none", (TWICE,)),
    "does what is older": Planted(Kinds(DoesOlder), "none", (FORGOTTEN, TWICE)),
    "notes nothing": Planted(Kinds(NotesNothing), "none", (FORGOTTEN, TWICE)),
    "no digest": Planted(Kinds(NoDigest), "careless", ("of an order that never came",)),
    "keeps for the dead": Planted(
        Kinds(KeepsForTheDead), "none", ("a reply to what was never asked",)
    ),
    "counts twice": Planted(Kinds(outbox=CountsTwice), "none", ("counted a reply twice",)),
    "counts late": Planted(Kinds(outbox=CountsLate), "none", ("after its order was given up",)),
    "never gives up": Planted(Kinds(outbox=NeverGivesUp), "none", ("not finished by",)),
    "doesn't look who is obeyed": Planted(Kinds(outbox=Careless), "copy", TWO),
    "names none before": Planted(Kinds(outbox=NamesNoneBefore), "copy", TWO),
    "pays again": Planted(Kinds(redraws=True), "none", ("paid twice", "drew noise")),
    "starts aren't counted": Planted(Kinds(same_epoch=True), "none", ("not finished by",)),
}

RARE = ("names none before", "no digest")


def _first_violation(planted: Planted) -> str:
    for seed in range(SCHEDULES):
        try:
            World(seed, planted.rivals, planted.kinds).run()
        except ViolationError as error:
            return str(error)
    return "nothing went wrong"


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in PLANTED],
)
def test_a_schedule_shows_what_a_rule_is_for(name: str) -> None:
    found = _first_violation(PLANTED[name])
    assert any(words in found for words in PLANTED[name].shows), found


@pytest.mark.long
@pytest.mark.parametrize(
    ("compared", "rivals", "shows"),
    [
        ("nothing", "zombie", "obeyed an old coordinator"),
        ("epochs", "twin", "obeyed two coordinators of one epoch"),
    ],
)
def test_an_epoch_and_its_start_are_compared(
    compared: str, rivals: Rivals, shows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rules._check_epoch

    def check(noted: Noted, epoch: int, start: str) -> None:
        if compared == "epochs":
            real(noted, epoch, noted.start)

    monkeypatch.setattr(rules, "_check_epoch", check)
    careless = Kinds(outbox=Careless)  # who would notice it, too
    assert shows in _first_violation(Planted(careless, rivals, ()))
