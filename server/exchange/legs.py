"""Legs of a secure sum: a leg's messages, and its answers; who fails is noted and left out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedmodel import wire
from fedmodel.errors import FedmodelError, ProtocolError
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.messages import Consent, Reveal, Shares, largest
from fedmodel.wire import Content
from server.answers import Check, nothing
from server.collect import Collected, read_all
from server.exchange.channel import Channel
from server.exchange.voice import Moment

__all__ = ["Legs"]

_ANSWERS = {"query.open": Shares, "query.consent": Consent, "query.reveal": Reveal}


class Legs:
    """The legs of one round's attempts.

    Args:
        channel: to the sites.
        numbers: node → the site's number in the roster.
        roster: so many sites are in it: of an earlier joining's attempt there may be more than now.
        check: what the answers to ``train`` must pass besides.
        blame: takes who is wrong, and who accuses whom.
    """

    def __init__(
        self,
        channel: Channel,
        numbers: Mapping[int, int],
        roster: int,
        *,
        check: Check,
        blame: Blame,
    ) -> None:
        self._channel = channel
        self._numbers = numbers
        self._roster = roster
        self._of_number = {number: node for node, number in numbers.items()}
        self._check = check
        self._group = ""
        self._at = Moment()
        self._short: Callable[[], bool] = lambda: False
        self._blame = blame
        self.failures: dict[int, wire.Failure] = {}

    def begin(self, round_: int, attempt: int, short: Callable[[], bool]) -> None:
        """Begin an attempt of a round: nobody has failed in it.

        Args:
            round_: of the run.
            attempt: of the round.
            short: tells whether a leg has too few answers for the next one.
        """
        self._group = f"{round_}.{attempt}"
        self._at = Moment(round_, attempt)
        self._short = short
        self.failures = {}

    @property
    def budgets_spent(self) -> bool:
        """Whether no site has failed for any other reason than a spent budget."""
        return Collected(failures=self.failures).budgets_spent

    def nodes(self, members: Iterable[int]) -> list[int]:
        """Return the nodes of some sites, in rising order."""
        return sorted(self._of_number[n] for n in members)

    def play(
        self,
        kind: str,
        nodes: list[int],
        message: Callable[[int], bytes],
        take: Callable[[int, bytes], None],
    ) -> None:
        """Play a leg of nothing but protocol bytes.

        Args:
            kind: of message.
            nodes: who is asked.
            message: a site's number → what it is sent.
            take: takes a site's answer; it raises FedmodelError.
        """

        def content(node: int, member: int) -> Content:
            return wire.add_parcel(wire.encode_reply(), "secagg", message(member))

        def read(member: int, reply: Content) -> None:
            most = largest(_ANSWERS[kind], self._roster)
            take(member, wire.parcel(reply, "secagg", most=most).tobytes())

        self.ask(kind, nodes, content, read)

    def ask(
        self,
        kind: str,
        nodes: list[int],
        content: Callable[[int, int], Content],
        take: Callable[[int, Content], Any],
    ) -> None:
        """Send every node its message and take the answers.

        Who answers an earlier leg or attempt too late has dropped out of that one only. Where too
        few have answered, those that were silent are asked once more: a site that has answered, and
        whose answer was lost, gives the same one again.

        Args:
            kind: of message.
            nodes: who is asked.
            content: node and site's number → what it is sent.
            take: takes a site's answer; it raises FedmodelError.
        """
        contents = {node: content(node, self._numbers[node]) for node in nodes}
        answers = self._channel.ask(kind, contents, self._group, self._at)

        def read(node: int, reply: Content) -> None:
            try:
                take(self._numbers[node], reply)
            except FedmodelError as error:
                raise ProtocolError(str(error)) from error

        check = self._check if kind == "train" else nothing
        leg = kind.partition(".")[2] or "upload"
        silent = sorted(set(nodes) - {answer.node for answer in answers})
        arrived = iter(answers)
        del answers  # each is as large as a model, and let go of once it is in the sum
        _, failures = read_all(arrived, nodes, read, check, f"answer in leg '{leg}'")
        if silent and self._short():
            asked = {node: contents[node] for node in silent}
            # Of one node's answers, which are alike, the last: an earlier one may come too.
            found = {a.node: a for a in self._channel.ask(kind, asked, self._group, self._at)}
            _, again = read_all(found.values(), silent, read, check, f"answer in leg '{leg}'")
            failures = {n: f for n, f in failures.items() if n not in asked} | again
        for node, failure in failures.items():
            reason = failure.reason if failure.budget else f"{leg}: {failure.reason}"
            if failure.wrong:
                self._blame.spoilt(self._numbers[node], reason)
            if failure.accuses in self._of_number and kind == "train":
                self._blame.dispute(self._numbers[node], failure.accuses, reason)
            # A later failure mostly follows from the first one.
            told = wire.Failure(reason=reason, budget=failure.budget, kind=failure.kind)
            self.failures.setdefault(node, told)
