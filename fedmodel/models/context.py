"""Contexts for calling libraries: seeded without side effects, without chatter, as they come."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging

from fedmodel.seeds import Seed

__all__ = ["quiet", "seeded", "usual"]


@contextmanager
def seeded(seed: Seed) -> Iterator[None]:
    """Draw torch's CPU random numbers from ``seed`` inside, and restore the generator after.

    Only the CPU generator is touched (``torch.manual_seed`` would also reseed every accelerator),
    so what is initialised inside must be on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed.value)
        yield


@contextmanager
def usual() -> Iterator[None]:
    """Compute inside as torch does where nobody has told it otherwise; restore that after.

    In float32 and without autocast, with gradients, on the CPU unless a tensor says where. A
    notebook, or a library that it imports, may have set each of these for itself.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        if device.type != "cpu":  # a mode of its own, which each call of torch would pay for
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Hide load reports, loading bars and deprecations inside; downloads still show their bars."""
    hf_logging: Any = logging
    level = hf_logging.get_verbosity()
    bars, downloads = hf_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    _downloads(downloads)
    try:
        with warnings.catch_warnings():
            # Libraries of different ages deprecate one another's calls.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
            _downloads(downloads)


def _downloads(shown: bool) -> None:
    with warnings.catch_warnings():  # it warns when an environment variable has the last word
        warnings.simplefilter("ignore")
        (enable_progress_bars if shown else disable_progress_bars)()
