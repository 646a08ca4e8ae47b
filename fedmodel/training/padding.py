"""Bodies that look at padding: what they make of a text hangs on how far it is padded.

Fourier layers (FNet) mix all positions, convolutions (ConvBERT) look at neighbours, landmarks
(Nyströmformer) are means over segments of the padded length. Such a body's export answers otherwise
than its run did, and a batch's longest row would change all the others.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmodel import models
from fedmodel.seeds import Seed
from fedmodel.training import made_up
from fedmodel.training.learner import NUDGE, Learner
from fedmodel.training.padded import padded

__all__ = ["reads_padding"]

# Of the largest number in a layer's output. Rounding gives below 2e-6; ConvBERT, with the least of
# those that look at padding, from 1e-3 on.
_TOLERANCE = 1e-4
_LENGTHS = (7, 5, 8, 3)
_WIDTHS = (8, 16, 24, 48)  # and the job's longest, as far as the model has positions

Ids = NDArray[np.int64]


def reads_padding(learner: Learner) -> bool:
    """Return whether padding changes what any layer, or the head, makes of a made-up row.

    All layers are asked, for adapters in the last ones read what is below them. It is asked of the
    whole network, never of what is kept of its frozen part.
    """
    if learner.padding_seen is None:
        before = learner.flatten()
        training = learner.module.training
        noise = Seed(0).child("padding").numpy().standard_normal(before.size) * NUDGE
        learner.load_vector((learner.initial + noise).astype(np.float32))
        learner.module.eval()
        try:
            learner.padding_seen = _differs(learner)
        finally:
            learner.module.train(training)
            learner.load_vector(before)
    return learner.padding_seen


@torch.no_grad()
def _differs(learner: Learner) -> bool:
    config = models.unwrap(learner.module).config
    config = getattr(config, "encoder", config)
    # RoBERTa and its kin have two positions fewer than they say.
    most = int(getattr(config, "max_position_embeddings", None) or 512) - 2
    for row in made_up.texts(learner.tokenizer, _LENGTHS, "padding"):
        widths = sorted(w for w in {*_WIDTHS, min(most, learner.longest)} if w <= most)
        try:
            found = [_layers(learner, row, width) for width in widths]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return True  # it can't even be padded to any width (Nyströmformer: its landmarks)
        for other in found[1:]:
            for one, further in zip(found[0], other, strict=True):
                scale = float(one.abs().max()) or 1.0
                if not float((one - further).abs().max()) <= _TOLERANCE * scale:
                    return True
    return False


def _layers(learner: Learner, row: Ids, width: int) -> list[Tensor]:
    """Return what every layer makes of a row's own tokens, and the logits."""
    row = row[:width]
    batch = padded([row], width, learner.tokenizer.pad_token_id or 0, learner.device)
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and first.dim() == 3 and first.shape[1] == width:
            seen.append(first[:, : len(row)].float())

    stacks = [m for m in learner.module.modules() if isinstance(m, nn.ModuleList)]
    handles = [layer.register_forward_hook(note) for layers in stacks for layer in layers]
    try:
        logits = learner.whole_logits(batch)
    finally:
        for handle in handles:
            handle.remove()
    return [*seen, logits]
