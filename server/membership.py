"""Who takes part: the job is offered to every node, and every node is told when the run ends."""

import math
from contextlib import suppress

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedmodel import wire
from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.job import Job
from server.collect import Check
from server.coordinator import Coordinator
from server.joined import Joined

__all__ = ["head_taken", "join", "leave", "quorum"]


def join(grid: Grid, coordinator: Coordinator, hidden: Joined | None = None) -> list[int]:
    """Offer the job to every node; return those that joined.

    Args:
        grid: to the nodes.
        coordinator: of the run.
        hidden: what takes the sites' keys, where updates are hidden or sealed.

    Raises:
        QuorumError: if too few did.
    """
    nodes = sorted(grid.get_node_ids())
    job, heads = coordinator.job, coordinator.heads
    session = "" if hidden is None else hidden.session
    offers = [
        Message(wire.encode_job(job, heads.offered(n), session), n, "query.join") for n in nodes
    ]
    replies = grid.send_and_receive(offers, timeout=coordinator.timeout)
    answers = {r.metadata.src_node_id: r for r in replies}
    outcome = {node: _answer(node, answers.get(node), coordinator, hidden) for node in nodes}
    heads.save()
    coordinator.outcome.refused = {n: r for n, r in outcome.items() if r is not None}
    coordinator.reporter.joined(outcome)
    joined = [n for n in nodes if outcome[n] is None]
    needed, key = quorum(job, len(nodes))
    if len(joined) < needed:
        reasons = "; ".join(sorted(set(coordinator.outcome.refused.values())))
        raise QuorumError(
            f"{len(joined)} of {len(nodes)} sites joined, {needed} are needed "
            f"({key}): {reasons or 'no site is connected'}"
        )
    return joined


def quorum(job: Job, asked: int) -> tuple[int, str]:
    """Return how many of the sites that are asked must answer, and which key says so."""
    needed, survivors = max(1, math.ceil(job.federation.quorum * asked)), job.secagg.survivors or 0
    if job.secagg.on and survivors > needed:
        return survivors, "secagg.survivors"
    return needed, "federation.quorum"


def leave(grid: Grid, coordinator: Coordinator, *, failed: bool) -> None:
    """Tell every node that the run has ended, so that nothing stays reserved for it."""
    if not coordinator.job.privacy.private:
        return
    job, heads = coordinator.job.sha256, coordinator.heads
    messages = []
    for node in sorted(grid.get_node_ids()):
        end = wire.Leave(job_sha256=job, failed=failed, entries=heads.entries(node))
        messages.append(Message(wire.encode_leave(end), node, "query.leave"))
    for reply in grid.send_and_receive(messages, timeout=coordinator.timeout):
        # The run is over: a site that can't be told or believed changes nothing about it.
        with suppress(ProtocolError):
            if not reply.has_error():
                node = reply.metadata.src_node_id
                heads.take(node, wire.decode_standing(reply.content))
    heads.save()


def head_taken(coordinator: Coordinator) -> Check:
    """Return what takes note of where a site's ledger stands, by its reply."""

    def check(node: int, content: RecordDict) -> None:
        coordinator.heads.take(node, wire.decode_standing(content))

    return check


def _answer(
    node: int, reply: Message | None, coordinator: Coordinator, hidden: Joined | None
) -> str | None:
    """Return why a node hasn't joined, ``None`` if it has."""
    if reply is None:
        return "no answer in time"
    if reply.has_error():
        return wire.decode_error(reply.error).reason
    try:
        head_taken(coordinator)(node, reply.content)
        if hidden is not None:
            hidden.joined(node, reply.content)
    except ProtocolError as error:
        return f"malformed answer: {error}"
    return None
