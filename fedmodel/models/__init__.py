"""Models: loading, what trains, the flat layout of what travels, and export."""

from fedmodel.models import onnx
from fedmodel.models.adapters import attach, parameter_groups
from fedmodel.models.checkpoint import checkpoint
from fedmodel.models.export import carries_base, carries_code, export
from fedmodel.models.families import family, head_names, unwrap, with_positions
from fedmodel.models.frozen import FrozenPrefix, frozen_prefix
from fedmodel.models.head import HeadView, head_only
from fedmodel.models.layout import Layout
from fedmodel.models.load import digest, headed, load
from fedmodel.models.tokenizer import load_tokenizer

__all__ = [
    "FrozenPrefix",
    "HeadView",
    "Layout",
    "attach",
    "carries_base",
    "carries_code",
    "checkpoint",
    "digest",
    "export",
    "family",
    "frozen_prefix",
    "head_names",
    "head_only",
    "headed",
    "load",
    "load_tokenizer",
    "onnx",
    "parameter_groups",
    "unwrap",
    "with_positions",
]
