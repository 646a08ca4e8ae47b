"""A trained model in ONNX, checked in onnxruntime before anybody is given it."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fedmodel.errors import MissingExtraError, ModelError
from fedmodel.models.families import family
from fedmodel.models.tokenizer import INPUTS

__all__ = ["FILE", "check_installed", "save"]

FILE = "model.onnx"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TOLERANCE = 1e-4  # of logits, times the largest where that is above 1; usual is some 1e-6
_ELSEWHERE = "use form=merged, or form=sentence-transformers with model.pooling=mean"


def check_installed() -> None:
    """Check that what writes ONNX and runs it is there.

    Raises:
        MissingExtraError: if it isn't.
    """
    if not all(importlib.util.find_spec(name) for name in _PACKAGES):
        raise MissingExtraError("form=onnx", "onnx")


class _Logits(nn.Module):
    def __init__(self, net: PreTrainedModel) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.net(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def save(net: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write ``model.onnx`` and hold its logits against torch's.

    Batches may have any number of rows and tokens. Weights above 2 GB lie in a file beside it.

    Args:
        net: whole, on the CPU, float32; :func:`check_installed` has passed.
        tokenizer: the one it was trained with.
        folder: where to write; what is there after an error isn't to be used.

    Raises:
        ModelError: if torch can't export the architecture, or onnxruntime finds other logits.
    """
    was_training = net.training
    net.train(False)
    try:
        _save(net, list(_batches(tokenizer)), folder / FILE)
    finally:
        net.train(was_training)


def _save(net: PreTrainedModel, batches: list[dict[str, Tensor]], path: Path) -> None:
    try:
        with _quiet():
            program = _program(net, batches[0])
            program.save(path)
    except OSError:
        raise
    except Exception as error:  # the exporter raises errors of its own, of torch and of onnx
        raise ModelError(
            f"torch can't export this {family(net)} model to ONNX ({_line(error)}); {_ELSEWHERE}"
        ) from error
    _check(net, path, batches)


def _program(net: PreTrainedModel, example: Mapping[str, Tensor]) -> Any:
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program: Any = torch.onnx.export(
        _Logits(net),
        tuple(example[name] for name in INPUTS),
        dynamo=True,
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(INPUTS, free),
        verbose=False,
    )
    # The exporter notes for each node where in this machine's files it comes from.
    graph = program.model.graph
    for part in (program.model, graph, *graph.all_nodes()):
        part.metadata_props.clear()
    labels = [name for _, name in sorted((net.config.id2label or {}).items())]
    program.model.metadata_props["labels"] = json.dumps(labels)
    return program


def _batches(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Tensor]]:
    """Yield made-up texts in batches: padded and not, from the shortest to all that is read."""
    texts = files("fedmodel.models").joinpath("tiny_sample.txt").read_text("utf-8").splitlines()
    longest = int(tokenizer.model_max_length)
    whole = " ".join(texts) + " "
    whole *= 1 + longest // max(1, len(tokenizer(whole, verbose=False)["input_ids"]))
    half = max(8, longest // 2)
    for batch, length in (
        (["no fever", *texts[:2]], min(longest, 24)),
        ([whole], longest),
        (["a"], longest),
        ([texts[3], whole, "a"], min(longest, half)),
        (texts[:8], longest),
    ):
        yield dict(
            tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=length,
                return_token_type_ids=False,
                return_tensors="pt",
            )
        )


@torch.no_grad()
def _check(net: Any, path: Path, batches: list[dict[str, Tensor]]) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for batch in batches:
            inputs = {name: batch[name] for name in INPUTS}
            expected = net(**inputs).logits
            (got,) = session.run(["logits"], {n: x.numpy() for n, x in inputs.items()})
            _compare(torch.from_numpy(got), expected)
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise ModelError(
            f"onnxruntime can't run the ONNX form of this {family(net)} model ({_line(error)}); "
            f"{_ELSEWHERE}"
        ) from error


def _compare(got: Tensor, expected: Tensor) -> None:
    error, scale = float("inf"), max(1.0, float(expected.abs().max()))
    if got.shape == expected.shape:
        error = float((got - expected).abs().max())
    if not error <= _TOLERANCE * scale:  # NaN isn't
        raise ModelError(
            f"in onnxruntime the logits of the ONNX form differ by {error:.2g} from torch's, for "
            f"a batch with logits of shape {tuple(expected.shape)}; expected at most "
            f"{_TOLERANCE * scale:.2g}. Nothing is written; {_ELSEWHERE}"
        )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's words about packages and versions that nobody asked for."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
