"""A site's optimiser: two learning rates, and a state that survives as safetensors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from fedmodel.errors import RunFolderError
from fedmodel.job import Train
from fedmodel.models import Layout, adapters
from fedmodel.update import Vector

__all__ = ["AdamWBC", "descent", "load_state", "make", "rates", "state_tensors"]

_ADAM_BETA2 = 0.999
_FLOOR = 1e-8  # of the corrected second moment: γ' of arXiv 2312.14334


class AdamWBC(Optimizer):
    """AdamW whose second moment has the noise's known variance taken off.

    DP-AdamBC (arXiv 2312.14334, Algorithm 1): the noise makes every v̂ larger by its variance, and
    thereby Adam's steps nearly equal in all coordinates. The variance is public, so the correction
    is post-processing and costs no privacy. Weight decay is decoupled, as in AdamW.

    Args:
        params: parameters or groups, as for any PyTorch optimiser.
        lr: learning rate.
        betas: of the first and the second moment.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, _ADAM_BETA2),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.noise_variance = 0.0  # of each coordinate of the next gradient; set by who adds it

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step from ``p.grad``."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    zero = torch.zeros((), dtype=torch.float32)
                    state.update(step=zero.clone(), noise=zero.clone())
                    state.update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                state["step"] += 1
                count = int(state["step"])
                state["noise"].mul_(beta2).add_(self.noise_variance * (1 - beta2))
                mean = state["exp_avg"].lerp_(p.grad, 1 - beta1)
                square = state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                known = square.sub(float(state["noise"])).div_(1 - beta2**count).clamp_(min=_FLOOR)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.addcdiv_(mean, known.sqrt_(), value=-group["lr"] / (1 - beta1**count))


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
    if train.optimizer == "adamw-bc":
        return AdamWBC(groups, lr=train.lr, betas=betas, weight_decay=train.weight_decay)
    return AdamW(groups, lr=train.lr, betas=betas, weight_decay=train.weight_decay)


def rates(module: nn.Module, layout: Layout, train: Train) -> NDArray[np.float32]:
    """Return every coordinate's learning rate, float32 ``[trainable]`` in the layout's order.

    The head's is ``train.head_lr``, the others' ``train.lr``, as in :func:`make`.
    """
    head = {id(p) for p in adapters.parameter_groups(module)[0]}
    named = dict(module.named_parameters())
    found = [train.head_lr if id(named[name]) in head else train.lr for name in layout.names]
    ends = (*layout.offsets[1:], layout.total)
    sizes = [end - start for start, end in zip(layout.offsets, ends, strict=True)]
    return np.repeat(np.array(found, dtype=np.float32), sizes)


def descent(
    rates: NDArray[np.float32],
    gradient: NDArray[np.floating],
    vector: Vector,
    weight_decay: float = 0.0,
) -> Vector:
    """Return by what one step of gradient descent changes the parameters.

    −rates · (gradient + weight_decay · vector): what ``torch.optim.SGD`` without momentum does.

    Args:
        rates: of :func:`rates`.
        gradient: of the mean loss, ``[trainable]``, float32 or float64.
        vector: the parameters it was taken at, float32 ``[trainable]``.
        weight_decay: L2, not decoupled.
    """
    slope = gradient + weight_decay * vector if weight_decay else gradient
    return (-rates * slope).astype(np.float32, copy=False)


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
