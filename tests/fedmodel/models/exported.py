"""Exported folders of every family, and a process without fedmodel that uses them."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmodel import export, job, models
from fedmodel.config import to_mapping
from fedmodel.report.card import model_card
from fedmodel.seeds import Seed
from tests.checkpoints import write_checkpoint
from tests.fedmodel.report.conftest import PLAIN
from tests.fedmodel.training.families import CONFIGS, tf
from tests.jobs import make_job

LABELS = ("b", "c", "a")  # not in order of their names
LENGTH = 16
LONG = "blood pressure is stable after surgery and the wound is clean. " * 9
TEXTS = ["A first text.", LONG]
BASE: dict[str, Any] = {"source": "tiny", "path": None}
"""What the cards say that the base model was."""

_BERT: dict[str, Any] = CONFIGS["bert"]().to_dict()
_LLAMA: dict[str, Any] = CONFIGS["llama"]().to_dict()


def _like(kind: str, values: dict[str, Any]) -> Callable[[], Any]:
    known = {k: v for k, v in values.items() if k not in ("model_type", "architectures")}
    return lambda: tf.AutoConfig.for_model(kind, **known)


EVERY: dict[str, Callable[[], Any]] = {
    **CONFIGS,
    "camembert": _like("camembert", _BERT),
    "xlm-roberta": _like("xlm-roberta", _BERT),
    "qwen2": _like("qwen2", _LLAMA | {"vocab_size": 310}),  # its tokenizer adds a token
}


@dataclass(frozen=True)
class Case:
    """What is exported, and how."""

    kind: str
    pooling: str = "mean"
    form: str = "merged"
    task: str = "sequence-classification"

    def __str__(self) -> str:
        return f"{self.kind}-{self.pooling}-{self.form}-{self.task[:5]}"


def checkpoint(kind: str, folder: Path) -> Path:
    """Return a small random checkpoint of a family, written once."""
    return folder if folder.exists() else write_checkpoint(folder, EVERY[kind]())


def exported(case: Case, place: Path) -> tuple[Path, Tensor]:
    """Return an exported folder, and what our own model says of the texts: probabilities."""
    model = job.Model(
        source="hub",
        path=str(checkpoint(case.kind, place / case.kind)),
        labels=LABELS,
        max_length=LENGTH,
        pooling=case.pooling,  # type: ignore[arg-type]
        task=case.task,  # type: ignore[arg-type]
    )
    net: Any = models.attach(models.load(model, Seed(1)), job.Train(method="lora"), Seed(2))
    made = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=made) * 0.3)
    tokenizer: Any = models.load_tokenizer(model)
    ids = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = net.eval()(ids["input_ids"], attention_mask=ids["attention_mask"]).logits
    card = model_card(
        to_mapping(make_job(model=replace(model, **BASE))),
        PLAIN,
        folder=export.exported(net, tokenizer, case.form),  # type: ignore[arg-type]
    )
    to = place / str(case)
    models.export(net, tokenizer, to, form=case.form, card=card)  # type: ignore[arg-type]
    sets = case.task != "sequence-classification"
    return to, logits.sigmoid() if sets else logits.softmax(dim=-1)


READ = f"""
import contextlib, io, os, re, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
for folder in sys.argv[2].split(";"):
    os.chdir(folder)
    (code,) = re.findall("```python\\n(.*?)```", open("README.md").read(), flags=re.DOTALL)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(code.replace("A second one.", {LONG!r}), {{}})
    with open("../" + os.path.basename(folder) + ".out", "w") as file:
        file.write(told.getvalue())
"""


def as_the_cards_say(folders: list[Path]) -> list[list[str]]:
    """Run the lines of the folders' cards where fedmodel isn't, and return what they print."""
    graphs = [folder for folder in folders if "-onnx-" in folder.name]
    others = [folder for folder in folders if folder not in graphs]
    for absent, some in (("fedmodel", others), ("fedmodel,torch", graphs)):
        if some:
            _read(absent, some)
    return [(folder.parent / f"{folder.name}.out").read_text().splitlines() for folder in folders]


def _read(absent: str, folders: list[Path]) -> None:
    place = folders[0].parent
    done = subprocess.run(
        [sys.executable, "-I", "-c", READ, absent, ";".join(map(str, folders))],
        cwd=place,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
