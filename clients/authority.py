"""Authority of a coordinator at a site: what it has signed for this site, this run and this moment.

With a roster, nobody is taken at their word: neither who sends nor who passes on.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from clients.exchange.roster import own_roster
from clients.site import Site
from fedmodel import _files, wire
from fedmodel.errors import (
    NewerRosterError,
    ReplayError,
    RunFolderError,
    UnjoinedError,
    UnsignedError,
)
from fedmodel.identity.validity import utc_now
from fedmodel.wire import HELLO, Content, Instruction, Offer, Order

__all__ = ["Authority"]

JOIN, LEAVE = "query.join", "query.leave"
_NAME = "joinings.txt"


class Authority:
    """What one node of a site has been told by its coordinator, so that nothing is told twice.

    Args:
        site: with its roster.
        node: by which it is spoken to.
        clock: tells the time, in UTC.

    Raises:
        RefusedError: when it has no roster, or isn't on it.
    """

    def __init__(self, site: Site, node: int, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._site = site
        self._node = node
        self._roster = own_roster(site, "the coordinator asks who this site is")
        self._digest = self._roster.sha256
        self._member = self._roster.number_of(site.name)
        self._begun: Instruction | None = None  # what asked last who this is
        self._told: Instruction | None = None  # what is being done
        self._opened: tuple[int, int] | None = None  # round and attempt of a secure sum
        self._trained = 0  # the last round
        self._summed = False
        self._busy = False  # whether an order has come in this joining

    def hello(self, content: Content) -> Content:
        """Return who this is, signed, for a coordinator that has signed its question.

        Raises:
            UnsignedError: when it hasn't.
            NewerRosterError: when the coordinator's roster is older than this site's.
            ExpiredError: when the site's roster is over.
            ReplayError: when the joining has begun before: somebody repeats what was said then.
            RunFolderError: when it can't be written down that it has.
        """
        asked, hello = self._verified(HELLO, content), wire.decode_hello(content)
        if asked.roster != self._digest and 0 < hello.edition < self._roster.edition:
            raise NewerRosterError(
                f"this site has version {self._roster.edition} of the roster, and this run goes by "
                f"version {hello.edition}; its coordinator takes the newest over, and goes on with "
                "the run"
            )
        self._require("roster", asked.roster, self._digest)
        self._require("run", asked.run, hello.run)
        self._require("joining", asked.joining, hello.joining)
        self._require("roster", asked.roster, hello.roster)
        self._require("member", asked.member, 0)
        if self._begun != asked or self._busy:
            self._note(asked)
            self._begun, self._opened, self._trained, self._busy = asked, None, 0, False
        sign = self._site.state.key.sign
        return wire.answer_hello(hello, self._member, self._node, sign)

    def check(self, kind: str, content: Content) -> None:
        """Check that the coordinator has signed a message, for this site and for now.

        Raises:
            UnsignedError: when it hasn't, or for something else.
            UnjoinedError: when this process hasn't been asked who it is.
            ExpiredError: when the site's roster is over.
            ReplayError: when what it is signed for is over.
        """
        self._told = None
        told = self._signed(kind, content)
        self._require("member", told.member, self._member)
        if kind == LEAVE:
            self._check_leave(told)
            return
        begun = self._begun
        if begun is None:
            raise UnjoinedError(
                "this process has started since the joining began, and can't tell whether "
                f"'{kind}' is of now; it takes part when all join anew, before a round"
            )
        self._require("run", told.run, begun.run)
        self._require("job", told.job, begun.job)
        if told.joining != begun.joining:
            raise _stale(kind, told.joining, begun.joining)
        self._check_moment(told)
        self._told = told

    def check_order(self, order: Order) -> None:
        """Check that an order is of the run, job and round that it is signed for.

        Args:
            order: that was signed.

        Raises:
            UnsignedError: when it isn't.
        """
        told = self._told
        if told is None:
            raise UnsignedError("an order came before its signature was checked")
        self._require("run", told.run, order.run)
        self._require("job", told.job, order.job_sha256)
        self._require("round", told.round, order.round)

    def check_offer(self, offer: Offer) -> None:
        """Check that an offer is of the run, job and joining that it is signed for.

        Args:
            offer: that was signed.

        Raises:
            UnsignedError: when it isn't.
            ReplayError: when orders have been taken since: it is an offer of before.
        """
        begun = self._begun
        if begun is None:
            raise UnsignedError("an offer came before a greeting (query.hello)")
        self._require("run", begun.run, offer.run)
        self._require("job", begun.job, offer.job.sha256)
        self._require("joining", begun.joining, offer.joining)
        if self._busy:
            raise ReplayError(
                "this offer was answered, and orders have come since; expected another joining, "
                "which begins with a greeting (query.hello)"
            )
        self._summed = offer.job.secagg.on

    # -- what a message must be for --------------------------------------------------------------

    def _signed(self, kind: str, content: Content) -> Instruction:
        told = self._verified(kind, content)
        self._require("roster", told.roster, self._digest)
        return told

    def _verified(self, kind: str, content: Content) -> Instruction:
        # A coordinator that was taken back is known by a roster that comes later, or never: then by
        # the end of this one.
        self._roster.check_time(self._clock())
        return wire.signed_by(content, kind, bytes.fromhex(self._roster.coordinator))

    @staticmethod
    def _require(what: str, told: str | int, expected: str | int) -> None:
        if told != expected:
            raise UnsignedError(
                f"expected what is signed for the {what} {expected!s:.80}, got {told!s:.80}: "
                f"{_WHY[what]}. Nothing is done"
            )

    def _check_moment(self, told: Instruction) -> None:
        """Check that an order is of a round and attempt that aren't over."""
        now = told.round, told.attempt
        if told.kind == JOIN:
            return
        self._busy = True
        if told.kind == "query.open":
            if self._opened is not None and now < self._opened:
                raise _over(told, self._opened)
            self._opened = now
        elif told.kind == "train" and not self._summed:
            if told.round <= self._trained:
                raise ReplayError(
                    f"an order to train in round {told.round}, and this site has taken one for "
                    f"round {self._trained} in this joining: a round is trained once. Nothing is "
                    "done; begin another joining to repeat a round"
                )
            self._trained = told.round
        elif told.kind != "evaluate" and self._opened not in (None, now):
            raise _over(told, self._opened)

    def _check_leave(self, told: Instruction) -> None:
        begun = self._begun
        last = begun.joining if begun is not None and begun.run == told.run else None
        if last is None:  # another process of this site may have joined
            last = next(reversed(self._noted(told.run)), None)
        if last not in (None, told.joining):
            raise _stale(LEAVE, told.joining, str(last))

    # -- joinings that have begun ----------------------------------------------------------------

    def _note(self, asked: Instruction) -> None:
        path = self._path(asked.run)
        try:
            _files.make_folder(path.parent)
            # Of several processes that hear the same greeting at once, one begins the joining.
            with _files.locked(path, write=True) as file:
                known = file.read()
                if asked.joining.encode() in known.split():
                    raise ReplayError(
                        f"the joining {asked.joining[:16]}… of the run {asked.run!r} has begun "
                        "before, and each begins once: somebody repeats an old greeting. Nothing "
                        "is done"
                    )
                torn = not known.endswith(b"\n") and known  # by a power cut
                file.append((b"\n" if torn else b"") + f"{asked.joining}\n".encode())
        except OSError as error:
            raise RunFolderError(f"can't write {path}: {error.strerror}; free space") from error

    def _noted(self, run: str) -> list[str]:
        path = self._path(run)
        try:
            return _files.read(path).decode("ascii", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunFolderError(
                f"{path} can't be read, so it can't be told which joinings are over; restore it, "
                "or let another run be started"
            ) from error

    def _path(self, run: str) -> Path:
        return self._site.state.run_folder(run) / _NAME


_WHY = {
    "roster": "the parties have different rosters; get the newest from the consortium",
    "member": "something on the way passes on what is for another site",
    "run": "something on the way passes on what is of another run, or this site hasn't joined it",
    "job": "the job isn't the one that the coordinator began this joining with",
    "round": "the parts of one message are of different rounds",
    "joining": "the parts of one message are of different joinings",
}


def _stale(kind: str, told: str, expected: str) -> ReplayError:
    return ReplayError(
        f"'{kind}' is of the joining {told[:16]}…, and this site is in {expected[:16]}…: an old "
        "message was repeated, or another coordinator has begun a joining since. Nothing is done"
    )


def _over(told: Instruction, opened: tuple[int, int] | None) -> ReplayError:
    round_, attempt = opened or (0, 0)
    return ReplayError(
        f"'{told.kind}' is of round {told.round}, attempt {told.attempt}, and this site is in "
        f"round {round_}, attempt {attempt}: a message of another attempt was repeated. Nothing is "
        "done"
    )
