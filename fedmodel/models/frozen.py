"""The frozen layers below the lowest one that trains: run once per text, then skipped.

With adapters in the last layers only, most of a forward pass computes the same numbers every time.
What the lowest trained layer reads is kept, and handed to it instead.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmodel.models.families import head_names, unwrap
from fedmodel.models.load import digest

__all__ = ["FrozenPrefix", "frozen_prefix"]

_TOLERANCE = 1e-4  # of logits, between skipping and not; rounding alone gives below 1e-5


class _Reached(Exception):  # noqa: N818 - not an error: ends a forward pass at the first layer needed
    pass


@dataclass(frozen=True, slots=True)
class FrozenPrefix:
    """The transformer layers of a model that never change.

    Args:
        model: the whole model, with its adapters.
        layers: its transformer layers.
        depth: how many of them, from the first, have nothing that trains in or below them.
    """

    model: Any
    layers: nn.ModuleList
    depth: int

    @property
    def digest(self) -> str:
        """SHA-256 of the frozen weights: what the kept numbers depend on besides the text."""
        inner = unwrap(self.model)
        body = {id(p) for layer in self.layers for p in layer.parameters()}
        rest = [p for p in inner.parameters() if id(p) not in body and not p.requires_grad]
        parts = [digest(nn.ParameterList(rest)), *(digest(x) for x in self.layers[: self.depth])]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @torch.no_grad()
    def hidden(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return what the lowest trained layer reads, float ``[B, T, H]``, zero where padded."""
        seen: list[Tensor] = []

        def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        handle = self.layers[self.depth].register_forward_pre_hook(stop, with_kwargs=True)
        training = self.model.training
        self.model.eval()
        try:
            self.model(**inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
            self.model.train(training)
        return seen[0] * inputs["attention_mask"].unsqueeze(-1)

    @contextmanager
    def skipped(self, hidden: Tensor) -> Iterator[None]:
        """Within this context a forward pass skips the frozen layers and starts at ``hidden``."""

        def enter(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        handle = self.layers[self.depth].register_forward_pre_hook(enter, with_kwargs=True)
        for layer in self.layers[: self.depth]:
            layer.forward = _through
        try:
            yield
        finally:
            handle.remove()
            for layer in self.layers[: self.depth]:
                del layer.forward

    @torch.no_grad()
    def agrees(self, inputs: dict[str, Tensor]) -> bool:
        """Return whether skipping gives the model's own logits for these inputs.

        It doesn't where later layers need more of the earlier ones than their output, such as a
        position bias; those models are simply run whole.
        """
        training = self.model.training
        self.model.eval()
        try:
            whole = self.model(**inputs).logits
            with self.skipped(self.hidden(inputs)):
                short = self.model(**inputs).logits
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            return False
        finally:
            self.model.train(training)
        scale = max(1.0, float(whole.abs().max()))
        return bool((whole - short).abs().max() <= _TOLERANCE * scale)


def _through(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def frozen_prefix(model: nn.Module) -> FrozenPrefix | None:
    """Return the frozen layers that can be skipped, or None where there are none.

    Args:
        model: as :func:`fedmodel.models.attach` returned it.
    """
    inner = unwrap(model)
    config: Any = getattr(inner.config, "encoder", inner.config)
    count = getattr(config, "num_hidden_layers", None)
    found = [
        m for m in inner.modules() if isinstance(m, nn.ModuleList) and len(m) == count and count
    ]
    if len(found) != 1:
        return None
    layers = found[0]
    depth = next((i for i, layer in enumerate(layers) if _trains(layer.parameters)), len(layers))
    inside = {id(p) for p in layers.parameters()}
    head = {id(p) for name in head_names(model) for p in inner.get_submodule(name).parameters()}
    elsewhere = [
        p
        for p in model.parameters()
        if p.requires_grad and id(p) not in inside and id(p) not in head
    ]
    # Without a trained layer there is no place to enter at; train=head has its own short cut.
    if elsewhere or not 0 < depth < len(layers):
        return None
    return FrozenPrefix(model, layers, depth)


def _trains(parameters: Callable[[], Iterator[nn.Parameter]]) -> bool:
    return any(p.requires_grad for p in parameters())
