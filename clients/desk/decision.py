"""Decisions on offered jobs: signed, each about one run of one job and the page that was shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError, RunFolderError
from fedmodel.identity import SigningKey
from fedmodel.ledger.grounds import DECISION

__all__ = [
    "Decision",
    "Signed",
    "Verdict",
    "approvals",
    "approvers",
    "parse_decisions",
    "until",
    "written",
]

Verdict: TypeAlias = Literal["approved", "refused", "revoked"]

_SCHEMA: Literal["fedmodel.decision/1"] = "fedmodel.decision/1"
_LARGEST = 1 << 16  # bytes of a file of decisions
_LONGEST = 2000  # characters of a reason
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MOST = timedelta(days=3660)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody said of one run of one job.

    Args:
        run: its name.
        job: SHA-256 (hex) of the job.
        page: SHA-256 (hex) of the page that was shown, as JSON.
        verdict: what was said.
        why: in whose words it may be; for people.
        at: when, UTC (ISO 8601).
        expires: of an approval: until when the run may work here, UTC (ISO 8601).
    """

    run: str
    job: str
    page: str
    verdict: Verdict
    why: str = ""
    at: str
    expires: str | None = None

    def __post_init__(self) -> None:
        for name in ("job", "page"):
            config.require_hex(name, getattr(self, name), 64)
        if len(self.why) > _LONGEST:
            raise ConfigError(
                f"why has {len(self.why)} characters, more than {_LONGEST}; say it in fewer"
            )
        instant(self.at)
        if (self.expires is None) == (self.verdict == "approved"):
            raise ConfigError("an approval expires, and nothing else does")
        if self.expires is not None:
            instant(self.expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A decision with the signature of whoever took it.

    Args:
        decision: what was said.
        key: public Ed25519 key (RFC 8032), hex.
        signature: over the decision, hex.
    """

    decision: Decision
    key: str
    signature: str

    def __post_init__(self) -> None:
        config.require_hex("a decision's key", self.key, 64)
        config.require_hex("a decision's signature", self.signature, 128)

    @classmethod
    def by(cls, signer: SigningKey, decision: Decision) -> "Signed":
        """Sign a decision."""
        made = signer.sign(_message(decision)).hex()
        return cls(decision=decision, key=signer.public.hex(), signature=made)

    def check(self) -> None:
        """Check the signature.

        Raises:
            ProtocolError: when it isn't the key's over this decision.
        """
        _hazmat.ed25519_verify(
            bytes.fromhex(self.key), _message(self.decision), bytes.fromhex(self.signature)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema: Literal["fedmodel.decision/1"] = _SCHEMA
    decisions: tuple[Signed, ...] = ()


def _message(decision: Decision) -> bytes:
    return DECISION + config.canonical(decision)


def written(decisions: Sequence[Signed]) -> bytes:
    """Return the file of some decisions on one run of one job, in the order they were taken.

    Raises:
        ConfigError: when it would be too large to be read.
    """
    text = config.canonical(_File(decisions=tuple(decisions))) + b"\n"
    if len(text) > _LARGEST:
        raise ConfigError(
            f"the decisions on one run take {len(text)} bytes, more than {_LARGEST}; ask for the "
            "job to be offered as another run"
        )
    return text


def parse_decisions(text: bytes, keys: Sequence[bytes]) -> list[Signed]:
    """Return the decisions in a file, each of somebody who may decide.

    Args:
        text: any bytes.
        keys: public Ed25519 keys of those who may, 32 bytes each.

    Raises:
        RunFolderError: when it isn't such a file, or a decision was changed or is another's.
    """
    if len(text) > _LARGEST:
        raise RunFolderError(f"a file of decisions has at most {_LARGEST} bytes, got {len(text)}")
    try:
        found = config.parse(lambda plain: config.build(_File, plain), text.removesuffix(b"\n"))
        for signed in found.decisions:
            if bytes.fromhex(signed.key) not in keys:
                raise ConfigError(f"the key {signed.key[:16]}… is of nobody who may decide here")
            signed.check()
    except (ConfigError, ProtocolError) as error:
        raise RunFolderError(f"not decisions of this site: {error}") from error
    return list(found.decisions)


def approvers(decisions: Sequence[Signed], now: datetime) -> set[str]:
    """Return the keys whose approval holds: not expired, and nobody has said no after it."""
    return {key for key, end in _ends(decisions).items() if now < end}


def approvals(decisions: Sequence[Signed], now: datetime) -> list[Signed]:
    """Return the approvals that hold, one of each key: the last that it gave."""
    keys = approvers(decisions, now)
    last = {each.key: each for each in decisions if each.key in keys}
    return list(last.values())


def lasts(decisions: Sequence[Signed], needed: int) -> datetime | None:
    """Return until when as many approvals as are needed hold; ``None`` for fewer."""
    ends = sorted(_ends(decisions).values(), reverse=True)
    return ends[needed - 1] if len(ends) >= needed else None


def _ends(decisions: Sequence[Signed]) -> dict[str, datetime]:
    """Return until when each key's approval holds, of those after whom nobody has said no."""
    ends: dict[str, datetime] = {}
    for signed in decisions:
        decision = signed.decision
        if decision.verdict != "approved":
            ends.clear()
        elif decision.expires is not None:
            ends[signed.key] = instant(decision.expires)
        else:
            ends.pop(signed.key, None)
    return ends


def instant(text: str) -> datetime:
    """Return the moment that a decision names.

    Raises:
        ConfigError: when it names none, or not in UTC.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo != UTC:
        raise ConfigError(
            f"expected a moment in UTC such as 2026-12-31T23:59:59+00:00, got {text!r:.40}"
        )
    return found


def until(text: str, now: datetime) -> datetime:
    """Return when something expires: ``12h``, ``14d``, ``2w``, or the end of a day ``2026-12-31``.

    Raises:
        ConfigError: for another text, a moment that is past, or one that is ten years away.
    """
    number, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        if unit is not None and number.isdecimal() and len(number) < 6:
            found = now + int(number) * unit
        else:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            found = day + timedelta(days=1, seconds=-1)
    except ValueError:
        raise ConfigError(
            f"expires={text!r:.40} isn't a time; expected hours, days or weeks from now (12h, 14d, "
            "2w), or the last day, such as 2026-12-31"
        ) from None
    if not now < found <= now + _MOST:
        raise ConfigError(
            f"expires={text} is {found:%Y-%m-%d %H:%M} UTC; expected a time after now, "
            f"{now:%Y-%m-%d %H:%M}, and within ten years"
        )
    return found
