"""Usage of an exported folder: the lines that load it and classify with it, for its card."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedmodel._escape import escaped
from fedmodel._forms import ExportForm
from fedmodel.tasks import Task

__all__ = ["Exported", "library", "usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an exported folder holds, as far as its user must know.

    Args:
        form: of the folder.
        code: whether transformers must run Python from it.
        base: whether its base model is in it or isn't needed; false for an adapter of a hub model.
        blank: whether its tokenizer gives some token for a text that is empty.
    """

    form: ExportForm = "merged"
    code: bool = False
    base: bool = True
    blank: bool = True


_TEXTS = '["A first text.", "A second one."]'
_LIBRARIES: dict[ExportForm, str] = {
    "merged": "transformers",
    "adapter": "peft",
    "sentence-transformers": "sentence-transformers",
    "onnx": "onnx",
}


def library(form: ExportForm) -> str:
    """Return the hub's name of the library that loads a form."""
    return _LIBRARIES[form]


def usage(
    folder: Exported,
    task: Task,
    *,
    tokens: int,
    labels: Sequence[str],
    base: tuple[str, str | None],
) -> str:
    """Return a section of Markdown whose Python lines run in the folder itself.

    Args:
        folder: what is in it.
        task: of the model.
        tokens: of a text that are read.
        labels: in the order of the logits.
        base: hub id and revision of the base model, for an adapter without it.
    """
    form = folder.form
    if form == "sentence-transformers":
        lines, after = _sentences(task), _SENTENCES
    elif form == "onnx":
        lines, after = _onnx(task), _ONNX
    elif not folder.base:
        lines, after = _adapter(task, *base, labels), _PLAIN
    else:
        lines, after = _pipeline(task, folder.code), _CODE if folder.code else _PLAIN
    cut = f"`truncation=True` cuts a text after {tokens} tokens, as in training. "
    if form == "sentence-transformers":
        cut = f"A text is cut after {tokens} tokens, as in training. "
    if not folder.blank:
        after += _BLANK
    block = ["## How to use it", "", "```python", *lines, "```", "", cut + after]
    return "\n".join(block)


_PLAIN = "The folder holds no code."
_BLANK = (
    " Leave empty texts out: the tokenizer makes no token of them, and what loads this folder ends "
    "in an error for such a text, or answers at random beside others."
)
_CODE = (
    "`trust_remote_code=True` lets transformers run `modeling_fedmodel.py` from this folder (mean "
    "pooling and a linear head). Read it first: it is short and imports only torch and "
    "transformers. The forms `sentence-transformers` and `onnx` of the same model (`fedmodel "
    "export form=…`) need no such trust."
)
_SENTENCES = (
    "The folder holds no code. What the library calls an embedding is one logit for each class, in "
    "the order of `id2label`; the modules before the last one, Dense, give the pooled vector that "
    "the head reads. `AutoModelForSequenceClassification` can't load this folder."
)
_ONNX = (
    "The folder holds no code, and torch isn't needed. `model.onnx` is the whole model; before it "
    "was written its logits were compared with torch's, in batches of 1 to 8 texts up to that "
    "length: they differ by at most 10⁻⁴ (of the largest, where that is above 1). It can't be "
    "trained further: form=merged can."
)


def _pipeline(task: Task, code: bool) -> list[str]:
    trust = ", trust_remote_code=True" if code else ""
    kind = task.card.pipeline_tag
    return [
        "from transformers import pipeline",
        "",
        f'classify = pipeline("{kind}", model="."{trust})  # where this file lies',
        *_answers(task),
    ]


def _answers(task: Task) -> list[str]:
    if task.label_sets:
        return [
            f"for answers in classify({_TEXTS}, truncation=True, top_k=None):",
            '    print([a["label"] for a in answers if a["score"] > 0.5])',
        ]
    return [
        f"for answer in classify({_TEXTS}, truncation=True):",
        '    print(answer["label"], answer["score"])',
    ]


def _adapter(task: Task, base: str, revision: str | None, labels: Sequence[str]) -> list[str]:
    auto, kind = task.head.auto_class, task.head.problem_type
    pinned = f", revision={json.dumps(revision)}" if revision else ""
    # An escape is the same character to Python, and turns no line round for who reads it.
    names = escaped(json.dumps(list(labels), ensure_ascii=False))
    return [
        "from peft import PeftModel",
        f"from transformers import {auto}, AutoTokenizer, pipeline",
        "",
        f"labels = {names}",
        f"base = {auto}.from_pretrained(",
        f'    {json.dumps(base)}{pinned}, num_labels={len(labels)}, problem_type="{kind}",',
        "    id2label=dict(enumerate(labels)), label2id={x: i for i, x in enumerate(labels)},",
        ")",
        'model = PeftModel.from_pretrained(base, ".").merge_and_unload()  # where this file lies',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f'classify = pipeline("{task.card.pipeline_tag}", model=model, tokenizer=tokenizer)',
        *_answers(task),
    ]


def _sentences(task: Task) -> list[str]:
    made = "sigmoid()" if task.label_sets else "softmax(dim=-1)"
    return [
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer(".")  # where this file lies',
        "labels = model[0].auto_model.config.id2label",
        f"for row in model.encode({_TEXTS}, convert_to_tensor=True).{made}:",
        _printed(task),
    ]


def _onnx(task: Task) -> list[str]:
    made = ["given = 1 / (1 + np.exp(-logits))"]
    if not task.label_sets:
        made = [
            "odds = np.exp(logits - logits.max(-1, keepdims=True))",
            "given = odds / odds.sum(-1, keepdims=True)",
        ]
    return [
        "import json",
        "",
        "import numpy as np",
        "import onnxruntime",
        "from transformers import AutoTokenizer",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")  # where this file lies',
        'labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f'inputs = tokenizer({_TEXTS}, padding=True, truncation=True, return_tensors="np")',
        '(logits,) = session.run(["logits"], dict(inputs))',
        *made,
        "for row in given:",
        _printed(task),
    ]


def _printed(task: Task) -> str:
    if task.label_sets:
        return "    print([labels[i] for i, p in enumerate(row.tolist()) if p > 0.5])"
    return "    print(labels[int(row.argmax())], float(row.max()))"
