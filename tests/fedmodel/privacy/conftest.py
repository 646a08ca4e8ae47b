"""What the privacy tests share."""

import pytest

from fedmodel.privacy import Plan


@pytest.fixture
def plan() -> Plan:
    return Plan(
        unit="record",
        adjacency="add-remove",
        mechanism="dpsgd",
        clip=0.5,
        noise_multiplier=1.25,
        rate=0.1,
        steps=40,
        delta=1e-5,
        epsilon=6.0,
        expected_batch=8,
    )
