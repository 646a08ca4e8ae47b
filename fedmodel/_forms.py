"""Forms of an exported folder, by the names that the verb and the Python interface take."""

from typing import Literal, TypeAlias

__all__ = ["ExportForm"]

ExportForm: TypeAlias = Literal["merged", "adapter", "sentence-transformers", "onnx"]
"""Form of an exported folder, as :func:`fedmodel.models.export` writes it."""
