"""Every family × method × engine against plain autograd; what comes out is docs/models.md's table.

A row of the table passes the real preflight and then is compared with the oracle, or is refused by
that preflight with the name of a layer. To write the file anew::

    FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/training/test_family_table.py
"""

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from fedmodel import models
from fedmodel.errors import PrivacyError
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.gradients.units import Units
from fedmodel.job import Lora, Model, Train
from fedmodel.models import tiny
from fedmodel.models.families import TARGETS, head_names
from fedmodel.seeds import Seed
from fedmodel.training import tasks
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from fedmodel.training.preflight import preflight
from fedmodel.training.tasks import example_losses

tf: Any = transformers  # its configurations' arguments come from untyped tables here
DOCS = Path(__file__).parents[3] / "docs" / "models.md"
CPU = torch.device("cpu")
METHODS = ("lora", "head", "full")
ENGINES = ("fast", "hooks", "ghost")
DROPOUT = 0.1

# The largest error allowed, as a share of a parameter's largest true gradient; for parameters whose
# gradient is nearly zero (a key's bias has none) as a share of a hundredth of the largest of all.
TOLERANCE, FLOOR = 1e-4, 1e-2

TEXTS = (
    "patient has chest pain and fever",
    "no acute distress",
    "blood pressure is stable after surgery and the wound is clean",
    "history of diabetes",
    "x ray shows a fracture of the left arm",
)
LABELS = ("a", "b", "c", "a", "b")

_SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_BERT: dict[str, Any] = _SMALL | {
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_LLAMA: dict[str, Any] = _BERT | {"num_key_value_heads": 1, "pad_token_id": 0}
_LLAMA |= {"bos_token_id": 2, "eos_token_id": 3}
_GPT2: dict[str, Any] = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2}
_GPT2 |= {"n_positions": 64, "initializer_range": 0.2, "bos_token_id": 2, "eos_token_id": 3}
_T5: dict[str, Any] = {"vocab_size": 300, "d_model": 32, "num_layers": 2, "num_heads": 2}
_T5 |= {"d_ff": 48, "d_kv": 16, "pad_token_id": 0}
_VIT: dict[str, Any] = {k: v for k, v in _BERT.items() if "vocab" not in k and "posit" not in k}
_VIT |= {"image_size": 16, "patch_size": 4, "num_labels": 3}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: tf.BertConfig(**_BERT),
    "electra": lambda: tf.ElectraConfig(**_BERT, embedding_size=32),
    "albert": lambda: tf.AlbertConfig(**_BERT, embedding_size=16),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=48, initializer_range=0.2
    ),
    "roberta": lambda: tf.RobertaConfig(**_BERT),
    "mpnet": lambda: tf.MPNetConfig(**_BERT),
    "deberta-v2": lambda: tf.DebertaV2Config(**_BERT, **_DEBERTA, norm_rel_ebd="layer_norm"),
    "modernbert": lambda: tf.ModernBertConfig(
        **_BERT, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
    "gpt2": lambda: tf.GPT2Config(**_GPT2),
    "llama": lambda: tf.LlamaConfig(**_LLAMA),
    "mistral": lambda: tf.MistralConfig(**_LLAMA),
    "qwen3": lambda: tf.Qwen3Config(**_LLAMA, head_dim=16),
    "phi3": lambda: tf.Phi3Config(**_LLAMA),
    "gemma": lambda: tf.GemmaConfig(**_LLAMA, head_dim=16),
    "t5": lambda: tf.T5Config(**_T5),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a model and settings."""

    label: str
    kind: str
    settings: str = ""
    pooling: str = "cls"
    methods: tuple[str, ...] = METHODS
    frozen: tuple[str, ...] = ()
    targets: tuple[str, ...] | None = None
    bare: Callable[[], Any] | None = field(default=None, compare=False)


_BIAS = ("relative_attention_bias",)
_DISENTANGLED = ("rel_embeddings", "encoder.LayerNorm", "query_proj", "key_proj")


def _tied(config: Any) -> Any:
    config.tie_word_embeddings = True
    return config


ROWS = (
    Row("BERT", "bert"),
    Row("BERT, mean pooling", "bert", pooling="mean"),
    Row("ELECTRA", "electra"),
    Row("ALBERT", "albert"),
    Row("DistilBERT", "distilbert"),
    Row("RoBERTa", "roberta"),
    Row("MPNet", "mpnet"),
    Row("MPNet", "mpnet", f"train.frozen={list(_BIAS)}", methods=("full",), frozen=_BIAS),
    Row("DeBERTa-v2, v3", "deberta-v2"),
    Row(
        "DeBERTa-v2, v3",
        "deberta-v2",
        "train.lora.target_modules=[query_proj, key_proj]",
        methods=("lora",),
        targets=("query_proj", "key_proj"),
    ),
    Row(
        "DeBERTa-v2, v3",
        "deberta-v2",
        f"train.frozen={list(_DISENTANGLED)}",
        methods=("full",),
        frozen=_DISENTANGLED,
    ),
    Row("ModernBERT", "modernbert"),
    Row("GPT-2", "gpt2"),
    Row("Llama", "llama"),
    Row("Mistral", "mistral"),
    Row("Qwen3", "qwen3"),
    Row("Phi-3", "phi3"),
    Row("Gemma", "gemma"),
    Row(
        "Gemma", "gemma", "train.frozen=[embed_tokens]", methods=("full",), frozen=("embed_tokens",)
    ),
    Row("T5's encoder, mean pooling", "t5", pooling="mean"),
    Row(
        "T5's encoder, mean pooling",
        "t5",
        f"train.frozen={list(_BIAS)}",
        pooling="mean",
        methods=("full",),
        frozen=_BIAS,
    ),
    Row("BERT, masked LM, tied¹", "bert", bare=lambda: tf.BertForMaskedLM(CONFIGS["bert"]())),
    Row("GPT-2, LM, tied¹", "gpt2", bare=lambda: tf.GPT2LMHeadModel(CONFIGS["gpt2"]())),
    Row("Llama, LM, tied¹", "llama", bare=lambda: tf.LlamaForCausalLM(_tied(CONFIGS["llama"]()))),
    Row("Llama, LM, untied¹", "llama", bare=lambda: tf.LlamaForCausalLM(CONFIGS["llama"]())),
    Row("ViT¹", "vit", bare=lambda: tf.ViTForImageClassification(tf.ViTConfig(**_VIT))),
)


# -- models that aren't text classifiers: no Learner, but the same preflight ---------------------


class Bare:
    """As much of a learner as preflight and the comparison need."""

    def __init__(self, module: nn.Module, task: str) -> None:
        self.module, self.task = module, task
        self.layout = models.Layout.of(module)
        self.device, self.precision = CPU, "float32"
        self.preflights_passed: set[tuple[str, bool]] = set()
        self.dropout = 1.0  # some rows have it

    @property
    def trained(self) -> nn.Module:
        return self.module

    @property
    def initial(self) -> Any:
        return self.flatten()

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.module(**models.with_positions(self.module, batch)).logits
        return out

    def flatten(self) -> Any:
        return self.layout.flatten(self.module)

    def load_vector(self, vector: Any) -> None:
        self.layout.load_vector(self.module, vector)


class Rows:
    """As much of examples: token ids of several lengths, or pictures."""

    def __init__(self, task: str) -> None:
        made = torch.Generator().manual_seed(3)
        self.task = task
        lengths = [9, 5, 12, 7, 9]
        self.tokens = [torch.randint(5, 300, (n,), generator=made) for n in lengths]
        self.targets = [torch.randint(5, 300, (n,), generator=made) for n in lengths]
        self.pictures = torch.randn(5, 3, 16, 16, generator=made)
        self.lengths = np.array(lengths)
        self.units = Units(self.lengths, None)

    def __len__(self) -> int:
        return 5

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        if self.task != "tokens":
            return {"pixel_values": self.pictures[torch.from_numpy(rows)]}
        ids = pad_sequence([self.tokens[i] for i in rows], batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        if self.task != "tokens":
            return torch.from_numpy(rows) % 3
        return pad_sequence([self.targets[i] for i in rows], True, -100)


def _tokens(logits: Tensor, labels: Tensor) -> Tensor:
    """Return every row's loss: the mean over its own tokens, whatever the others' number."""
    losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    return losses.sum(1) / (labels != -100).sum(1)


@pytest.fixture(autouse=True, scope="module")
def _loss_of_tokens() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASK_LOSSES, "tokens", _tokens)
        yield


def _drop(config: Any) -> Any:
    for name in config.to_dict():
        if "dropout" in name or name.endswith("pdrop"):
            setattr(config, name, DROPOUT)
    return config


def _bare(row: Row, method: str) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model

    assert row.bare is not None
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = row.bare()
        module = type(module)(_drop(module.config))
    heads = list(head_names(module))
    if method == "lora":
        saved = heads if row.kind == "vit" else None  # a tied head isn't to be copied
        lora = LoraConfig(
            r=4,
            target_modules=list(TARGETS[row.kind]),
            modules_to_save=saved,
            fan_in_fan_out=row.kind == "gpt2",
        )
        module = get_peft_model(module, lora)
    else:
        module.requires_grad_(method == "full")
        for name in heads if method == "head" else ():
            module.get_submodule(name).requires_grad_(True)
    task = "sequence-classification" if row.kind == "vit" else "tokens"
    return Bare(module, task), Rows(task)


@functools.cache
def _folder(kind: str) -> str:
    folder = tempfile.mkdtemp(prefix=f"fedmodel-{kind}-")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        tf.AutoModel.from_config(CONFIGS[kind]()).save_pretrained(folder)
    words = list(tiny.vocabulary())[:300]
    tf.BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    return folder


def _made(row: Row, method: str) -> tuple[Any, Any]:
    if row.bare is not None:
        return _bare(row, method)
    model = Model(
        labels=("a", "b", "c"),
        source="hub",
        path=_folder(row.kind),
        max_length=16,
        pooling=row.pooling,  # type: ignore[arg-type]
        dropout=DROPOUT,
    )
    lora = Lora(target_modules=row.targets)
    train = Train(method=method, frozen=row.frozen, lora=lora)  # type: ignore[arg-type]
    learner = Learner(model, train, Seed(0), CPU)
    return learner, prepare(learner, TEXTS, LABELS, ("a", "b", "c"), 16)


# -- the comparison ------------------------------------------------------------------------------


def _named(learner: Any) -> dict[str, nn.Parameter]:
    return {n: p for n, p in learner.module.named_parameters() if p.requires_grad}


def _truth(learner: Any, examples: Any, rows: NDArray[np.int64], dropout: bool) -> list[Any]:
    """Return each row's gradients by plain autograd: alone, or with dropout in its batch."""
    named, out = _named(learner), []
    torch.manual_seed(11)
    together = example_losses(learner, examples.batch(rows), examples.labels(rows))
    for i in range(len(rows)):
        one = rows[i : i + 1]
        loss = together[i]
        if not dropout:
            loss = example_losses(learner, examples.batch(one), examples.labels(one)).sum()
        grads = torch.autograd.grad(
            loss, list(named.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(named.items(), grads, strict=True)
        out.append({n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs})
    return out


def _error(engine: Any, learner: Any, examples: Any, rows: NDArray[np.int64], true: Any) -> float:
    """Return the largest error of a gradient or norm, as :data:`TOLERANCE` means it."""
    named = _named(learner)
    torch.manual_seed(11)
    engine.begin(len(rows))
    losses = example_losses(learner, examples.batch(rows), examples.labels(rows))
    engine.backward(losses, Groups.records(len(rows), CPU))
    squares = torch.stack(list(engine.squares().values())).sum(0)
    largest = {n: max(float(t[n].abs().max()) for t in true) for n in named}
    floor = FLOOR * max(largest.values())
    worst = 0.0
    for i, expected in enumerate(true):
        for p in named.values():
            p.summed_grad = None  # type: ignore[attr-defined]
        engine.add(torch.eye(len(rows))[i], keep=True)
        for name, p in named.items():
            error = (p.summed_grad - expected[name]).abs().max()  # type: ignore[attr-defined]
            worst = max(worst, float(error) / max(largest[name], floor))
        norm = torch.stack([g.double().square().sum() for g in expected.values()]).sum().sqrt()
        assert squares[i].sqrt() >= norm * (1 - 1e-5)
        assert squares[i].sqrt() <= norm * (1 + 1e-3)
    return worst


def _compare(learner: Any, examples: Any, name: str, known: dict[Any, Any]) -> None:
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    learner.load_vector((learner.flatten() + nudge).astype(np.float32))
    rows = np.array([0, 1, 2, 3])
    assert len(set(examples.lengths[rows])) > 1
    assert len(rows) not in examples.lengths
    engine = make_engine(name, learner.trained)
    for dropout, chosen in ((False, rows), (False, rows[:1]), (True, rows)):
        learner.module.train()
        rates = {m: m.p for m in learner.module.modules() if isinstance(m, nn.Dropout)}
        with _without_dropout(learner, rates) if not dropout else torch.enable_grad():
            key = (dropout, len(chosen))
            if key not in known:
                known[key] = _truth(learner, examples, chosen, dropout)
            with engine.attached():
                error = _error(engine, learner, examples, chosen, known[key])
        assert error <= TOLERANCE, (name, dropout, len(chosen), error)
        learner.module.zero_grad(set_to_none=True)


class _without_dropout:  # noqa: N801 - reads as a function
    """Within this context dropout is off, though the module trains."""

    def __init__(self, learner: Any, rates: dict[Any, float]) -> None:
        self.module, self.rates = learner.module, rates
        # Attention keeps its own probability, where it isn't a Dropout module.
        self.own = [
            (m, name, value)
            for m in self.module.modules()
            for name, value in vars(m).items()
            if "drop" in name and isinstance(value, float)
        ]

    def __enter__(self) -> None:
        for m in self.rates:
            m.p = 0.0
        for m, name, _ in self.own:
            setattr(m, name, 0.0)

    def __exit__(self, *_: Any) -> None:
        for m, p in self.rates.items():
            m.p = p
        for m, name, value in self.own:
            setattr(m, name, value)


# -- verdicts ------------------------------------------------------------------------------------


@functools.cache
def _verdicts(row: Row, method: str) -> tuple[str, ...]:
    """Return for each engine ``""`` if it is right, or the layer for which it is refused."""
    learner, examples = _made(row, method)
    found: list[str] = []
    known: dict[Any, Any] = {}  # the truth doesn't depend on the engine
    start = learner.flatten()
    for engine in ENGINES:
        learner.load_vector(start)
        try:
            preflight(learner, examples, engine)
        except PrivacyError as error:
            found.append(_refusal(learner, str(error)))
        else:
            _compare(learner, examples, engine, known)
            found.append("")
    return tuple(found)


def _refusal(learner: Any, message: str) -> str:
    layer = re.search(r"'([\w.]+)'", message)
    assert layer, message
    known = {n for n, _ in learner.module.named_modules()}
    known |= {n for n, _ in learner.module.named_parameters(remove_duplicate=False)}
    assert layer[1] in known, message
    assert re.search(r"freeze it|privacy\.engine", message), message
    return re.sub(r"\.(weight|bias)$", "", layer[1])


CASES = [(row, method) for row in ROWS for method in row.methods]


@pytest.mark.parametrize(
    ("row", "method"), CASES, ids=[f"{r.label} {m} {r.settings}".strip() for r, m in CASES]
)
def test_right_or_refused_by_name(row: Row, method: str) -> None:
    fast, *opacus = _verdicts(row, method)
    # Ours is never the one that is refused where Opacus's are right.
    assert not fast or all(opacus)


def test_dropout_was_on_and_changes_gradients() -> None:
    learner, examples = _made(ROWS[0], "full")
    learner.module.train()
    learner.load_vector((learner.flatten() + 0.02).astype(np.float32))
    rows = np.array([0, 1])
    wet, other = (_truth(learner, examples, rows, True)[0] for _ in "ab")
    with _without_dropout(learner, {m: m.p for m in learner.module.modules() if hasattr(m, "p")}):
        dry = _truth(learner, examples, rows, True)[0]
    name = max(wet, key=lambda n: float(wet[n].abs().max()))
    assert torch.equal(wet[name], other[name])
    assert not torch.allclose(wet[name], dry[name], rtol=0.01)


# -- docs/models.md ------------------------------------------------------------------------------

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def _cell(row: Row, method: str) -> str:
    if method not in row.methods:
        return ""
    right = [e for e, layer in zip(ENGINES, _verdicts(row, method), strict=True) if not layer]
    return ", ".join(right) or "refused"


def _table() -> str:
    lines = [
        "| family | settings | `lora` | `head` | `full` |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = " | ".join(_cell(row, method) for method in METHODS)
        settings = f"`{row.settings}`".replace("'", "") if row.settings else ""
        lines.append(f"| {row.label} | {settings} | {cells} |")
    lines += ["", "| family | `train.method` | engine | refused because of |", "|---|---|---|---|"]
    for row, method in CASES:
        layers: dict[str, list[str]] = {}
        for engine, layer in zip(ENGINES, _verdicts(row, method), strict=True):
            if layer:
                layers.setdefault(layer, []).append(engine)
        also = f", `{row.settings}`".replace("'", "") if row.settings else ""
        for layer, engines in layers.items():
            lines.append(f"| {row.label} | `{method}`{also} | {', '.join(engines)} | `{layer}` |")
    return "\n".join(lines)


def test_the_documented_table_is_this_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n\n{_table()}\n\n{END}{after}"
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == wanted, (
        "docs/models.md's table isn't what the engines do; write it anew with "
        "FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/training/test_family_table.py"
    )
