"""The coordinator's voice: it signs what goes to each site, once it knows which node is which."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.wire import HELLO, Content, Failure, Hello, Instruction
from server.answers import Answer

__all__ = ["Moment", "Voice"]


@dataclass(frozen=True, slots=True)
class Moment:
    """When in a run something is said.

    Args:
        round: of the run; 0: in none.
        attempt: of the round; 0: there is one only.
    """

    round: int = 0
    attempt: int = 0


@dataclass(slots=True)
class Voice:
    """What a coordinator says in one run, under its signature.

    Args:
        keys: its own, and the roster.
        run: names the run.
        job: SHA-256 (hex) of its job.
        joining: names the joining that goes on; empty before the first.
        members: node → number in the roster of the site that has answered there.
    """

    keys: CoordinatorKeys
    run: str
    job: str
    joining: str = ""
    members: dict[int, int] = field(default_factory=dict)
    _roster: str = ""

    def __post_init__(self) -> None:
        self._roster = self.keys.roster.sha256

    def greet(
        self, joining: str, nodes: list[int], ask: Callable[[dict[int, Content]], list[Answer]]
    ) -> dict[int, Failure | None]:
        """Ask nodes who they are; a joining begins with it, or goes on with more nodes.

        Which node is which site follows from the site's signature over the joining and the node.
        Of two nodes that have signed as the same site neither is believed.

        Args:
            joining: names it, 256 random bits, hex: none of them has signed it before.
            nodes: that are asked.
            ask: sends each its content.

        Returns:
            Node → ``None`` where it is known, or why not.
        """
        if joining != self.joining:
            self.joining, self.members = joining, {}
        edition = self.keys.roster.edition
        hello = Hello(run=self.run, joining=joining, roster=self._roster, edition=edition)
        asked = {node: self._signed(HELLO, wire.encode_hello(hello), 0, Moment()) for node in nodes}
        answers = {answer.node: answer for answer in ask(asked)}
        found: dict[int, int | Failure] = {
            node: self._read(node, hello, answers.get(node)) for node in nodes
        }
        times = Counter(who for who in found.values() if isinstance(who, int))
        times.update(self.members.values())
        for node, who in found.items():
            if isinstance(who, int) and times[who] > 1:
                name = self.keys.roster.member(who).name
                why = f"{times[who]} nodes have signed as {name!r}; let it run one process"
                found[node] = Failure(reason=why)
        self.members |= {node: who for node, who in found.items() if isinstance(who, int)}
        return {node: None if isinstance(who, int) else who for node, who in found.items()}

    def sign(self, kind: str, node: int, content: Content, at: Moment) -> Content:
        """Sign what a node is sent, and return it.

        Args:
            kind: of message.
            node: that has answered a greeting.
            content: of the message.
            at: when.
        """
        return self._signed(kind, content, self.members[node], at)

    def _signed(self, kind: str, content: Content, member: int, at: Moment) -> Content:
        instruction = Instruction(
            kind=kind,
            run=self.run,
            job=self.job,
            roster=self._roster,
            joining=self.joining,
            member=member,
            round=at.round,
            attempt=at.attempt,
        )
        return wire.sign_content(content, instruction, self.keys.signer.sign)

    def _read(self, node: int, hello: Hello, answer: Answer | None) -> int | Failure:
        if answer is None:
            return Failure(reason="no answer in time")
        if (failure := answer.failure) is not None:
            # Whoever it is that says so: the kind counts where somebody can do something about it.
            return failure if failure.ahead else Failure(reason=failure.reason)
        if answer.content is None:
            return Failure(reason="no answer")
        try:
            return wire.answered_hello(answer.content, hello, self.keys.roster, node)
        except ProtocolError as error:
            return Failure(reason=f"malformed answer: {error}")
