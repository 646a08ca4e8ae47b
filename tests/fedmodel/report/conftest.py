"""Summaries that the tests of reports are about."""

from dataclasses import replace
from typing import Any

from fedmodel.runs import (
    Hiding,
    PrivacySummary,
    ReleasedAccuracy,
    RunTime,
    SiteLedger,
    SiteSummary,
    Summary,
    Traffic,
)

PLAIN = Summary(
    job_sha256="0f" * 32,
    rounds=7,
    stopped=None,
    test="public",
    final={"accuracy": 0.91234, "macro_f1": 0.5, "loss": 0.25, "majority": 0.5},
    released=None,
    privacy=PrivacySummary(
        mechanism="none",
        unit="record",
        adjacency="add-remove",
        delta=None,
        epsilon=None,
        adversaries={},
        noise_to_signal=None,
        sites={"north": SiteSummary(epsilon=None, steps=14, refused=None)},
    ),
    secagg=Hiding(mode="off"),
    notes=(),
    time=RunTime(total_s=3.0, train_s=2.0, overhead_s=1.0),
    traffic=Traffic(bytes_up=2_000_000, bytes_down=4_000_000),
)

RELEASED = ReleasedAccuracy(
    accuracy=0.87654, standard_error=0.0321, rows=310, noise_std=22.0, sites=2, failures={}
)


def site(epsilon: float, **changes: Any) -> SiteSummary:
    """Return what a run cost a site whose ledger begins with it."""
    made = SiteSummary(epsilon=epsilon, epsilon_total=epsilon, steps=14, refused=None)
    return replace(made, **changes)


def private(**changes: Any) -> Summary:
    """Return the summary of a private run of two sites; what is given is of its privacy."""
    made: dict[str, Any] = {"mechanism": "dpsgd", "delta": 1e-5, "epsilon": 2.98}
    made |= {"sites": {"north": site(2.98), "south": site(1.5)}} | changes
    return replace(PLAIN, privacy=replace(PLAIN.privacy, **made))


def served() -> Summary:
    """Return the summary of a private run whose coordinator knows no site's own figures."""
    ledger = SiteLedger(entries=9, root="ab" * 32, time="2026-01-31T12:00:00Z")
    sites = {
        "north": SiteSummary(epsilon=3.0, steps=14, refused=None, rounds=7, ledger=ledger),
        "south": SiteSummary(epsilon=0.0, steps=0, refused="it waits for approval", rounds=0),
    }
    made = private(epsilon=3.0, sites=sites, basis="plan")
    return replace(made, time=RunTime(total_s=3.0), traffic=None)
