"""Gathering of sites, on a clock of the test's own."""

import logging

import pytest

from fedmodel.errors import UnavailableError
from server.gathering import gather

SITES = ["a", "b", "c"]


class Time:
    """A clock that only sleep moves, and who is there at a time."""

    def __init__(self, come: dict[float, str]) -> None:
        self.now, self.come = 0.0, come

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def present(self) -> list[str]:
        latest = max((t for t in self.come if t <= self.now), default=None)
        return [] if latest is None else list(self.come[latest])


def gathered(
    come: dict[float, str], needed: int = 2, wait: float | None = None, grace: float = 10.0
) -> float:
    time = Time(come)
    gather(
        time.present,
        SITES,
        needed,
        wait=wait,
        grace=grace,
        clock=lambda: time.now,
        sleep=time.sleep,
    )
    return time.now


@pytest.mark.parametrize(
    ("come", "wait", "begins"),
    [
        ({0.0: "abc"}, None, 0.0),  # all are there
        ({5.0: "ab"}, None, 15.0),  # enough, and no other for a while
        ({5.0: "ab", 12.0: "abc"}, None, 12.0),
        ({5.0: "ab", 9.0: "a", 100.0: "ab"}, None, 110.0),  # who goes again isn't counted
        ({5.0: "abx"}, None, 15.0),  # nor a stranger
        ({5.0: "ab"}, 8.0, 8.0),  # no longer than that
        ({0.0: "ab"}, 0.0, 0.0),
        ({3600.0: "abc"}, None, 3600.0),
    ],
)
def test_a_run_begins_when_all_are_there_or_enough(
    come: dict[float, str], wait: float | None, begins: float
) -> None:
    assert gathered(come, wait=wait) == pytest.approx(begins, abs=0.21)


def test_too_few_are_named_in_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(UnavailableError) as raised:
        gathered({1.0: "b", 2.0: "", 3.0: "c"}, wait=20.0)
    assert "1 of 3 sites came within wait=20 seconds, 2 are needed; awaited: a, b" in str(
        raised.value
    )
    assert [r.getMessage() for r in caplog.records] == [
        "0 of 3 sites are here (2 are needed); awaited: a, b, c",
        "1 of 3 sites are here (2 are needed): b; awaited: a, c",
        "0 of 3 sites are here (2 are needed); awaited: a, b, c",
        "1 of 3 sites are here (2 are needed): c; awaited: a, b",
    ]
