"""A coordinator made from a job, a run folder and keys."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmodel.data import Rows
from fedmodel.errors import ModelError, RunFolderError
from fedmodel.identity import SigningKey
from fedmodel.identity.provision import provision
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import Standing
from fedmodel.seeds import Entropy
from fedmodel.training.learner import network
from server.assemble import Known, make_coordinator
from server.coordinator import Coordinator, Silent
from server.ledger_memory import LedgerMemory
from tests.conftest import new_run
from tests.jobs import CPU, make_job, real_job, summed

TEST = Rows(["a dose of it", "none was given", "given twice"], ["b", "a", "b"])
DPSGD = Privacy(mechanism="dpsgd", rate=0.5)
DISTRIBUTED = Privacy(mechanism="distributed", rate=0.5, delta=1e-4)


def assembled(folder: Path, job: Job, known: Known | None = None, **parts: Any) -> Coordinator:
    run = new_run(folder / "run")
    return make_coordinator(job, run, known or Known(), performance=CPU, **parts)


def test_it_starts_from_the_jobs_weights_and_names_them(tmp_path: Path) -> None:
    job, reporter = real_job(), Silent()
    made = assembled(tmp_path, job, reporter=reporter)
    learner = network(job.model, job.train, job.root_seed, CPU)
    np.testing.assert_array_equal(made.initial, learner.initial)
    assert made.initial.dtype == np.float32
    assert set(made.named(made.initial)) == set(learner.layout.names)
    vector = np.random.default_rng(0).standard_normal(made.initial.size).astype(np.float32)
    np.testing.assert_array_equal(made.from_named(dict(made.named(vector))), vector)
    assert (made.job, made.performance, made.reporter) == (job, CPU, reporter)
    assert made.folder is not None
    assert made.folder.path == tmp_path / "run"


def test_it_evaluates_the_vector_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    job = real_job()
    made = assembled(tmp_path, job, test=TEST)
    assert made.evaluate is not None
    vector = np.random.default_rng(0).standard_normal(made.initial.size).astype(np.float32)
    first = made.evaluate(vector)
    assert {"loss", "accuracy", "macro_f1", "majority"} <= set(first)
    assert first["majority"] == pytest.approx(2 / 3)
    # All logits of a head of zeros without bias are 0.
    zero = made.evaluate(np.zeros_like(vector))
    assert zero["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert first["loss"] != pytest.approx(zero["loss"])
    # What another vector left in the shared network makes no difference.
    assert made.evaluate(vector) == first


def test_without_test_rows_it_evaluates_nothing(tmp_path: Path) -> None:
    assert assembled(tmp_path, real_job()).evaluate is None


@pytest.mark.parametrize(
    ("privacy", "secagg"),
    [(Privacy(), {}), (DPSGD, {}), (DPSGD, {"secagg": summed(5)})],
    ids=["plain", "record", "record in sums"],
)
def test_only_where_it_takes_the_steps_it_has_rates(
    privacy: Privacy, secagg: dict[str, Any], tmp_path: Path
) -> None:
    assert assembled(tmp_path, real_job(privacy=privacy, **secagg)).rates is None


def test_rates_are_of_each_coordinate_as_the_job_says(tmp_path: Path) -> None:
    train = Train(method="lora", steps=1, rounds=2, lr=0.25, head_lr=0.5)
    made = assembled(tmp_path, real_job(privacy=DISTRIBUTED, secagg=summed(5), train=train))
    assert made.rates is not None
    assert made.rates.shape == made.initial.shape
    named = made.named(made.rates)
    assert {float(x) for values in named.values() for x in np.unique(values)} == {0.25, 0.5}
    for name, values in named.items():
        assert (values == (0.25 if "lora_" in name else 0.5)).all(), name


def test_it_remembers_ledgers_with_privacy_only(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    state = SiteState(tmp_path / "a", "a")
    key = state.key.public.hex()
    memory = LedgerMemory([path], {2: key})
    memory.note(2, Standing(head=state.ledger().head()))
    memory.save()
    known = Known(site_keys={2: key}, memory=[path])
    private = assembled(tmp_path / "private", real_job(privacy=DPSGD), known)
    assert [head.key for head in private.memory.offered(2)] == [key]
    assert private.memory.offered(3) == []
    plain = assembled(tmp_path / "plain", real_job(), known)
    assert plain.memory.offered(2) == []
    path.write_text("{}")
    assembled(tmp_path / "plain again", real_job(), known)
    with pytest.raises(RunFolderError, match="restore it"):
        assembled(tmp_path / "private again", real_job(privacy=DPSGD), known)


def test_it_has_the_keys_that_were_provisioned(tmp_path: Path) -> None:
    keys = provision(tmp_path / "keys", {"a": SigningKey(b"a" * 32)}, Entropy())
    assert assembled(tmp_path, real_job(), Known(keys=keys)).keys is keys
    assert assembled(tmp_path / "none", real_job()).keys is None


def test_it_leaves_out_whom_its_operator_does(tmp_path: Path) -> None:
    known = Known(exclude=frozenset({3}))
    assert assembled(tmp_path, real_job(), known).exclude == {3}


@pytest.mark.parametrize(
    "job",
    [make_job(), make_job(weights=real_job().weights, seed=1), make_job(weights="f" * 64)],
    ids=["nobody's", "another seed's", "unknown"],
)
def test_other_weights_than_the_jobs_are_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"starting weights differ.*same model files"):
        assembled(tmp_path, job)


def test_another_network_has_other_weights(tmp_path: Path) -> None:
    job = make_job(model=Model(labels=("a", "b", "c")), weights=real_job().weights)
    with pytest.raises(ModelError, match=f"expected SHA-256 {job.weights[:16]}"):
        assembled(tmp_path, job)
