"""Times: whether a party's lines were written in the order of their times, as far as clocks go.

A clock is set back in all honesty: by its time service, by a machine that goes on from an earlier
state, by whoever mends a wrong one. So a time that goes back refutes nothing. It is told, for what
holds until some time (an approval, a policy) goes by these times alone.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import Outcome, Rule, inconclusive, not_tested, passed

__all__ = ["COORDINATOR", "SITE"]

_CORRECTED = 1000  # seconds that NTP's reference program sets a clock by without being told to
_FORM = "%Y-%m-%dT%H:%M:%SZ"


class _Timed(Protocol):
    @property
    def time(self) -> str: ...

    @property
    def seq(self) -> int: ...


def _of_coordinator(_: Records, ledger: CoordinatorReading) -> Outcome:
    return _in_order(ledger.entries, ledger.name)


def _of_site(_: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    return not_tested("no ledger") if ledger is None else _in_order(ledger.entries, ledger.name)


def _in_order(entries: Iterable[_Timed], name: str) -> Outcome:
    """Hold each time against the newest before it: many small steps back are one large one."""
    newest, most = "", 0.0
    for entry in entries:
        if entry.time >= newest:  # of one form, so that they sort as text
            newest = entry.time
            continue
        back = _seconds(newest, entry.time)
        if back > _CORRECTED:
            return inconclusive(
                f"its time is {entry.time}, and a line before it has {newest}: the clock was set "
                f"back by more than {_CORRECTED} s, which is more than a time service does by "
                "itself, or a line says another time than it was written at. The party can tell; "
                "whether approvals and caps held at these times is as good as they are",
                f"{name}, line {entry.seq + 1}",
            )
        most = max(most, back)
    return passed(f"it went back by {most:g} s at most, as clocks are set" if most else "")


def _seconds(newest: str, time: str) -> float:
    """Return how many seconds lie between two times; any number where one is no time."""
    try:
        between = datetime.strptime(newest, _FORM) - datetime.strptime(time, _FORM)
    except ValueError:
        return float("inf")
    return between.total_seconds()


SITE = (
    Rule(
        name="ledger-times",
        says=f"No line of a ledger is earlier than one before it by more than {_CORRECTED} s, by "
        "its site's clock. A clock may be set back, so this never fails: it is inconclusive then.",
        site=_of_site,
    ),
)
COORDINATOR = (
    Rule(
        name="coordinator-times",
        says="Likewise of the coordinator's ledger, by its clock.",
        coordinator=_of_coordinator,
    ),
)
