"""A coordinator's voice: who answers a greeting, and what is then signed for whom."""

from collections.abc import Callable

import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.wire import Failure
from server.answers import Answer
from server.exchange.voice import Moment, Voice
from server.ledger_memory import LedgerMemory
from tests.server.exchange.masked import COORDINATOR_KEYS, KEYS, ROSTER, SIGNER

Contents = dict[int, RecordDict]
JOINING, OTHER = "ab" * 32, "cd" * 32


def asked(**members: int) -> Callable[[Contents], list[Answer]]:
    """Return sites that answer at nodes: ``n3=2`` is site 2 at node 3."""

    def ask(contents: Contents) -> list[Answer]:
        answers = []
        for name, member in members.items():
            node = int(name[1:])
            hello = wire.decode_hello(contents[node])
            told = wire.answer_hello(hello, member, node, KEYS[member + 1].sign)
            answers.append(Answer(node=node, content=told))
        return answers

    return ask


@pytest.fixture
def voice() -> Voice:
    return Voice(COORDINATOR_KEYS, "demo-0123abcd", "ef" * 32)


def test_who_answers_is_known_and_who_is_silent_is_not(voice: Voice) -> None:
    found = voice.greet(JOINING, [2, 3, 9], asked(n2=1, n9=4))
    assert found == {2: None, 3: Failure(reason="no answer in time"), 9: None}
    assert voice.members == {2: 1, 9: 4}
    told = wire.signed_by(
        voice.sign("train", 9, RecordDict(), Moment(3, 2)), "train", SIGNER.public
    )
    assert (told.member, told.joining, told.round, told.attempt) == (4, JOINING, 3, 2)
    assert (told.run, told.job, told.roster) == ("demo-0123abcd", "ef" * 32, ROSTER.sha256)


def test_of_nodes_that_sign_as_one_site_none_is_believed(voice: Voice) -> None:
    found = voice.greet(JOINING, [2, 3, 4], asked(n2=1, n3=1, n4=2))
    assert "2 nodes have signed as 's2'; let it run one process" in str(found[2])
    assert found[2] == found[3]
    assert voice.members == {4: 2}


def test_a_node_that_comes_later_is_not_a_site_that_is_there(voice: Voice) -> None:
    voice.greet(JOINING, [2, 3], asked(n2=1, n3=2))
    found = voice.greet(JOINING, [7, 8], asked(n7=1, n8=3))
    assert "2 nodes have signed as 's2'" in str(found[7])
    assert voice.members == {2: 1, 3: 2, 8: 3}
    # Another joining begins anew.
    assert voice.greet(OTHER, [7], asked(n7=1)) == {7: None}
    assert voice.members == {7: 1}


def test_an_answer_to_another_greeting_is_none(voice: Voice) -> None:
    kept: Contents = {}

    def first(contents: Contents) -> list[Answer]:
        kept.update({a.node: a.content for a in asked(n2=1)(contents) if a.content is not None})
        return []

    voice.greet(JOINING, [2], first)
    found = voice.greet(OTHER, [2], lambda contents: [Answer(node=2, content=kept[2])])
    assert "hasn't signed this joining" in str(found[2])
    assert voice.members == {}


@pytest.mark.parametrize("kind", ["NewerRosterError", "UnsignedError", ""])
def test_of_why_a_greeting_is_refused_the_kind_counts_where_it_can_be_mended(
    kind: str, voice: Voice
) -> None:
    failure = Failure(reason="no", kind=kind)
    found = voice.greet(JOINING, [2], lambda contents: [Answer(node=2, failure=failure)])
    assert found == {2: failure}
    told = found[2]
    assert told is not None
    assert (told.ahead, told.away) == (kind == "NewerRosterError", kind != "NewerRosterError")


def test_a_node_keeps_the_ledgers_of_the_site_that_it_was() -> None:
    memory = LedgerMemory(keys={2: ROSTER.members[0].key})
    memory.bind(2, ROSTER.members[0].key)
    memory.bind(3, ROSTER.members[1].key)
    for node in (2, 3):
        with pytest.raises(ProtocolError, match="another site than the one whose ledger"):
            memory.bind(node, ROSTER.members[2].key)
