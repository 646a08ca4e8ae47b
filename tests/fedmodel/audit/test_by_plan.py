"""Figures that are the plan's word."""

import pytest

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_at
from fedmodel.audit import claims
from fedmodel.job import Job
from tests.fedmodel.audit.conftest import Forge, failures


def test_where_ledgers_are_here_the_plan_is_at_the_noise_that_they_have_reserved(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at what this version would calibrate today."""
    forged = forge("handed-shared")

    def calibrated(job: Job) -> Plan:
        return plan_at(job, 100.0)

    monkeypatch.setattr(claims, "plan_of", calibrated)
    assert failures(forged.path) == {}
