"""Parameters that train: low-rank adapters, everything, or only the head."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fedmodel import job
from fedmodel.config import suggest
from fedmodel.errors import ModelError
from fedmodel.models.context import quiet, seeded
from fedmodel.models.families import TARGETS, family, head_names, unwrap
from fedmodel.seeds import Seed

__all__ = ["attach", "parameter_groups"]


def attach(
    model: PreTrainedModel, train: job.ProposedTrain, seed: Seed, *, peft_type: str = "SEQ_CLS"
) -> nn.Module:
    """Make exactly the parameters of ``train.method`` trainable.

    ========  =========================================================================
    ``lora``  A and B of every adapted Linear (arXiv 2106.09685), and the head
    ``ffa``   the same with every A frozen, equal at all sites (arXiv 2403.12313)
    ``full``  all, except what never receives a gradient (a pooler that nothing reads)
    ``head``  the modules beside the base model
    ========  =========================================================================

    Args:
        model: as :func:`fedmodel.models.load` returns it; changed in place.
        train: ``method``, ``lora``, ``frozen`` and which rates are 0 are read.
        seed: of LoRA's A (B starts at zero). The process's own generators aren't disturbed.
        peft_type: peft's name for the task, written into an exported adapter.

    Returns:
        ``model`` itself, or the peft model around it for ``lora`` and ``ffa``.

    Raises:
        ModelError: if LoRA's target modules or layers, or modules to freeze, aren't in the model,
            its architecture is unknown and no target is named, or what starts at zero stays there.
    """
    if train.method in ("lora", "ffa"):
        return _freeze(_lora(model, train, seed, peft_type), train)
    model.requires_grad_(train.method == "full")
    if train.method == "full":
        _freeze_unused(model)
    else:
        for name in head_names(model):
            model.get_submodule(name).requires_grad_(True)
    return _freeze(model, train)


def _freeze(model: nn.Module, train: job.ProposedTrain) -> nn.Module:
    """Freeze the modules that end in one of the names."""
    modules = dict(model.named_modules())
    for wanted in train.frozen:
        found = [module for name, module in modules.items() if _matches(name, (wanted,))]
        if not found:
            known = sorted(_last(tuple(modules)))
            raise ModelError(
                f"train.frozen: no module '{wanted}'{suggest(wanted, known)}; give the name of one "
                "or its last part"
            )
        for module in found:
            module.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("train.frozen leaves nothing to train; name fewer modules")
    _check_learns(model, train)
    return model


def _check_learns(model: nn.Module, train: job.ProposedTrain) -> None:
    """Check that something moves, and no matrix of zeros stays through which it must act.

    Raises:
        ModelError: naming it: what comes before it would get no gradient, or nothing but noise.
    """
    head, body = parameter_groups(model)
    rates = {"train.head_lr": (train.head_lr, head), "train.lr": (train.lr, body)}
    moved = {p for rate, group in rates.values() if rate for p in group}
    idle = " and ".join(f"{key}=0" for key, (rate, group) in rates.items() if group and not rate)
    if not moved:
        raise ModelError(
            f"nothing would be learned with {idle}: all that trains has that rate; "
            "set a rate above 0"
        )
    if not train.frozen and not idle:
        return
    # peft keeps the head as it was beside the one that is used.
    used = {n: p for n, p in model.named_parameters() if ".original_module." not in n}
    heads = set(head_names(model))
    for name, parameter in used.items():
        if parameter in moved or parameter.ndim < 2 or parameter.any():
            continue
        before = used.get(name.replace("lora_B", "lora_A"), parameter)
        if heads & set(name.split(".")) or before in moved:
            why, fix = "train.frozen", "leave it out of train.frozen"
            if parameter.requires_grad:
                why, fix = idle, "set a rate above 0"
            raise ModelError(
                f"{why}: '{name}' starts at zero, so nothing that comes before it could learn; "
                f"{fix}"
            )


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable parameters of the head, and the other trainable ones.

    Together they are all trainable parameters, each once, so that the two can have learning rates
    of their own.
    """
    inner, heads = unwrap(model), set(head_names(model))
    head: list[nn.Parameter] = []
    body: list[nn.Parameter] = []
    for name, parameter in inner.named_parameters():
        if parameter.requires_grad:
            (head if name.split(".", 1)[0] in heads else body).append(parameter)
    return head, body


def _lora(
    model: PreTrainedModel, train: job.ProposedTrain, seed: Seed, peft_type: str
) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = _targets(model, train.lora.target_modules)
    adapted = [m for n, m in _linears(model) if _matches(n, targets)]
    heads = head_names(model)
    config = LoraConfig(
        task_type=peft_type,
        r=train.lora.rank,
        lora_alpha=train.lora.alpha,  # type: ignore[arg-type]  # a float works
        lora_dropout=0.0,
        target_modules=list(targets),
        exclude_modules=_within_heads(model, targets),
        layers_to_transform=_layers(model, train.lora.layers),
        modules_to_save=list(heads),
        fan_in_fan_out=not any(isinstance(m, nn.Linear) for m in adapted),
    )
    with quiet(), seeded(seed.child("lora")):
        net = get_peft_model(model, config)
    if train.method == "ffa":
        for name, parameter in net.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
    return net


def _linears(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of the base model's linear layers."""
    from transformers.pytorch_utils import Conv1D

    prefix = f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        if name.startswith(prefix) and isinstance(module, nn.Linear | Conv1D):
            yield name, module


def _last(names: tuple[str, ...]) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name in names}


def _matches(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _targets(model: PreTrainedModel, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    names = [name for name, _ in _linears(model)]
    known = sorted(_last(tuple(names)))
    kind = family(model)
    targets = wanted if wanted else TARGETS.get(kind)
    if targets is None:
        raise ModelError(
            f"no default LoRA modules are known for model type '{kind}'; set "
            f"train.lora.target_modules=[…] to some of its Linear modules: {', '.join(known)}"
        )
    for target in targets:
        if not any(_matches(name, (target,)) for name in names):
            raise ModelError(
                f"train.lora.target_modules: '{target}' isn't a Linear module of this {kind} "
                f"model{suggest(target, known)}; it has: {', '.join(known)}"
            )
    return targets


def _within_heads(model: PreTrainedModel, targets: tuple[str, ...]) -> list[str] | None:
    """Return modules of the heads that share a target's name: they train whole, unadapted."""
    prefixes = tuple(f"{name}." for name in head_names(model))
    names = [n for n, _ in model.named_modules() if n.startswith(prefixes) and _matches(n, targets)]
    return names or None


def _layers(model: PreTrainedModel, wanted: tuple[int, ...] | None) -> list[int] | None:
    if not wanted:
        return None
    config = getattr(model.config, "encoder", model.config)
    count = int(config.num_hidden_layers)
    wrong = [layer for layer in wanted if not -count <= layer < count]
    if wrong:
        raise ModelError(
            f"train.lora.layers: expected layers of 0 to {count - 1} (or -1 for the last and so "
            f"on), got {wrong}; leave out what isn't among them"
        )
    return sorted({layer % count for layer in wanted})


def _freeze_unused(model: Any) -> None:
    # Asked of autograd rather than of a list of names, so that it holds for any architecture.
    parameters = [p for p in model.parameters() if p.requires_grad]
    was_training = model.training
    model.eval()
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(5, 9, device=model.device).remainder(rows).unsqueeze(0)
    with torch.enable_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            logits.sum(), parameters, allow_unused=True
        )
    model.train(was_training)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
