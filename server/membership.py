"""Membership of a run: the job is offered to every node, and who joins is counted."""

import math
from collections.abc import Iterable, Mapping

from fedmodel import wire
from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.job import Job
from fedmodel.wire import Content, Failure, Offer
from server.answers import Answer, Check
from server.coordinator import Coordinator
from server.exchange.channel import Channel
from server.exchange.protocol import Exchange

__all__ = ["greeted", "join", "lacking", "quorum", "require_quorum", "standing_noted"]

_LEFT_OUT = "left out by this coordinator's operator (federation.exclude)"


def join(
    channel: Channel,
    coordinator: Coordinator,
    exchange: Exchange,
    refused: Mapping[int, Failure] | None = None,
) -> dict[int, Failure | None]:
    """Offer the job to every node.

    Args:
        channel: to the nodes.
        coordinator: of the run.
        exchange: that admits the sites.
        refused: nodes that have refused for good, and why: they aren't asked again.

    Returns:
        Node id → ``None`` where it joined, or why not.
    """
    job, memory, refused = coordinator.job, coordinator.memory, refused or {}
    known = greeted(channel, coordinator, exchange.joining)
    offers = {
        node: wire.encode_offer(
            Offer(
                run=coordinator.run,
                job=job,
                performance=coordinator.performance,
                tree_heads=tuple(memory.offered(node)),
                joining=exchange.joining,
                purpose=coordinator.purpose,
                base=coordinator.base,
            )
        )
        for node, unknown in known.items()
        if unknown is None and node not in coordinator.exclude and node not in refused
    }
    answers = {answer.node: answer for answer in channel.ask("query.join", offers)}
    note = standing_noted(coordinator)

    def outcome(node: int, unknown: Failure | None) -> Failure | None:
        if node in coordinator.exclude:
            return Failure(reason=_LEFT_OUT)
        if unknown is not None:
            return unknown
        return refused.get(node) or _refusal(channel, answers.get(node), note, exchange, node)

    joined = {node: outcome(node, unknown) for node, unknown in known.items()}
    memory.save()
    _note_refusals(coordinator, channel, answers)
    told = {node: None if f is None else f.reason for node, f in joined.items()}
    coordinator.reporter.sites_joined(told)
    return joined


def require_quorum(job: Job, joined: Mapping[int, str | None]) -> None:
    """Refuse to begin with too few sites.

    Raises:
        QuorumError: with the reasons of those that didn't join.
    """
    count = sum(reason is None for reason in joined.values())
    needed, key = quorum(job, len(joined))
    if count < needed:
        reasons = "; ".join(sorted({reason for reason in joined.values() if reason is not None}))
        raise QuorumError(
            f"{count} of {len(joined)} sites joined, {needed} are needed "
            f"({key}): {reasons or 'no site is connected'}"
        )


def quorum(job: Job, asked: int) -> tuple[int, str]:
    """Return how many of the sites that are asked must answer, and which key says so."""
    needed = max(1, math.ceil(job.federation.quorum * asked))
    if job.secagg.sums is not None and job.secagg.sums.survivors > needed:
        return job.secagg.sums.survivors, "secagg.survivors"
    if job.aggregation.fewest > needed:
        return job.aggregation.fewest, "2·aggregation.malicious + 3"
    return needed, "federation.quorum"


def lacking(
    error: QuorumError, failures: Iterable[Failure], *, fine: int, needed: int
) -> QuorumError:
    """Say in an error whether what is lacking may come still, and return it.

    Args:
        error: about too few sites.
        failures: of the sites.
        fine: sites that haven't failed, also where the sum of what they gave didn't come about.
        needed: so many have to give what was asked.
    """
    found = list(failures)
    error.unapproved = sum(failure.unapproved for failure in found)
    error.ahead = sum(failure.ahead for failure in found)
    passing = error.ahead + sum(failure.away for failure in found)
    error.passing, may_come = passing > 0, passing + error.unapproved
    error.attainable = may_come > 0 and fine + may_come >= needed
    return error


def standing_noted(coordinator: Coordinator) -> Check:
    """Return what takes note of where a site's ledger stands, by its reply.

    And of what it has seen of this coordinator's own: what it says of that, where it joins, or what
    it has answered.
    """
    witnesses = coordinator.ledger.witnesses

    def check(node: int, content: Content) -> None:
        coordinator.memory.note(node, wire.decode_standing(content))
        if (seen := wire.decode_seen(content)) is None:
            witnesses.answered(node)
        else:
            witnesses.joined(node, seen)

    return check


def greeted(channel: Channel, coordinator: Coordinator, joining: str) -> dict[int, Failure | None]:
    """Ask all nodes who they are.

    Args:
        channel: to them.
        coordinator: that asks.
        joining: names the joining.

    Returns:
        Node → ``None``, or why that isn't known.
    """
    found = channel.greet(joining)
    voice, keys = channel.voice, coordinator.keys
    if voice is None or keys is None:
        return found
    for node, member in list(voice.members.items()):
        try:
            coordinator.memory.bind(node, keys.roster.member(member).key)
        except ProtocolError as error:
            del voice.members[node]
            found[node] = Failure(reason=str(error))
    return found


def _note_refusals(
    coordinator: Coordinator, channel: Channel, answers: Mapping[int, Answer]
) -> None:
    """Write down which sites have refused: the kind, and the rule where it was told, no more."""
    if coordinator.refusals is None:
        return
    run, job, keys = coordinator.run, coordinator.job.sha256, coordinator.keys
    members = {} if channel.voice is None else channel.voice.members
    for node, answer in sorted(answers.items()):
        failure = answer.failure
        if failure is None or not failure.kind:
            continue
        site = (
            keys.roster.member(members[node]).name if keys and node in members else f"node {node}"
        )
        rule = failure.rule or "not told"
        coordinator.refusals.add(
            "site-refused",
            same=(run, job, site, failure.kind, rule),
            site=site,
            kind=failure.kind,
            rule=rule,
            run=run,
            job=job,
        )


def _refusal(
    channel: Channel, answer: Answer | None, note: Check, exchange: Exchange, node: int
) -> Failure | None:
    """Return why a node hasn't joined, ``None`` if it has."""
    if answer is None:
        return Failure(reason="no answer in time")
    if answer.failure is not None:
        return answer.failure
    try:
        if answer.content is not None:
            note(node, answer.content)
            members = {} if channel.voice is None else channel.voice.members
            exchange.admit(node, answer.content, members.get(node))
    except ProtocolError as error:
        return Failure(reason=f"malformed answer: {error}", wrong=True)
    return None
