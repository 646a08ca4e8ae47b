"""Four sites of which one is real, spoken to through its app; the other three are played here."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict

from clients.exchange.summed import Summed
from fedmodel import wire
from fedmodel._hazmat import x25519_public
from fedmodel.agreement import Facts, complete, complete_model
from fedmodel.data import Rows
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.job import (
    Job,
    Proposal,
    ProposedModel,
    ProposedPrivacy,
    ProposedSecAgg,
    Train,
)
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.participant import Participant
from fedmodel.seeds import Entropy, Seed
from fedmodel.training.learner import network
from tests.clients.talk import Speaker, make_site
from tests.jobs import CPU, make_job

COUNT = 4
TEXTS = [f"note {i} of {'fever' if i % 2 else 'pain'}" for i in range(16)]
ROWS = Rows(TEXTS, ["ab"[i % 2] for i in range(16)])
SIGNER, PRIVATE = SigningKey(b"\1" * 32), b"\5" * 32
OTHERS = {n: SigningKey(bytes([n]) * 32) for n in range(2, COUNT + 1)}


def job_of(mode: Any = "on", privacy: ProposedPrivacy | None = None, **parts: Any) -> Job:
    """Return the job of four sites, completed as a coordinator and the sites would."""
    proposal = Proposal(
        model=ProposedModel(max_length=16),
        train=Train(method="head", rounds=3, steps=1, batch_size=8),
        privacy=privacy or ProposedPrivacy(),
        secagg=ProposedSecAgg(mode=mode, **parts.pop("secagg", {})),
        **parts,
    )
    facts = Facts(labels=("a", "b"), weights="", units=(16,) * COUNT, rows=63, public_test=True)
    model = complete_model(proposal, facts)
    weights = network(model, proposal.train, Seed(0), CPU).digest
    return complete(proposal, replace(facts, weights=weights))


RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5)
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=3.0, delta=1e-3, rate=0.5)
WHOLE = ProposedPrivacy(
    mechanism="site", unit="site", epsilon=3.0, delta=1e-3, rate=1.0, evaluation="suppressed"
)


class Talk(Speaker):
    """Says things to site 1 of four, as a coordinator would; the other three are played here.

    Args:
        folder: of the site's state.
        bystanders: sites that are on the roster as well, and take no part.
        changed: of the site.
    """

    def __init__(self, folder: Path, bystanders: int = 0, **changed: Any) -> None:
        site = make_site(folder, ROWS)
        members = [Member(name="north", key=site.state.key.public.hex())]
        members += [Member(name=f"s{n}", key=k.public.hex()) for n, k in OTHERS.items()]
        idle = (SigningKey(bytes([100 + n]) * 32) for n in range(bystanders))
        members += [Member(name=f"idle{n}", key=k.public.hex()) for n, k in enumerate(idle)]
        self.roster = Roster(
            coordinator=SIGNER.public.hex(),
            seal=x25519_public(PRIVATE).hex(),
            members=tuple(members),
        )
        super().__init__(replace(site, **{"roster": self.roster} | changed), make_job())
        self.others: dict[int, Participant] = {}

    def restart(self, **changed: Any) -> None:
        super().restart(**changed)
        self.session = ""
        self.at = (0, 0)

    def send(self, kind: str, content: RecordDict, /, **signed: Any) -> Message:
        """Say something as the coordinator of the site's roster does: signed."""
        if self.site.roster is None:
            return super().send(kind, content)
        if not self.session and kind != "query.hello":
            refused = self.greet()
            if refused.has_error():
                return refused
        round_, attempt = self.at
        if not round_:
            record = dict(content.config_records["config"])
            round_ = int(str(record.get("round", 0)))
        instruction: dict[str, Any] = {
            "kind": kind,
            "run": self.run_name,
            "job": self.job.sha256,
            "roster": self.site.roster.sha256,
            "joining": self.session,
            "member": 0 if kind == "query.hello" else 1,
            "round": round_,
            "attempt": attempt,
        }
        wire.sign_content(content, wire.Instruction(**instruction | signed), SIGNER.sign)
        return super().send(kind, content)

    def greet(self, session: str = "") -> Message:
        """Begin a joining: ask the site who it is."""
        self.session, self.at = session or Entropy().bytes(32).hex(), (0, 0)
        roster = (self.site.roster or self.roster).sha256
        hello = wire.Hello(run=self.run_name, joining=self.session, roster=roster)
        return self.send("query.hello", wire.encode_hello(hello))

    def tell(self, kind: str, data: bytes) -> bytes:
        reply = self.send(kind, wire.add_parcel(wire.encode_reply(), "secagg", data))
        if reply.has_error():
            raise AssertionError(reply.error.reason)
        return wire.parcel(reply.content, "secagg").tobytes()

    def why(self, kind: str, content: RecordDict | bytes) -> str:
        if isinstance(content, bytes):
            content = wire.add_parcel(wire.encode_reply(), "secagg", content)
        reply = self.send(kind, content)
        assert reply.has_error()
        return reply.error.reason or ""

    def offer(self, job: Job, joining: str | None = None) -> Message:
        self.job = job
        if self.site.roster is not None and (refused := self.greet()).has_error():
            return refused
        return self.join(job, joining=self.session if joining is None else joining)

    @property
    def initial(self) -> Any:
        return self.learner.initial

    @property
    def summed(self) -> Summed:
        """The site's end of the secure sums."""
        exchange = self.run.exchange
        assert isinstance(exchange, Summed)
        return exchange

    def begin(self, job: Job) -> Aggregator:
        """Join, and let all others join too."""
        reply = self.offer(job)
        assert not reply.has_error(), reply.error
        self.agreement = Agreement.of(
            job.secagg.masked,
            session=self.session,
            job=job.sha256,
            roster=self.roster.sha256,
            rounds=job.train.rounds,
            count=self.summed.participant.agreement.count,
        )
        protocol = Aggregator(agreement=self.agreement, members=self.roster.keys, sign=SIGNER.sign)
        assert protocol.take_advert(wire.parcel(reply.content, "secagg").tobytes()) == 1
        for n, key in OTHERS.items():
            self.others[n] = Participant(
                member=n,
                agreement=self.agreement,
                members=self.roster.keys,
                coordinator=SIGNER.public,
                floors=Floors(),
                sign=key.sign,
                entropy=Entropy(),
            )
            protocol.take_advert(self.others[n].advert())
        return protocol

    def open(self, protocol: Aggregator, round_: int = 1, number: int = 1) -> Attempt:
        model = hashlib.sha256(self.initial.astype("<f4")).hexdigest()
        self.at = (round_, number)
        attempt = protocol.begin(round=round_, attempt=number, model=model, cohort=range(1, 5))
        attempt.take_shares(1, self.tell("query.open", attempt.open_for(1)))
        for n, other in self.others.items():
            attempt.take_shares(n, other.open(attempt.open_for(n)))
        attempt.close_shares()
        return attempt

    def order(self, attempt: Attempt, round_: int = 1, **change: Any) -> RecordDict:
        vector = change.get("vector", self.initial)
        entries = change.get("entries", 0)
        content = wire.encode_order(
            self.run_name, round_, self.job.sha256, wire.pack(vector), entries
        )
        return wire.add_parcel(content, "secagg", attempt.deliver_for(1))

    def upload(self, attempt: Attempt, reply: Message, zero: Any) -> None:
        assert not reply.has_error(), reply.error
        packed = wire.parcel(reply.content, "masked")
        attempt.take_upload(1, wire.parcel(reply.content, "secagg").tobytes(), packed)
        for n, other in self.others.items():
            other.deliver(attempt.deliver_for(n))
            attempt.take_upload(n, *other.upload(zero))
        attempt.close_uploads()

    def reveal(self, attempt: Attempt) -> Any:
        told = attempt.survivors_message()
        attempt.take_consent(1, self.tell("query.consent", told))
        for n, other in self.others.items():
            attempt.take_consent(n, other.consent(told))
        attempt.close_consents()
        attempt.take_reveal(1, self.tell("query.reveal", attempt.request_for(1)))
        for n, other in self.others.items():
            attempt.take_reveal(n, other.reveal(attempt.request_for(n)))
        return attempt.total()


def nothing(start: int, stop: int, out: Any) -> None:
    out[:] = 0
