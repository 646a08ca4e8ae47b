"""Circumstances of an offer: what a site's policy looks at besides the job, and its rules on it.

Nothing here is about rows, so an answer by one of these rules may travel as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from clients.limits import Exceeded, Limits
from fedmodel._paths import source_digest
from fedmodel.errors import RefusedError
from fedmodel.identity.validity import utc_now

__all__ = ["Circumstances", "beyond", "check_checkpoint", "check_dates"]

_SHOWN = 3  # digests in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What comes with a job.

    Args:
        base: SHA-256 (hex) of each file of the base model's weights, as the offer says. The site
            holds its own files against its policy, too (:func:`check_checkpoint`).
        version: of fedmodel at this site.
        sources: SHA-256 (hex) of this site's sources; an offer of other sources isn't read at all.
        now: the time, UTC.
        offers: how many new offers there are within 24 hours, with this one; 0 where it isn't new.
    """

    base: tuple[str, ...] = ()
    version: str = field(default_factory=lambda: version("fedmodel"))
    sources: str = field(default_factory=source_digest)
    now: datetime = field(default_factory=utc_now)
    offers: int = 0


def beyond(offered: Circumstances, limits: Limits) -> Iterator[Exceeded]:
    """Yield every limit that the circumstances of an offer go beyond.

    Args:
        offered: the circumstances.
        limits: of the site.
    """
    yield from _base(offered.base, limits)
    code = limits.code
    if code is not None and offered.version not in code and offered.sources not in code:
        asked = f"fedmodel {offered.version}, sources {offered.sources}"
        yield Exceeded(limit="policy.code", asked=asked, allowed=_listed(code))
    yield from _dates(offered.now, limits)
    if limits.offers is not None and offered.offers > limits.offers:
        asked = "one more within 24 hours"
        yield Exceeded(limit="policy.offers", asked=asked, allowed=str(limits.offers))


def check_dates(limits: Limits, now: datetime) -> None:
    """Check that a policy holds now: it may have ended since a run was joined.

    Raises:
        RefusedError: when it doesn't.
    """
    for each in _dates(now, limits):
        raise RefusedError(str(each))


def check_checkpoint(found: tuple[str, ...], limits: Limits) -> None:
    """Check the files that the site itself has read, whatever the offer says of them.

    Args:
        found: SHA-256 (hex) of each.
        limits: of the site.

    Raises:
        RefusedError: when the policy doesn't allow them.
    """
    for _ in _base(found, limits):
        # What the files at the site are isn't for the coordinator to hear.
        raise RefusedError(
            "this site's policy allows base models by digest (policy.bases), and its own files of "
            "this job's model aren't among them"
        )


def _base(base: tuple[str, ...], limits: Limits) -> Iterator[Exceeded]:
    if limits.bases is None or (base and set(base) <= set(limits.bases)):
        return
    other = [each for each in base if each not in limits.bases]
    asked = f"a base model of {_listed(other)}" if other else "a base model of no known files"
    yield Exceeded(limit="policy.bases", asked=asked, allowed=_listed(limits.bases))


def _dates(now: datetime, limits: Limits) -> Iterator[Exceeded]:
    here = now.astimezone(UTC)
    asked = f"an answer at {here:%Y-%m-%d %H:%M} UTC"
    first, last = limits.first_day, limits.last_day
    if first is not None and here.date() < first:
        yield Exceeded(limit="policy.begins", asked=asked, allowed=str(limits.begins))
    if last is not None and here.date() > last:
        yield Exceeded(limit="policy.ends", asked=asked, allowed=str(limits.ends))


def _listed(names: list[str] | tuple[str, ...]) -> str:
    shown = [name if len(name) < 64 else f"{name[:16]}…" for name in names[:_SHOWN]]
    more = f",… ({len(names)})" if len(names) > _SHOWN else ""
    return f"[{','.join(shown)}{more}]"
