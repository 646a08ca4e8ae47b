"""Greetings: a coordinator asks a node who it is, and the node's site answers with its signature.

The question is a fresh one, the joining that begins with it, so no answer to another will do; the
node is in what is signed, so no node can pass on another's answer as its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from fedmodel import _hazmat, config
from fedmodel.errors import ProtocolError
from fedmodel.identity import Roster
from fedmodel.wire.records import VERSION, checked_field, checked_record, named_run

__all__ = ["HELLO", "Hello", "answer_hello", "answered_hello", "decode_hello", "encode_hello"]

HELLO = "query.hello"
"""Type of the message that asks."""

_DOMAIN = b"fedmodel.hello/1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a coordinator asks a node.

    Args:
        run: names the run.
        joining: names the joining that begins, 256 random bits, hex: the challenge.
        roster: SHA-256 (hex) of the coordinator's roster.
        edition: of that roster (:attr:`fedmodel.identity.Roster.edition`).
    """

    run: str
    joining: str
    roster: str
    edition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presence:
    """What a site signs: who it is, by which node, in which joining, by which roster."""

    run: str
    joining: str
    roster: str
    member: int
    node: str


def encode_hello(hello: Hello) -> RecordDict:
    """Return the content that asks a node who it is."""
    record = ConfigRecord({"version": VERSION, "run": hello.run, "joining": hello.joining})
    record["roster"], record["edition"] = hello.roster, hello.edition
    return RecordDict({"config": record})


def decode_hello(content: RecordDict) -> Hello:
    """Return what a node is asked.

    Raises:
        ProtocolError: if it is malformed.
    """
    record = checked_record(content)
    joining, roster = (checked_field(record, name, str) for name in ("joining", "roster"))
    edition: int = checked_field(record, "edition", int)
    return Hello(run=named_run(record), joining=joining, roster=roster, edition=edition)


def answer_hello(
    hello: Hello, member: int, node: int, sign: Callable[[bytes], bytes]
) -> RecordDict:
    """Return the answer of a site.

    Args:
        hello: what was asked.
        member: its number in the roster.
        node: by which it is spoken to.
        sign: its identity (:meth:`fedmodel.identity.SigningKey.sign`).
    """
    record = ConfigRecord({"version": VERSION, "member": member})
    record["signature"] = sign(_signed(hello, member, node))
    return RecordDict({"config": record})


def answered_hello(content: RecordDict, hello: Hello, roster: Roster, node: int) -> int:
    """Return the number of the site that a node is of, once its signature has verified.

    Args:
        content: of the answer.
        hello: what was asked.
        roster: the coordinator's copy.
        node: that answered.

    Raises:
        ProtocolError: if it is malformed, or not signed by the member that it names, for this
            joining and node.
    """
    record = checked_record(content)
    member: int = checked_field(record, "member", int)
    key = bytes.fromhex(roster.member(member).key)
    signature: bytes = checked_field(record, "signature", bytes)
    try:
        _hazmat.ed25519_verify(key, _signed(hello, member, node), signature)
    except ProtocolError as error:
        raise ProtocolError(
            f"it says that it is '{roster.member(member).name}', but hasn't signed this joining as "
            "that site at this node; compare the parties' rosters, and that the site has its key"
        ) from error
    return member


def _signed(hello: Hello, member: int, node: int) -> bytes:
    told = _Presence(
        run=hello.run,
        joining=hello.joining,
        roster=hello.roster,
        member=member,
        node=str(node),  # Flower's ids are larger than the whole numbers that JSON is sure of
    )
    return _DOMAIN + config.canonical(told)
