"""A trained model as a folder that ``transformers``, ``peft`` and others load without fedmodel."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fedmodel._forms import ExportForm
from fedmodel.errors import ConfigError, ModelError, RunFolderError
from fedmodel.models import modeling, onnx, sentences
from fedmodel.models.build import READS
from fedmodel.models.context import quiet
from fedmodel.models.families import unwrap
from fedmodel.models.modeling import FedmodelConfig
from fedmodel.models.tokenizer import save_tokenizer

__all__ = ["CODE_FILE", "carries_base", "carries_code", "export"]

CODE_FILE = "modeling_fedmodel.py"
"""Name of the copy of ``modeling.py`` in an exported folder."""


HERE = "(the folder of this adapter)"
"""Base model of an adapter that carries it.

A path would be another folder for whoever stands elsewhere. transformers takes the base from the
adapter's own folder when ``config.json`` is there, and whatever reads this instead finds no folder
and no hub id: it fails, and says this.
"""


def carries_code(model: nn.Module) -> bool:
    """Return whether an export holds Python code, so that loading it needs the user's trust."""
    return isinstance(unwrap(model).config, FedmodelConfig)


def carries_base(model: nn.Module) -> bool:
    """Return whether an adapter's folder holds its base model: all but what the hub has whole."""
    name = _base(model)
    return carries_code(model) or not name or Path(name).exists()


def _base(model: nn.Module) -> str:
    return str(unwrap(model).config.name_or_path or "")


def export(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    to: Path,
    *,
    form: ExportForm,
    card: str,
    finish: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a trained model as a folder, whole or not at all.

    ``merged`` is a complete model for transformers, LoRA merged into the weights; with mean pooling
    it carries code. ``adapter`` is a peft adapter with its head; the base model lies beside it
    unless it's a hub model with all its weights. ``sentence-transformers`` is for mean pooling
    (:mod:`fedmodel.models.sentences`), ``onnx`` for onnxruntime (:mod:`fedmodel.models.onnx`): both
    are whole and hold no code. The model passed in isn't changed. Weights are safetensors, but in
    ONNX.

    Args:
        model: as :func:`fedmodel.models.attach` returned it, with trained weights.
        tokenizer: the one it was trained with.
        to: folder to make; may exist if empty.
        form: see above.
        card: text of ``README.md``.
        finish: writes what else belongs into the folder, once all that is there.

    Raises:
        ModelError: if the model hasn't that form, or another one's logits came of it.
        MissingExtraError: for ``onnx``, if what writes it isn't installed.
        ConfigError: if ``to`` exists with something in it.
        RunFolderError: if it can't be written.
    """
    _check_form(model, form)
    with _folder(to) as folder, quiet():
        if form == "adapter":
            _save_adapter(model, folder)
            save_tokenizer(tokenizer, folder)
        elif form == "merged":
            _save_model(_merged(model), folder, reads=tokenizer.model_max_length)
            save_tokenizer(tokenizer, folder)
        elif form == "onnx":
            net = _merged(model)
            onnx.save(net, tokenizer, folder)
            _save_config(net, folder)
            save_tokenizer(tokenizer, folder)
        else:
            net = _merged(model)
            body = sentences.save(net, folder, tokenizer.model_max_length)
            _save_config(net, body)
            save_tokenizer(tokenizer, body)
        readme = folder / "README.md"
        readme.unlink(missing_ok=True)
        readme.write_text(card, encoding="utf-8")
        finish(folder)
        _share_permissions(folder, readme)


def _check_form(model: nn.Module, form: str) -> None:
    if form == "adapter" and not hasattr(model, "peft_config"):
        raise ModelError(
            "form=adapter needs a model trained with train=lora or train=ffa; use form=merged"
        )
    if form == "sentence-transformers":
        sentences.check(unwrap(model))
    if form == "onnx":
        onnx.check_installed()


def _merged(model: nn.Module) -> PreTrainedModel:
    if not hasattr(model, "peft_config"):
        return unwrap(model)
    whole: Any = copy.deepcopy(model)
    return whole.merge_and_unload()  # type: ignore[no-any-return]


def _save_model(net: PreTrainedModel, folder: Path, reads: int | None = None) -> None:
    net.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (values, values.get("encoder", {})):
        part.pop("_name_or_path", None)  # a path on this machine, which is nobody else's business
    values.pop(READS, None)
    if reads is not None:
        values[READS] = reads
    if carries_code(net):
        module = Path(CODE_FILE).stem
        values["auto_map"] = {
            "AutoConfig": f"{module}.FedmodelConfig",
            "AutoModelForSequenceClassification": f"{module}.FedmodelForSequenceClassification",
        }
        shutil.copyfile(modeling.__file__, folder / CODE_FILE)
    _write(folder / "config.json", values)


def _save_config(net: PreTrainedModel, folder: Path) -> None:
    """Write the body's configuration, of an architecture that transformers has, with the labels."""
    outer: Any = net.config
    config = copy.deepcopy(getattr(outer, "encoder", outer))
    config.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    values.pop(READS, None)
    values |= {
        "id2label": {str(number): name for number, name in outer.id2label.items()},
        "label2id": outer.label2id,
        "problem_type": outer.problem_type,
    }
    _write(folder / "config.json", values)


def _save_adapter(model: Any, folder: Path) -> None:
    inner, carried = unwrap(model), carries_base(model)
    # "auto" would ask the hub whether the vocabulary has changed; it never does here.
    model.save_pretrained(folder, save_embedding_layers=False)
    values = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # peft keeps sets and repeats names; a list in order is the same file each time.
    for key in ("target_modules", "modules_to_save"):
        values[key] = sorted(set(values[key]))
    values["base_model_name_or_path"] = HERE if carried else _base(model)
    values["revision"] = None if carried else getattr(inner.config, "_commit_hash", None)
    _write(folder / "adapter_config.json", values)
    if carried:
        _save_model(copy.deepcopy(model).unload(), folder)


def _write(path: Path, values: dict[str, Any]) -> None:
    # Not sorted: of eleven classes the last would stand third, and many take names by position.
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _share_permissions(folder: Path, card: Path) -> None:
    # safetensors makes files that only their owner can read, whatever the umask.
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(card.stat().st_mode)


@contextmanager
def _folder(to: Path) -> Iterator[Path]:
    """Give a fresh folder beside ``to``; rename it to ``to`` at the end, or remove it."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} already exists and isn't an empty folder; choose another `to`")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    except OSError as error:
        raise RunFolderError(f"can't write beside {to}: {error.strerror}") from error
    folder = scratch / "model"
    folder.mkdir()  # with the user's umask, which mkdtemp's own folder doesn't have
    try:
        yield folder
        folder.rename(to)
    except OSError as error:
        raise RunFolderError(f"{to} can't be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
