"""Times that go back: told where it is more than a clock's correction, and never a failure."""

from datetime import datetime, timedelta

import pytest

from fedmodel.audit.verdicts import Verdict
from tests.fedmodel.audit.conftest import Forge, findings_of
from tests.fedmodel.audit.forged import Forged

SITE, COORDINATOR = "ledger-times", "coordinator-times"
FORM = "%Y-%m-%dT%H:%M:%SZ"


def timed(forged: Forged, name: str, times: list[str]) -> None:
    """Write a ledger whose last lines say such times."""
    ledger = forged.coordinator if name == COORDINATOR else None
    entries = forged.entries() if ledger is None else ledger.entries()
    for entry, time in zip(entries[-len(times) :], times, strict=True):
        entry["time"] = time
    if ledger is None:
        forged.write("site-1", entries)
    else:
        ledger.write(entries)


def after(*seconds: int) -> list[str]:
    begin = datetime(2031, 1, 1)
    return [(begin + timedelta(seconds=each)).strftime(FORM) for each in seconds]


@pytest.mark.parametrize(
    ("name", "times", "verdict", "why"),
    [
        (SITE, after(2000, 1000, 3000), Verdict.PASS, "it went back by 1000 s at most"),
        (SITE, after(2000, 999, 3000), Verdict.INCONCLUSIVE, "the clock was set back by more"),
        (SITE, after(2000, 1400, 800), Verdict.INCONCLUSIVE, "the clock was set back by more"),
        (SITE, ["2031-02-31T00:00:00Z", *after(0)], Verdict.INCONCLUSIVE, "says another time"),
        (COORDINATOR, after(2000, 999, 3000), Verdict.INCONCLUSIVE, "the clock was set back by"),
    ],
)
def test_a_clock_that_was_set_back_is_told(
    forge: Forge, name: str, times: list[str], verdict: Verdict, why: str
) -> None:
    forged = forge()
    timed(forged, name, times)
    findings = findings_of(forged.path)
    assert findings.count(Verdict.FAIL) == 0
    party = "coordinator" if name == COORDINATOR else "site site-1"
    (check,) = (c for c in findings.checks["chain"] if (c.name, c.party) == (name, party))
    assert (check.verdict, why in check.reason) == (verdict, True), check
    if verdict == Verdict.INCONCLUSIVE:
        entries = forged.entries() if name == SITE else forged.coordinator.entries()
        at = int((check.entry or "").rpartition(" ")[2])
        assert entries[at - 1]["time"] < max(times)
