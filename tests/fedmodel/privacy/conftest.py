"""What the privacy tests share."""

import hashlib

import pytest

from fedmodel.privacy import Plan
from fedmodel.seeds import Entropy


class FakeEntropy(Entropy):
    """Bytes that repeat from run to run, so that a statistical test can't flake."""

    def __init__(self, seed: int = 0) -> None:
        self._state = hashlib.sha256(str(seed).encode()).digest()

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self._state = hashlib.sha256(self._state).digest()
            out += self._state
        return out[:count]


@pytest.fixture
def fake() -> Entropy:
    return FakeEntropy()


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
