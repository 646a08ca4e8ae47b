"""What the privacy tests share."""

import pytest

from fedmodel.accounting.plan import Plan


@pytest.fixture
def plan() -> Plan:
    return Plan(
        unit="record",
        adjacency="add-remove",
        mechanism="dpsgd",
        clip=0.5,
        noise_multiplier=1.25,
        decay=1.0,
        rate=0.1,
        rounds=8,
        steps=5,
        delta=1e-5,
        epsilon=6.0,
        expected_batch=8,
        rows_per_patient=1,
        clipping="flat",
        clip_noise=10.0,
        evaluation_noise=None,
    )
