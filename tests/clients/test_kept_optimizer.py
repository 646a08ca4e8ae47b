"""What a site keeps of its optimiser between rounds, and what it starts from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_app import PLAIN, Talk


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
