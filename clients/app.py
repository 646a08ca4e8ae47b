"""The hospital's Flower ``ClientApp``: joins a job, trains when asked, evaluates, leaves.

It runs the code of the site's own installation. What comes in is data (a job, parameters, messages
of the secure sum's protocol); what goes out is an update (as it is, masked or sealed), noised
counts or a kind of refusal.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import account
from clients.authority import Authority
from clients.report import SiteWork
from clients.round_files import forget
from clients.site import Site
from clients.site_run import SiteRun
from fedmodel import wire
from fedmodel.errors import FedmodelError, ProtocolError, UnapprovedError, UnjoinedError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["SiteApp", "app", "make_app"]

logger = logging.getLogger(__name__)

SiteOf: TypeAlias = Callable[[Context], Site]
Key: TypeAlias = tuple[int, int]  # run and node


@dataclass(slots=True)
class _Node:
    """What this process knows of one node in one run."""

    id: int
    name: str = "?"
    site: Site | None = None
    authority: Authority | None = None
    run: SiteRun | None = None
    seconds: float = 0.0
    refusal: str | None = None
    rule: str | None = None

    def replace_run(self, run: SiteRun | None) -> None:
        """Take another run, or none; the one before goes, with the tokens of its rows."""
        if self.run is not None:
            self.seconds += self.run.train_seconds
        self.run = run

    def be(self, site: Site) -> None:
        """Be a site; as another, or by another roster, nothing counts that was told before."""
        if site is not self.site:
            self.site, self.name, self.authority = site, site.name, None

    def known_site(self) -> Site:
        """Return who the node is."""
        if self.site is None:
            raise ProtocolError("this node was started without a site")
        return self.site

    def known_authority(self) -> Authority:
        """Return what its coordinator has told it, with a roster."""
        if self.authority is None:
            self.authority = Authority(self.known_site(), self.id)
        return self.authority


class SiteApp:
    """A ``ClientApp`` for the sites of one process, and what it tells their operator.

    Args:
        site_of: who a node is. It is asked when a node is first spoken to, again after it has left,
            and when a joining begins: its roster may have changed. It may refuse.
        watch: who is told what they are doing (a progress display).
        candid: tell the coordinator in full why a site refuses; only where it is the same person.

    Attributes:
        surprise: the first error that nobody foresaw, for a caller that is the site's operator.
    """

    def __init__(
        self,
        site_of: SiteOf,
        watch: Watch = UNWATCHED,
        *,
        candid: bool = False,
    ) -> None:
        self._candid = candid
        self.surprise: Exception | None = None
        self._site_of = site_of
        self._watch = watch
        self._nodes: dict[Key, _Node] = {}
        self.app = ClientApp()
        self.app.query("hello")(self._answering(wire.HELLO, self._hello))
        self.app.query("join")(self._answering("query.join", self._join))
        self.app.train()(self._answering("train", self._train))
        self.app.evaluate()(self._answering("evaluate", self._evaluate))
        self.app.query("leave")(self._answering("query.leave", self._leave))
        for name in ("open", "consent", "reveal"):
            self.app.query(name)(self._answering(f"query.{name}", self._leg(name)))

    def work(self, run_id: int, node_id: int) -> SiteWork:
        """Return what this process has noted of a node's part in a run, for its operator."""
        node = self._nodes.get((run_id, node_id))
        if node is None:
            return SiteWork()
        seconds = node.seconds + (0.0 if node.run is None else node.run.train_seconds)
        return SiteWork(seconds=seconds, refusal=node.refusal, rule=node.rule)

    # -- what is asked ---------------------------------------------------------------------------

    def _hello(self, node: _Node, content: RecordDict) -> RecordDict:
        """Say who this is, signed, to a coordinator that has signed its question."""
        return node.known_authority().hello(content)

    def _join(self, node: _Node, content: RecordDict) -> RecordDict:
        """Check a job against the site's policy and prepare for it."""
        offer = wire.decode_offer(content)
        if node.authority is not None:
            node.authority.check_offer(offer)
        run = SiteRun(offer, node.known_site(), self._watch.of(node.name), node.run)
        node.replace_run(run)
        logger.info("site %s: joined the run %s (job %.16s…)", node.name, run.run, run.job.sha256)
        reply = wire.encode_reply(run.standing())
        if node.authority is not None:
            wire.say_seen(reply, run.witness.entries)
        advert = run.exchange.advert()
        return reply if advert is None else wire.add_parcel(reply, "secagg", advert)

    def _train(self, node: _Node, content: RecordDict) -> RecordDict:
        """Train one round and reply with the site's update."""
        run, order = _run(node), _order(node, content)
        reply = run.respond(order, content)
        logger.info("site %s: trained in round %d of the run %s", node.name, order.round, run.run)
        return reply

    def _leg(self, name: str) -> Callable[[_Node, RecordDict], RecordDict]:
        """Return what answers a message of the secure sum's protocol."""

        def answer(node: _Node, content: RecordDict) -> RecordDict:
            data = wire.parcel(content, "secagg", most=wire.LONGEST).tobytes()
            run = _run(node)
            run.require_approval()
            told = run.exchange.leg(name, data)
            return wire.add_parcel(wire.encode_reply(), "secagg", told)

        return answer

    def _evaluate(self, node: _Node, content: RecordDict) -> RecordDict:
        """Evaluate the last parameters on the site's own test rows and reply with noised counts."""
        run, order = _run(node), _order(node, content)
        counts = run.evaluate(order)
        return wire.encode_counts(counts, run.standing(order.entries))

    def _leave(self, node: _Node, content: RecordDict) -> RecordDict:
        """Give back what a run that has ended hasn't spent, whether or not this process joined."""
        end, site = wire.decode_leave(content), node.known_site()
        if node.run is not None and (node.run.run, node.run.job.sha256) == (
            end.run,
            end.job_sha256,
        ):
            node.replace_run(None)
        standing = account.leave(site, end)
        if not end.failed:  # else it may be resumed
            if site.policy.approval == "each":
                site.approvals.end(end.run, end.job_sha256)
            forget(site.state.run_folder(end.run), end.job_sha256)
        how = "stopped before its end, and may go on" if end.failed else "ended"
        logger.info("site %s: the run %s has %s", node.name, end.run, how)
        if node.run is None:
            # With its rows; whoever speaks to it again is asked who it is.
            node.site = node.authority = None
        return wire.encode_reply(standing)

    # -- answers and refusals --------------------------------------------------------------------

    def _answering(
        self, kind: str, answer: Callable[[_Node, RecordDict], RecordDict]
    ) -> Callable[[Message, Context], Message]:
        """Return a handler that replies with an answer, or a kind of refusal where it raises."""

        def handle(message: Message, context: Context) -> Message:
            key = context.run_id, context.node_id
            node = self._nodes.setdefault(key, _Node(context.node_id))
            try:
                if node.site is None or kind == wire.HELLO:
                    node.be(self._site_of(context))
                if node.known_site().roster is not None and kind != wire.HELLO:
                    node.known_authority().check(kind, message.content)
                return Message(answer(node, message.content), reply_to=message)
            except Exception as error:
                _note(error, node)
                if self._candid and not isinstance(error, FedmodelError):
                    self.surprise = self.surprise or error
                return wire.encode_error(error, message, candid=self._candid)

        return handle


def make_app(site_of: SiteOf) -> ClientApp:
    """Return a ``ClientApp`` for whoever a node is (see :class:`SiteApp`)."""
    return SiteApp(site_of).app


def _run(node: _Node) -> SiteRun:
    if node.run is None:
        raise UnjoinedError(
            "this process hasn't joined the run; it takes part when all join anew, before a round"
        )
    return node.run


def _order(node: _Node, content: RecordDict) -> wire.Order:
    order = wire.decode_order(content)
    if node.authority is not None:
        node.authority.check_order(order)
    return order


def _note(error: Exception, node: _Node) -> None:
    """Note why a site refuses, for its operator."""
    if isinstance(error, FedmodelError):
        node.refusal, node.rule = str(error), error.rule
        logger.warning("site %s: %s", node.name, error)
        if error.rule is not None:
            logger.info("site %s: by its policy's rule %s", node.name, error.rule)
        if isinstance(error, UnapprovedError):
            logger.info(
                "site %s: its people see what is asked by fedmodel site show RUN site=FILE, and "
                "decide by approve or refuse in place of show; nothing is started again for it",
                node.name,
            )
    else:
        node.refusal, node.rule = wire.unexpected(error), None
        logger.error("site %s: %s", node.name, node.refusal)


def _nobody(context: Context) -> Site:
    raise ProtocolError("this node was started without a site; use 'fedmodel simulate'")


app = make_app(_nobody)
