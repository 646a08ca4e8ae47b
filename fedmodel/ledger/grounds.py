"""Grounds of a reservation: what a site had before it when it let a job begin."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError
from fedmodel.ledger.caps import Caps, CapUnit
from fedmodel.ledger.fields import real, require_counts, require_reals

__all__ = ["DECISION", "Approval", "CapsInForce", "Grounds"]

DECISION = b"fedmodel.decision/1\0"
"""Goes before a decision's canonical JSON in what is signed: so it is taken for nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval of a run by one of the site's people.

    Args:
        decision: what they signed, as plain data: run, job, the page they were shown, verdict, when
            and until when it holds, and why in their own words.
        key: public Ed25519 key (RFC 8032), hex.
        signature: over :data:`DECISION` and the decision's canonical JSON, hex.
    """

    decision: Mapping[str, Any]
    key: str
    signature: str

    def __post_init__(self) -> None:
        config.require_hex("an approval's key", self.key, 64)
        config.require_hex("an approval's signature", self.signature, 128)

    def check(self, run: str, job: str) -> None:
        """Check that it is a signed approval of a run and its job.

        Args:
            run: its name.
            job: SHA-256 (hex) of the job.

        Raises:
            ConfigError: when it is of another run or job, or says no.
            ProtocolError: when it isn't signed by its key.
        """
        said = {"run": run, "job": job, "verdict": "approved"}
        found = {name: self.decision.get(name) for name in said}
        if found != said:
            raise ConfigError(f"expected an approval of {said}, got {found!s:.200}")
        message = DECISION + config.canonical(self.decision)
        signature = bytes.fromhex(self.signature)
        _hazmat.ed25519_verify(bytes.fromhex(self.key), message, signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsInForce:
    """A site's caps (:class:`fedmodel.ledger.caps.Caps`) as its ledger writes them.

    Args:
        epsilon: of everything that is ever spent on the dataset; ``None``: no limit.
        delta: δ it holds at; ``None``: the smallest δ of all that counts.
        run_epsilon: of one run; ``None``: no limit but its job's.
        unit: whom the limits are about.
    """

    epsilon: str | None = None
    delta: str | None = None
    run_epsilon: str | None = None
    unit: CapUnit = "record"

    def __post_init__(self) -> None:
        names = ("epsilon", "delta", "run_epsilon")
        require_reals(self, *(name for name in names if getattr(self, name) is not None))

    @classmethod
    def of(cls, caps: Caps) -> "CapsInForce":
        """Return caps as a ledger writes them."""

        def text(value: float | None) -> str | None:
            return None if value is None else real(value)

        return cls(
            epsilon=text(caps.epsilon),
            delta=text(caps.delta),
            run_epsilon=text(caps.run_epsilon),
            unit=caps.unit,
        )

    def caps(self) -> Caps:
        """Return the caps."""

        def number(text: str | None) -> float | None:
            return None if text is None else float(text)

        return Caps(
            epsilon=number(self.epsilon),
            delta=number(self.delta),
            run_epsilon=number(self.run_epsilon),
            unit=self.unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a site had before it when it reserved for a job. None of it is about rows.

    Args:
        agreed: the job, whole, as plain data in the format that it names itself.
        divisor: public number by which each noised sum is divided; of a sum over sites, times
            their number.
        packages: name → version, of those that decide what a run computes.
        preflight: ``passed``: before the first step each unit's gradient was held against plain
            autograd, on made-up rows; ``none``: the job clips no unit's gradient, so there is
            nothing to check.
        caps: of the dataset, as they were then.
        policy: SHA-256 (hex) of the canonical JSON of the site's whole policy, as it was then.
        needed: how many of the site's people must have approved the run; 0: they aren't asked.
        approved: their approvals that held then.
    """

    agreed: Mapping[str, Any]
    divisor: int
    packages: Mapping[str, str]
    preflight: Literal["passed", "none"]
    caps: CapsInForce
    policy: str
    needed: int
    approved: tuple[Approval, ...] = ()

    def __post_init__(self) -> None:
        config.require_hex("policy", self.policy, 64)
        require_counts(self, "needed")
        if self.divisor < 1:
            raise ConfigError(f"divisor must be at least 1, got {self.divisor}")

    def require_job(self, job: str) -> None:
        """Check that they are those of a job.

        Args:
            job: its SHA-256 (hex).

        Raises:
            ConfigError: when ``agreed`` is another.
        """
        found = config.digest(self.agreed)
        if found != job:
            raise ConfigError(f"the agreed job's SHA-256 is {found[:16]}…, expected {job[:16]}…")
