"""What a site keeps of its optimiser between rounds, and what it starts from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.site_run import SiteRun
from fedmodel.data import Rows
from fedmodel.job import Job
from fedmodel.wire import Offer, Order
from tests.clients.talk import make_site
from tests.clients.test_app import LABELS, PLAIN, TEXTS, Talk
from tests.jobs import real_job


@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_kept_optimiser_goes_on_after_a_restart(optimizer: Any, tmp_path: Path) -> None:
    kept = replace(PLAIN, train=replace(PLAIN.train, optimizer=optimizer, optimizer_state="keep"))
    found: dict[str, Any] = {}
    for name, job, restart in (
        ("whole", kept, False),
        ("restarted", kept, True),
        ("reset", replace(kept, train=replace(kept.train, optimizer_state="reset")), False),
    ):
        talk = Talk(tmp_path / name)
        talk.join(job)
        talk.train(1)
        if restart:
            talk.restart()
            talk.join(job)
        found[name] = talk.train(2).vector
        found[f"{name} files"] = sorted(p.name for p in talk.kept.glob("*"))
    assert found["whole"].tobytes() == found["restarted"].tobytes()
    assert found["whole"].tobytes() != found["reset"].tobytes()
    assert found["reset files"] == []
    assert found["whole files"] == [
        f"optimizer-{kept.sha256[:32]}-{n:04d}.safetensors" for n in (1, 2)
    ]


def test_a_repeated_round_starts_from_the_state_before_it(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.join(replace(PLAIN, train=replace(PLAIN.train, optimizer_state="keep")))
    talk.train(1)
    first, again = talk.train(2), talk.train(2)
    assert first.vector.tobytes() == again.vector.tobytes()
    talk.train(4)
    assert len(list(talk.kept.glob("*"))) == 2


def test_without_privacy_an_update_follows_from_job_site_round_and_model_alone(
    tmp_path: Path,
) -> None:
    """So a run repeats bit for bit, wherever and under whatever name it is run."""

    def update(
        folder: str, run: str = "test", round_: int = 1, name: str = "north", job: Job = PLAIN
    ) -> bytes:
        site = make_site(tmp_path / folder, Rows(TEXTS, LABELS), name=name)
        made = SiteRun(Offer(run=run, job=job), site)
        vector = made.learner.initial
        order = Order(run=run, round=round_, job_sha256=job.sha256, vector=vector)
        return made.train(order).vector.tobytes()

    another = real_job(model=PLAIN.model, train=PLAIN.train, seed=1)
    one = update("a")
    assert update("b", run="another") == one
    assert update("c", round_=2) != one
    assert update("d", name="south") != one
    assert update("e", job=another) != one
