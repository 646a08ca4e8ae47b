"""Leaving: every site is told when a run ends; who can't be told is told at the next contact.

A run that has *failed* is told as such, and gives back what it had reserved; one that was
*interrupted* tells nobody, keeps its reservations, and goes on with them by ``resume=true``.
"""

import logging
import time
from contextlib import suppress

from fedmodel import wire
from fedmodel.errors import FedmodelError, ProtocolError, QuorumError, RunFolderError
from fedmodel.wire import Leave
from server.coordinator import Coordinator
from server.exchange.channel import Channel
from server.exchange.voice import Voice
from server.membership import greeted
from server.untold import Ending

__all__ = ["interrupts", "leave", "tell_untold"]

logger = logging.getLogger(__name__)

_BRIEF = 60.0  # seconds for a goodbye: who doesn't answer by then is told later
_MOST = 20  # endings that are told before a joining


def interrupts(error: Exception) -> bool:
    """Return whether what ended a run may pass, so that the run can go on as it was.

    So it is where sites were away, where the disk was full or the grid failed, and where nobody
    foresaw it: that is as if the coordinator had been killed. Sites that have refused, training
    that diverged and whatever else fedmodel itself finds wrong end a run.

    Args:
        error: that ended it.
    """
    if isinstance(error, QuorumError):
        return error.passing
    return not isinstance(error, FedmodelError) or isinstance(error, RunFolderError)


def leave(channel: Channel, coordinator: Coordinator, *, failed: bool) -> set[int]:
    """Tell every node that the run has ended, so that nothing stays reserved or kept for it.

    With a roster, who can't be told is written down, for the next contact.

    Returns:
        The nodes that have heard it.

    Raises:
        RunFolderError: when that can't be written, or the memory of ledgers.
    """
    run, job, memory = coordinator.run, coordinator.job.sha256, coordinator.memory
    told: set[int] = set()
    with channel.brief(_BRIEF):
        ends = {
            node: wire.show(
                wire.encode_leave(
                    Leave(run=run, job_sha256=job, failed=failed, entries=memory.entries(node))
                ),
                coordinator.ledger.witnesses.show(node),
            )
            for node in _known(channel, coordinator)
        }
        for answer in channel.ask("query.leave", ends):
            if answer.content is None:
                continue
            told.add(answer.node)
            # The run is over: a site that can't be believed changes nothing about it.
            with suppress(ProtocolError):
                memory.note(answer.node, wire.decode_standing(answer.content))
    _keep_untold(channel, coordinator, told, failed=failed)
    memory.save()
    return told


def _known(channel: Channel, coordinator: Coordinator) -> list[int]:
    """Return the nodes that can be told something: with a roster those that have said who they are.

    Who was away when the joining began, or a run that ends before it, is asked now: what is held
    for the run is of an earlier joining then.
    """
    voice = channel.voice
    if voice is None:
        return channel.nodes()
    greeted(channel, coordinator, voice.joining or coordinator.entropy.bytes(32).hex())
    return sorted(voice.members)


def _keep_untold(
    channel: Channel, coordinator: Coordinator, told: set[int], *, failed: bool
) -> None:
    voice, keys, untold = channel.voice, coordinator.keys, coordinator.untold
    if voice is None or keys is None or untold is None:
        return
    node_of = {member: node for node, member in voice.members.items()}
    members = {}
    for number, key in keys.roster.keys.items():
        node = node_of.get(number)
        if node is None or node not in told:
            members[key.hex()] = 0 if node is None else coordinator.memory.entries(node)
    run, job = coordinator.run, coordinator.job.sha256
    untold.put(Ending(run=run, job=job, failed=failed, members=members))
    if members:
        logger.warning(
            "%d of %d sites couldn't be told that run %s has ended; they are told before they next "
            "join a run of this coordinator",
            len(members), len(keys.roster.keys), run,
        )  # fmt: skip


def tell_untold(channel: Channel, coordinator: Coordinator) -> None:
    """Tell sites of the ends of earlier runs that they haven't heard of; before they join this one.

    A run that goes on after all has not ended. What goes wrong is logged, and is tried again
    before the next joining.

    Args:
        channel: to the nodes.
        coordinator: of the run that they are to join.
    """
    untold = coordinator.untold
    if untold is None or coordinator.keys is None:
        return
    try:
        untold.drop(coordinator.run, coordinator.job.sha256)
        until = time.monotonic() + _BRIEF
        for ending in untold.endings()[:_MOST]:
            if ending not in untold.endings():  # it goes on, with another process
                continue
            untold.told(ending, _tell(channel, coordinator, ending))
            if time.monotonic() >= until:  # who doesn't answer doesn't hold up the run again
                break
    except (FedmodelError, OSError) as error:
        logger.warning("ends of earlier runs couldn't be told: %s", error)


def _tell(channel: Channel, coordinator: Coordinator, ending: Ending) -> set[str]:
    """Tell of one ending; return the keys (hex) of the sites that have heard it."""
    keys = coordinator.keys
    if keys is None:
        return set()
    voice = Voice(keys, ending.run, ending.job)
    with channel.brief(_BRIEF), channel.speaking(voice):
        # A joining of that run in which nothing is offered: which was its last here isn't known.
        channel.greet(coordinator.entropy.bytes(32).hex())
        key_of = {node: keys.roster.member(number).key for node, number in voice.members.items()}
        ends = {
            node: wire.encode_leave(
                Leave(
                    run=ending.run,
                    job_sha256=ending.job,
                    failed=ending.failed,
                    entries=ending.members[key],
                )
            )
            for node, key in key_of.items()
            if key in ending.members
        }
        answers = channel.ask("query.leave", ends)
    return {key_of[answer.node] for answer in answers if answer.content is not None}
