"""A site's optimiser: two learning rates, and a state that survives as safetensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from fedmodel.errors import RunFolderError
from fedmodel.job import Train
from fedmodel.models import adapters

__all__ = ["load_state", "make", "state_tensors"]

_ADAM_BETA2 = 0.999


def make(module: nn.Module, train: Train) -> Optimizer:
    """Return the optimiser over the trainable parameters, the head with its own rate."""
    head, rest = adapters.parameter_groups(module)
    groups = [
        {"params": params, "lr": lr}
        for params, lr in ((head, train.head_lr), (rest, train.lr))
        if params
    ]
    if train.optimizer == "sgd":
        return SGD(groups, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
    betas = (train.momentum or 0.9, _ADAM_BETA2)
    return AdamW(groups, lr=train.lr, betas=betas, weight_decay=train.weight_decay)


def state_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as named tensors (``<parameter number>.<name>``)."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).clone().contiguous()
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def load_state(optimizer: Optimizer, path: Path) -> None:
    """Restore what :func:`state_tensors` gave.

    Raises:
        RunFolderError: if the file isn't such a state.
    """
    state: dict[int, dict[str, Tensor]] = {}
    try:
        for key, value in load_file(path).items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        _check_shapes(optimizer, state)
        whole = optimizer.state_dict()
        optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    except Exception as error:
        raise RunFolderError(
            f"{path} doesn't hold this optimiser's state ({type(error).__name__}); "
            "delete the run folder and start again"
        ) from error


def _check_shapes(optimizer: Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    # PyTorch takes any shape here and fails, or broadcasts, at the next step.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in state.items():
        shapes = {parameters[number].shape, torch.Size()}
        if number < 0 or any(value.shape not in shapes for value in values.values()):
            raise ValueError(f"parameter {number} has another shape")
