"""Contexts for calling libraries: seeded without side effects, and without chatter."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging

from fedmodel.seeds import Seed

__all__ = ["quiet", "seeded"]


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
