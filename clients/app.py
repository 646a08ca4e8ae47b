"""The hospital's Flower ``ClientApp``: joins a job, trains when asked, evaluates, leaves.

It runs the code of the site's own installation. What comes in is data (a job, parameters, messages
of the secure sum's protocol); what goes out is an update (as it is, masked or sealed), two noised
counts or a kind of refusal.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
import traceback
from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import account
from clients.hidden import Sums
from clients.site import Site
from clients.site_run import Session
from fedmodel import wire
from fedmodel.errors import FedmodelError, ProtocolError

logger = logging.getLogger(__name__)

Key = tuple[int, int]  # run and node

_sites: dict[Key, Site] = {}
_sessions: dict[Key, Session] = {}

app = ClientApp()


def register(run_id: int, node_id: int, site: Site) -> None:
    """Tell this process which site a node is; whoever starts the app does it."""
    _sites[(run_id, node_id)] = site


def forget(run_id: int) -> None:
    """Drop everything a run left in this process."""
    for table in (_sites, _sessions):
        for key in [k for k in table if k[0] == run_id]:
            del table[key]


@app.query("join")
def join(message: Message, context: Context) -> Message:
    """Check a job against the site's rules and prepare for it."""

    def answer(key: Key) -> RecordDict:
        site = _site(key)
        job, known = wire.decode_job(message.content), wire.decode_heads(message.content)
        session = Session(job, site, known, wire.decode_session(message.content))
        _sessions[key] = session
        content = wire.encode_reply(session.standing())
        if session.hidden is not None:
            wire.add_parcel(content, "secagg", session.hidden.advert())
        return content

    return _reply(message, context, answer)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round and reply with the site's update."""

    def answer(key: Key) -> RecordDict:
        session, order = _session(key), wire.decode_order(message.content)
        return session.respond(order, message.content)

    return _reply(message, context, answer)


@app.query("open")
def open_(message: Message, context: Context) -> Message:
    """Begin an attempt of a round's secure sum: share what would unmask this site's part."""
    return _protocol(message, context, lambda hidden, data: hidden.participant.open(data))


@app.query("consent")
def consent(message: Message, context: Context) -> Message:
    """Sign the set of sites whose masked updates have come."""
    return _protocol(message, context, lambda hidden, data: hidden.participant.consent(data))


@app.query("reveal")
def reveal(message: Message, context: Context) -> Message:
    """Reveal shares of what unmasks the sum, once enough sites have signed the same set."""
    return _protocol(message, context, Sums.reveal)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the last parameters on the site's own test rows and reply with noised counts."""

    def answer(key: Key) -> RecordDict:
        session, order = _session(key), wire.decode_order(message.content)
        counts = session.evaluate(order)
        return wire.encode_counts(counts, session.standing(order.entries))

    return _reply(message, context, answer)


@app.query("leave")
def leave(message: Message, context: Context) -> Message:
    """Give back what a run that has ended hasn't spent, whether or not this process joined it."""

    def answer(key: Key) -> RecordDict:
        site = _site(key)
        end = wire.decode_leave(message.content)
        if key in _sessions and _sessions[key].job_sha256 == end.job_sha256:
            del _sessions[key]  # with the tokens and hidden states of its rows
        return wire.encode_reply(account.leave(site, end))

    return _reply(message, context, answer)


def _protocol(message: Message, context: Context, step: Callable[[Sums, bytes], bytes]) -> Message:
    """Answer a message of the secure sum's protocol."""

    def answer(key: Key) -> RecordDict:
        hidden = _session(key).hidden
        if not isinstance(hidden, Sums):
            raise ProtocolError("this site's job has no secure sums")
        data = wire.parcel(message.content, "secagg").tobytes()
        return wire.add_parcel(wire.encode_reply(), "secagg", step(hidden, data))

    return _reply(message, context, answer)


def _reply(message: Message, context: Context, answer: Callable[[Key], RecordDict]) -> Message:
    """Reply with what an answer gives, or with a kind of refusal where it raises."""
    key = (context.run_id, context.node_id)
    try:
        return Message(answer(key), reply_to=message)
    except Exception as error:
        return _refuse(error, message, key)


def _site(key: Key) -> Site:
    if key not in _sites:
        raise ProtocolError("this node was started without a site")
    return _sites[key]


def _session(key: Key) -> Session:
    if key not in _sessions:
        raise ProtocolError("this site hasn't joined the job; send query.join first")
    return _sessions[key]


def _refuse(error: Exception, message: Message, key: Key) -> Message:
    site = _sites[key].name if key in _sites else "?"
    if key in _sites:
        known = isinstance(error, FedmodelError)
        _sites[key].refusal = str(error) if known else f"unexpected {type(error).__name__}"
    if isinstance(error, FedmodelError):
        logger.warning("site %s: %s", site, error)
    else:
        # The message of an unknown error may quote a row; where it happened doesn't.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        logger.error(
            "site %s: unexpected %s at %s:%s",
            site,
            type(error).__name__,
            frame.filename,
            frame.lineno,
        )
    return wire.encode_error(error, message)
