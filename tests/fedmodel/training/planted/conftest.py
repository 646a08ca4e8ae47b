"""What the planted bugs share: one small site."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fedmodel.seeds import Entropy, Seed
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from tests.fedmodel.training.planted.world import (
    LABELS,
    MODEL,
    PATIENTS,
    TEXTS,
    TRAIN,
    World,
    alone_of,
)


@pytest.fixture(scope="session")
def built() -> World:
    learner = Learner(MODEL, TRAIN, Seed(0), torch.device("cpu"))
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    start = (learner.initial + nudge).astype(np.float32)
    learner.load_vector(start)
    rows = prepare(learner, TEXTS, LABELS, MODEL.labels, 16)
    patients = prepare(learner, TEXTS, LABELS, MODEL.labels, 16, patients=PATIENTS)
    learner.module.train()
    return World(learner, rows, patients, start, alone_of(learner, rows), Entropy())


@pytest.fixture
def world(built: World, fake: Entropy) -> Iterator[World]:
    yield dataclasses.replace(built, entropy=fake)
    built.learner.preflights_passed.clear()
    for p in built.learner.module.parameters():  # what a refused step left behind
        p.grad = p.summed_grad = None  # type: ignore[attr-defined]
