"""Exported folders are read by plain transformers and peft in a process without fedmodel."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedmodel import job
from fedmodel.errors import ConfigError, ModelError, RunFolderError
from fedmodel.models import attach, digest, export, load, load_tokenizer
from fedmodel.models.export import CODE_FILE
from fedmodel.seeds import Seed

TEXTS = ["Chest pain for two days.", "no fever", "a very much longer note about nothing at all"]

PLAIN = (
    f"TEXTS = {TEXTS!r}"
    + """
import sys
sys.modules["fedmodel"] = None
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
for line in sys.argv[1].split(";"):
    folder, form, code = line.split(",")
    trust = {"trust_remote_code": True} if code == "yes" else {}
    net = AutoModelForSequenceClassification.from_pretrained(folder, **trust)
    if form == "adapter":
        from peft import AutoPeftModelForSequenceClassification
        try:  # it goes by the name of the base model, and there is a folder `base` here
            AutoPeftModelForSequenceClassification.from_pretrained(folder, **trust)
        except Exception as error:
            assert "the folder of this adapter" in str(error), error
        else:
            raise AssertionError("peft has found a base model elsewhere")
    assert net.config.id2label == {0: "a", 1: "b", 2: "c"}, net.config.id2label
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        save_file({"logits": net.eval()(**batch).logits}, folder + ".out")
"""
)


def _trained(model: job.Model, method: str) -> Any:
    net = attach(load(model, Seed(1)), job.Train(method=method), Seed(2))  # type: ignore[arg-type]
    made = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=made) * 0.1)
    return net.eval()


def _logits(net: nn.Module, model: job.Model) -> torch.Tensor:
    inputs: Any = load_tokenizer(model)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    read = {name: inputs[name] for name in ("input_ids", "attention_mask")}  # as in training
    with torch.no_grad():
        return net(**read).logits  # type: ignore[no-any-return]


Case = tuple[str, str, str, str]


def cases() -> list[Case]:
    """Return model, pooling, method and form."""
    found = [
        ("tiny", pooling, method, form)
        for pooling in ("mean", "cls")
        for method in ("lora", "ffa", "head", "full")
        for form in ("merged", "adapter")
        if form == "merged" or method in ("lora", "ffa")
    ]
    found += [("gpt2", "cls", "lora", "merged"), ("roberta", "cls", "lora", "adapter")]
    found += [("t5", "mean", "lora", "merged"), ("modernbert", "mean", "ffa", "adapter")]
    return found


@pytest.mark.slow
@pytest.mark.long
def test_plain_libraries_give_the_same_logits(model_of: Any, tmp_path: Path) -> None:
    expected, lines = {}, []
    for kind, pooling, method, form in cases():
        if kind == "tiny":
            model = job.Model(labels=("a", "b", "c"), pooling=pooling, max_length=12)  # type: ignore[arg-type]
        else:
            model = model_of(kind, pooling, max_length=12)
        net = _trained(model, method)
        before, to = digest(net), tmp_path / f"{kind}-{pooling}-{method}-{form}"
        export(net, load_tokenizer(model), to, form=form, card="# card\n")  # type: ignore[arg-type]
        assert digest(net) == before
        _check_files(to, pooling, form)
        for path in to.rglob("*.json"):
            assert not model.path or model.path not in path.read_text(), path
        expected[to] = _logits(net, model)
        lines.append(f"{to},{form},{'yes' if pooling == 'mean' else 'no'}")
    # Whoever loads an adapter stands beside somebody else's base model.
    shutil.copytree(
        next(to for to in expected if to.name == "tiny-cls-lora-merged"), tmp_path / "base"
    )
    _run(lines, tmp_path)
    for folder, logits in expected.items():
        got = load_file(f"{folder}.out")["logits"]
        assert logits.std() > 1e-3
        torch.testing.assert_close(got, logits, rtol=1e-5, atol=1e-5, msg=folder.name)


def _run(lines: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, ";".join(lines)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _check_files(folder: Path, pooling: str, form: str) -> None:
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl", ".ckpt"))]
    assert {"README.md", "tokenizer.json", "config.json", "model.safetensors"} <= names
    assert ("modeling_fedmodel.py" in names) == (pooling == "mean")
    assert ("adapter_model.safetensors" in names) == (form == "adapter")
    assert (folder / "README.md").read_text() == "# card\n"
    assert len({p.stat().st_mode for p in folder.rglob("*") if p.is_file()}) == 1
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_merged_folder_gives_the_same_logits(pooling: Any, tmp_path: Path) -> None:
    """With code for the mean only; in this process, where fedmodel could be imported."""
    model, to = job.Model(labels=("a", "b", "c"), pooling=pooling), tmp_path / "m"
    net = _trained(model, "lora")
    export(net, load_tokenizer(model), to, form="merged", card="")
    coded = pooling == "mean"
    assert (to / CODE_FILE).exists() == coded
    read = AutoModelForSequenceClassification.from_pretrained(to, trust_remote_code=coded)
    torch.testing.assert_close(_logits(read.eval(), model), _logits(net, model))
    assert not list(to.glob("adapter*"))  # transformers would put it on top of the merged weights


@pytest.mark.long
def test_an_export_can_be_trained_on(tmp_path: Path) -> None:
    model = job.Model(labels=("a", "b", "c"))
    net = _trained(model, "lora")
    export(net, load_tokenizer(model), tmp_path / "m", form="merged", card="")
    again = job.Model(source="hub", path=str(tmp_path / "m"), labels=("a", "b", "c"))
    torch.testing.assert_close(_logits(load(again, Seed(9)), again), _logits(net, model))
    other = job.Model(source="hub", path=str(tmp_path / "m"), labels=("x", "y"))
    assert _logits(load(other, Seed(9)), other).tolist() == [[0, 0]] * 3
    with pytest.raises(ModelError, match=r"model\.pooling=mean"):
        load(
            job.Model(source="hub", path=str(tmp_path / "m"), labels=("a", "b"), pooling="cls"),
            Seed(1),
        )


@pytest.mark.parametrize("method", ["head", "full"])
def test_no_adapter_to_export(method: str, tmp_path: Path) -> None:
    model = job.Model(labels=("a", "b"))
    with pytest.raises(ModelError, match="form=merged"):
        export(
            _trained(model, method), load_tokenizer(model), tmp_path / "m", form="adapter", card=""
        )
    assert not any(tmp_path.iterdir())


def test_existing_folders(tmp_path: Path) -> None:
    model = job.Model(labels=("a", "b"))
    net, tokenizer = _trained(model, "head"), load_tokenizer(model)
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    full.mkdir()
    (full / "x").write_text("kept")
    empty.mkdir()
    file.write_text("kept")
    for target in (full, file):
        with pytest.raises(ConfigError, match="already exists"):
            export(net, tokenizer, target, form="merged", card="")
    with pytest.raises(RunFolderError, match="can't write"):
        export(net, tokenizer, file / "below", form="merged", card="")
    export(net, tokenizer, empty, form="merged", card="")
    assert (empty / "config.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "full"]
    assert [p.name for p in full.iterdir()] == ["x"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    model = job.Model(labels=("a", "b"))
    broken: Any = object()
    with pytest.raises(AttributeError):
        export(_trained(model, "head"), broken, tmp_path / "m", form="merged", card="")
    assert not any(tmp_path.iterdir())


def test_adapter_of_a_hub_model_refers_to_it(model_of: Any, tmp_path: Path) -> None:
    net = _trained(model_of("roberta", "cls"), "lora")
    net.get_base_model().config.name_or_path = "FacebookAI/roberta-base"
    net.get_base_model().config._commit_hash = "abc"
    export(net, load_tokenizer(model_of("roberta")), tmp_path / "m", form="adapter", card="")
    text = (tmp_path / "m" / "adapter_config.json").read_text()
    assert '"base_model_name_or_path": "FacebookAI/roberta-base"' in text
    assert '"revision": "abc"' in text
    assert not (tmp_path / "m" / "config.json").exists()


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("form", ["merged", "adapter", "sentence-transformers"])
def test_classes_stand_in_the_order_of_the_logits(form: Any, tmp_path: Path) -> None:
    """Many take them by position, and as text 10 comes before 2."""
    labels = tuple("lkjihgfedcba")
    net = attach(load(job.Model(labels=labels), Seed(1)), job.Train(method="lora"), Seed(2))
    to = tmp_path / "out"
    export(net, load_tokenizer(job.Model(labels=labels)), to, form=form, card="")
    body = to / "0_Transformer" if form == "sentence-transformers" else to
    named = json.loads((body / "config.json").read_text())["id2label"]
    assert list(named.items()) == [(str(i), name) for i, name in enumerate(labels)]


@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
def test_readers_of_the_tokenizers_file_read_what_the_head_was_trained_on(
    called: bool, model_of: Any, tmp_path: Path
) -> None:
    """A published file that cuts at six tokens from the left, and pads, handed that on."""
    folder = tmp_path / "theirs"
    shutil.copytree(model_of("bert").path, folder)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(6, direction="left")
    backend.enable_padding(direction="left", length=48)
    backend.save(str(folder / "tokenizer.json"))
    model = dataclasses.replace(model_of("bert", max_length=12), path=str(folder))
    tokenizer: Any = load_tokenizer(model)
    text = " ".join(TEXTS)
    wanted = tokenizer(text, truncation=True)["input_ids"]
    assert len(wanted) == 12
    if called:
        tokenizer(TEXTS, padding="max_length", max_length=32, truncation=True)
    before = tokenizer.backend_tokenizer.to_str(), dict(tokenizer.init_kwargs)
    export(_trained(model, "head"), tokenizer, tmp_path / "m", form="merged", card="")
    assert (tokenizer.backend_tokenizer.to_str(), dict(tokenizer.init_kwargs)) == before
    for to in (tmp_path / "m", tmp_path / "again"):
        assert Tokenizer.from_file(str(to / "tokenizer.json")).encode(text).ids == wanted
        written = json.loads((to / "tokenizer_config.json").read_text())
        assert "max_length" not in written
        assert written["model_max_length"] == 12
        # No segment ids: GPT-2 reads them as tokens.
        assert list(AutoTokenizer.from_pretrained(to)(text)) == ["input_ids", "attention_mask"]
        if not (tmp_path / "again").exists():
            again = dataclasses.replace(model, path=str(to))
            net = _trained(again, "head")
            export(net, load_tokenizer(again), tmp_path / "again", form="merged", card="")
