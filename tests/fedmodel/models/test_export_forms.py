"""Every form of an export does what its card says, in a process without fedmodel."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmodel import job, models
from fedmodel.errors import MissingExtraError, ModelError
from fedmodel.models import onnx
from fedmodel.models.families import TARGETS
from fedmodel.seeds import Seed
from tests.checkpoints import tf
from tests.fedmodel.models.exported import (
    BASE,
    EVERY,
    LABELS,
    LONG,
    Case,
    as_the_cards_say,
    checkpoint,
    exported,
)

SOME = [
    Case("bert"),
    Case("bert", form="adapter"),
    Case("bert", form="sentence-transformers"),
    Case("bert", form="sentence-transformers", task="multi-label-classification"),
    Case("bert", task="multi-label-classification"),
    Case("distilbert", "cls"),
    Case("gpt2", "cls"),
    Case("roberta", "cls", "adapter"),
    Case("t5", form="sentence-transformers"),
    Case("bert", form="onnx"),
    Case("electra", form="adapter"),
    Case("mpnet"),
    Case("llama", "cls"),
    Case("modernbert", form="sentence-transformers"),
    Case("deberta-v2", "cls", "adapter"),
]
POOLED = [kind for kind in EVERY if kind != "t5"]  # T5's own head isn't a text encoder's
ALL = [
    *(Case(kind, form=form) for kind in EVERY for form in ("merged", "adapter")),
    *(Case(kind, form="sentence-transformers") for kind in EVERY),
    *(Case(kind, "cls", form) for kind in POOLED for form in ("merged", "adapter")),
]
GRAPHS = [Case(kind, pooling, "onnx") for kind in POOLED for pooling in ("mean", "cls")]


def test_every_family_that_classifies_texts_is_tried() -> None:
    assert EVERY.keys() == TARGETS.keys() - {"vit"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [
        SOME,
        pytest.param(ALL, marks=pytest.mark.soak),
        pytest.param([*GRAPHS, Case("t5", form="onnx")], marks=pytest.mark.soak),
    ],
    ids=["some", "all", "onnx"],
)
def test_the_lines_of_the_card_give_our_own_answers(tmp_path: Path, cases: list[Case]) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("onnxruntime")
    expected = dict(exported(case, tmp_path) for case in cases)
    folders = list(expected)
    for folder, lines in zip(folders, as_the_cards_say(folders), strict=True):
        for line, row in zip(lines, expected[folder], strict=True):
            if folder.name.endswith("-multi"):
                given = {x for x, p in zip(LABELS, row.tolist(), strict=True) if p > 0.5}
                assert set(json.loads(line.replace("'", '"'))) == given
                continue
            label, score = line.split()
            assert label == LABELS[int(row.argmax())], folder.name
            assert float(score) == pytest.approx(float(row.max()), abs=1e-5), folder.name
    _check_files(folders)


def _check_files(folders: list[Path]) -> None:
    for folder in folders:
        names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl", ".ckpt"))]
        trusted = "trust_remote_code=True)" in (folder / "README.md").read_text()
        assert ("modeling_fedmodel.py" in names) == trusted
        assert trusted == ("-mean-merged" in folder.name or "-mean-adapter" in folder.name)
        for path in (folder / name for name in names if not name.endswith(".safetensors")):
            text = path.read_bytes()
            assert str(folder.parent).encode() not in text, path
            assert b"site-packages" not in text, path


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("adds", [True, False], ids=["as BERT", "as GPT-2"])
def test_the_card_warns_of_empty_texts_where_the_libraries_cant_read_them(
    adds: bool, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer
    from transformers import pipeline

    if not adds:
        base = checkpoint("gpt2", tmp_path / "gpt2")
        backend = Tokenizer.from_file(str(base / "tokenizer.json"))
        backend.post_processor = None
        made: Any = tf.PreTrainedTokenizerFast
        made(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(base)
    to, _ = exported(Case("gpt2", "cls"), tmp_path)
    assert ("Leave empty texts out" in (to / "README.md").read_text()) != adds
    classify = pipeline("text-classification", model=str(to), device="cpu")
    if adds:
        assert classify("", truncation=True)[0]["label"] in LABELS
    else:
        with pytest.raises((RuntimeError, IndexError, ValueError)):
            classify("", truncation=True)


def _net(pooling: str = "mean", **more: Any) -> tuple[Any, Any]:
    model = job.Model(labels=LABELS, pooling=pooling, max_length=12, **more)  # type: ignore[arg-type]
    return models.load(model, Seed(1)), models.load_tokenizer(model)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_folder_for_sentence_transformers_has_each_step_as_it_is(
    tmp_path: Path, normalize: bool, bias: bool
) -> None:
    net, tokenizer = _net(normalize=normalize, head_bias=bias)
    with torch.no_grad():
        for p in net.classifier.parameters():
            p.normal_()
    models.export(net, tokenizer, tmp_path / "m", form="sentence-transformers", card="")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    assert kinds == ["Transformer", "Pooling", *["Normalize"] * normalize, "Dense"]
    assert not (tmp_path / "m" / "config.json").exists()
    body = json.loads((tmp_path / "m" / modules[0]["path"] / "config.json").read_text())
    assert body["id2label"] == {"0": "b", "1": "c", "2": "a"}
    library = pytest.importorskip("sentence_transformers")
    loaded = library.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    texts = ["Chest pain for two days, and a cough that has been there for weeks.", "no fever"]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = net(**batch).logits
    torch.testing.assert_close(loaded.encode(texts, convert_to_tensor=True), expected)


def test_no_random_head_is_put_on_a_folder_for_sentence_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    models.export(*_net(), tmp_path / "m", form="sentence-transformers", card="")
    with pytest.raises(ValueError, match=r"config\.json"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    again = job.Model(source="hub", path=str(tmp_path / "m"), labels=LABELS)
    with pytest.raises(ModelError, match="form=merged"):
        models.load(again, Seed(1))


def test_a_graph_is_not_gone_on_with(tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=r"for onnxruntime.* form=merged"):
        models.load(job.Model(source="hub", path=str(tmp_path), labels=LABELS), Seed(1))


def test_an_own_head_has_no_form_for_sentence_transformers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.pooling=cls .* form=merged"):
        models.export(*_net("cls"), tmp_path / "m", form="sentence-transformers", card="")
    assert not any(tmp_path.iterdir())


def test_onnx_names_the_extra_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(MissingExtraError, match=r"fedmodel\[onnx\]"):
        models.export(*_net(), tmp_path / "m", form="onnx", card="")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("got", [[float("nan")], [1.001], [1.0, 1.0]], ids=str)
def test_other_logits_are_told_from_ours(got: list[float]) -> None:
    onnx._compare(torch.tensor([1.00005]), torch.tensor([1.0]))
    with pytest.raises(ModelError, match="logits of the ONNX form differ"):
        onnx._compare(torch.tensor(got), torch.tensor([1.0]))


class _Off(torch.nn.Module):
    """Logits that are off by a little, in the graph alone."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits = self.net(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits + 1e-3 * (input_ids.shape[0] > 2)  # type: ignore[no-any-return]


class _Branching(_Off):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits = super().forward(input_ids, attention_mask)
        return logits if input_ids.sum() > 0 else -logits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "says"),
    [(_Off, "logits of the ONNX form differ"), (_Branching, "can't export")],
)
def test_what_onnx_gets_wrong_isnt_kept(
    wrong: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx, "_Logits", wrong)
    with pytest.raises(ModelError, match=f"{says}.*form=merged"):
        models.export(*_net(), tmp_path / "m", form="onnx", card="")
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_an_adapter_is_put_on_its_base_model_by_the_lines_of_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a hub model; a folder stands for it here."""
    monkeypatch.setattr(sys.modules["fedmodel.models.export"], "_base", lambda _: "some/model")
    monkeypatch.setitem(BASE, "source", "hub")
    monkeypatch.setitem(BASE, "path", "some/model")
    to, expected = exported(Case("roberta", "cls", "adapter"), tmp_path)
    assert not (to / "config.json").exists()
    (lines,) = re.findall("```python\n(.*?)```", (to / "README.md").read_text(), flags=re.DOTALL)
    assert '"some/model", num_labels=3' in lines
    lines = lines.replace("some/model", str(tmp_path / "roberta"))
    monkeypatch.chdir(to)
    capsys.readouterr()
    exec(lines.replace("A second one.", LONG), {})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    for (label, score), row in zip(told, expected, strict=True):
        assert label == LABELS[int(row.argmax())]
        assert float(score) == pytest.approx(float(row.max()), abs=1e-5)
