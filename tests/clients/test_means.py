"""A site's rounds of a head that starts from means: what may be sent to it, and what that costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmodel import wire
from fedmodel.heads.frame import Frame, HeadShape
from fedmodel.job import Job
from tests.clients.test_app import PRIVATE, Talk
from tests.jobs import real_job

MEANS: Job = real_job(
    model=replace(PRIVATE.model, head_bias=True),
    train=replace(PRIVATE.train, start="means", steps=1, rounds=5),
    privacy=PRIVATE.privacy,
)


def heads(size: int) -> dict[str, Any]:
    """Heads that no honest coordinator sends."""
    shape = HeadShape.of(size, len(MEANS.model.labels))
    rows = np.random.default_rng(0).normal(size=(shape.classes, shape.width))
    flat = np.ones(size, np.float32)
    return {
        "no scale": shape.vector(rows, np.zeros(shape.classes)),
        "a negative one": shape.vector(rows, np.full(shape.classes, -1.0)),
        "a huge one": shape.vector(rows, np.full(shape.classes, 1e9)),
        "huge rows": shape.vector(rows * 1e38, np.ones(shape.classes)),
        "a number that isn't one": flat * np.float32(np.nan),
    }


@pytest.mark.parametrize("what", list(heads(100 * 2 + 2)))
@pytest.mark.parametrize("round_", [2, 3])
def test_a_head_that_is_none_is_refused_before_anything_is_paid(
    what: str, round_: int, tmp_path: Path
) -> None:
    talk = Talk(tmp_path)
    assert not talk.join(MEANS).has_error()
    vector = wire.pack(heads(talk.learner.layout.total)[what])
    reply = talk.send("train", wire.encode_order("test", round_, MEANS.sha256, vector))
    assert reply.has_error()
    assert talk.spent() == 0
    # The site goes on: an honest order is done, and paid once.
    shape = HeadShape.of(talk.learner.layout.total, len(MEANS.model.labels))
    rows = np.zeros((shape.classes, shape.width))
    honest = Frame(np.full(shape.width, 0.01), 2.0).plain(shape, rows, np.zeros(shape.classes))
    order = wire.encode_order("test", round_, MEANS.sha256, wire.pack(honest))
    assert not talk.send("train", order).has_error()
    assert talk.spent() == 1
