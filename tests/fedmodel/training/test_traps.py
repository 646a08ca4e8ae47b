"""The eight ways in which Opacus 1.6 goes wrong without an error (dp.md, 1.3), met here.

Each is refused by the preflight or a guard, or can't happen on the way that training takes. The
fifth has a file of its own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.gradients import clippers
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.job import Performance, Privacy, Proposal, ProposedPrivacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import dpsgd, optim
from fedmodel.training.preflight import preflight
from fedmodel.training.round import Round
from tests.fedmodel.training.traps import CPU, ENGINES, clipped, length

tf: Any = transformers  # its configurations take arguments that its types don't know


# -- 1: clipping that only one criterion turns on ------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_1_a_smaller_clip_norm_gives_a_smaller_sum(
    engine: str, learner_of: Any, examples_of: Any, start_of: Any
) -> None:
    learner = learner_of("lora")
    examples = examples_of(learner)
    learner.load_vector(start_of(learner))
    learner.module.train()
    assert "labels" not in examples.batch(np.array([0, 1]))  # so the model makes no loss itself
    for clip in (1e-3, 1e-5):
        found = length(clipped(learner, examples, engine, [[0, 1, 2, 3]], clip))
        assert 0.1 * clip < found <= 4 * clip


# -- 2: a clip norm that is changed in one of two places -----------------------------------------


def test_2_a_norm_that_changes_changes_clipping_and_noise(
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shrink(self: Any) -> None:
        self.clip *= 0.01

    totals: list[float] = []
    stds: list[float] = []

    def keep(entropy: Entropy, total: Tensor, std: float) -> None:
        totals[-1] += float(total.double().square().sum())
        stds.append(std)

    add = dpsgd.PrivateOptimizer.add_noise

    def step(self: Any) -> None:
        totals.append(0.0)
        add(self)

    monkeypatch.setattr(clippers.Flat, "end_step", shrink)
    monkeypatch.setattr(noise, "add_gaussian_", keep)
    monkeypatch.setattr(dpsgd.PrivateOptimizer, "add_noise", step)
    learner = learner_of("head")
    learner.load_vector(start_of(learner))
    for engine in ENGINES:
        totals.clear()
        stds.clear()
        dpsgd.private_steps(
            learner,
            examples_of(learner),
            plan_of(clip=1e-3, noise_multiplier=2.0),
            Privacy(),
            optim.make(learner.module, job_of().train),
            Round(performance=Performance(engine=engine, physical_batch=64)),  # type: ignore[arg-type]
            steps=2,
        )
        first, second = (total**0.5 for total in totals)
        assert second <= 14e-5
        assert second == pytest.approx(first / 100, rel=1e-2)
        assert stds[0] == pytest.approx(2e-3)
        assert stds[-1] == pytest.approx(2e-5)


# -- 3: a loss that is averaged over the batch's tokens ------------------------------------------


def test_3_a_loss_over_the_batch_isnt_one_per_row() -> None:
    model = tf.GPT2LMHeadModel(
        tf.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    )
    ids = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    places = torch.arange(7).expand(3, 7).contiguous()
    for name in ENGINES[:1]:
        engine: Any = make_engine(name, model)
        with engine.attached():
            engine.begin(3)
            loss = model(input_ids=ids, position_ids=places, labels=ids).loss
            with pytest.raises(PrivacyError, match="expected 3 losses, one per row"):
                engine.backward(loss, Groups.records(3, CPU))


@pytest.mark.parametrize("engine", ENGINES)
def test_3_rows_that_share_a_divisor_are_refused(
    engine: Any, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Hugging Face's: each row's losses over the number of all tokens in the batch.
    learner = learner_of("lora")
    honest, tokens = learner.logits, [1.0]

    def logits(batch: dict[str, Tensor]) -> Tensor:
        tokens[0] = float(batch["attention_mask"].sum())
        return honest(batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(learner, "logits", logits)

    def losses(out: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(out, labels, reduction="none") / tokens[0]

    monkeypatch.setattr(learner, "task", replace(learner.task, losses=losses))
    with pytest.raises(PrivacyError, match="a row's loss changes when another row"):
        preflight(learner, examples_of(learner), Performance(engine=engine))


# -- 4: accumulating over batches ----------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_4_batches_add_up_to_the_whole(
    engine: str, learner_of: Any, examples_of: Any, start_of: Any
) -> None:
    learner = learner_of("full")
    examples = examples_of(learner)
    learner.load_vector(start_of(learner))
    learner.module.train()
    whole = clipped(learner, examples, engine, [[0, 1, 2, 3, 4, 5]], 0.5)
    parts = clipped(learner, examples, engine, [[4, 1], [0], [5, 3, 2]], 0.5)
    scale = max(float(s.abs().max()) for s in whole.values())
    for name, value in whole.items():
        assert float((parts[name] - value).abs().max()) < 1e-5 * scale, name


# -- 6: norms in bf16 ----------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "lora", "full"])
@pytest.mark.parametrize("engine", ["fast", "hooks"])
def test_6_in_bf16_nobody_gets_past_the_bound(
    method: str, engine: str, learner_of: Any, examples_of: Any, start_of: Any
) -> None:
    learner = learner_of(method, "bf16")
    examples = examples_of(learner)
    learner.load_vector(start_of(learner))
    learner.module.train()
    found = [
        length(clipped(learner, examples, engine, [[row]], 1e-3)) for row in range(len(examples))
    ]
    assert 1e-3 * (1 - 1e-3) < max(found) <= 1e-3 * (1 + 1e-5)


# -- 7: a step lost to int(1 / rate) -------------------------------------------------------------


@pytest.mark.parametrize("sites", [93, 99, 105, 117])
def test_7_exactly_the_planned_steps_are_taken(
    sites: int, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any, monkeypatch: Any
) -> None:
    learner, rates = learner_of("head"), []
    real = sampling.poisson

    def watched(entropy: Entropy, units: int, rate: float) -> Any:
        rates.append(rate)
        return real(entropy, units, rate)

    monkeypatch.setattr(sampling, "poisson", watched)
    dpsgd.private_steps(
        learner,
        examples_of(learner),
        plan_of(rate=1 / sites),
        Privacy(),
        optim.make(learner.module, job_of().train),
        Round(performance=Performance(physical_batch=8)),
        steps=sites,
    )
    assert rates == [1 / sites] * sites


# -- 8: names with a prefix, which loading drops without a word ----------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_8_names_stay_what_they_are(engine: str, learner_of: Any, tmp_path: Path) -> None:
    learner = learner_of("lora")
    names = list(learner.module.state_dict())
    with make_engine(engine, learner.trained).attached():
        assert list(learner.module.state_dict()) == names
        assert not any(n.startswith("_module") for n, _ in learner.module.named_parameters())
        learner.module.save_pretrained(tmp_path)
        assert (tmp_path / "adapter_model.safetensors").exists()
    assert list(learner.module.state_dict()) == names


# -- and some that at least say so ---------------------------------------------------------------


def test_checkpointing_with_opacuss_engines_isnt_a_job() -> None:
    asked = Performance(engine="hooks", gradient_checkpointing=True)
    with pytest.raises(ConfigError, match=r"train\.gradient_checkpointing"):
        Proposal(privacy=ProposedPrivacy(mechanism="dpsgd"), performance=asked)
    with pytest.raises(ConfigError, match=r"train\.gradient_checkpointing"):
        asked.check(Privacy(mechanism="dpsgd"))


def test_no_engines_norm_is_lost_where_tokens_cancel() -> None:
    # Inputs with a common offset: a ghost norm is a small difference of large numbers then.
    generator = Seed(0).torch()
    x = torch.randn(4, 64, 32, generator=generator) + 1e4
    signs = torch.randn(4, 64, 8, generator=generator)
    signs -= signs.mean(1, keepdim=True)
    true = torch.bmm(signs.double().transpose(1, 2), x.double()).flatten(1).norm(dim=1)
    for name in ENGINES:
        layer = torch.nn.Linear(32, 8)
        engine = make_engine(name, layer.train())
        with engine.attached():
            engine.begin(4)
            losses = (layer(x) * signs).sum((1, 2))
            engine.backward(losses, Groups.records(4, x.device))
            weight: Any = layer.weight
            found = engine.squares()[weight].sqrt()
        # Where the gradient itself is made, what is summed is its float32 value, norm and all.
        assert (found >= true * (1 - 1e-3)).all(), name
