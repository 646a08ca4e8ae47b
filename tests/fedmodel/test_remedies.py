"""Refusals of data and checkpoints: each says what to do, wherever it is raised."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedmodel

ROOT = Path(fedmodel.__file__).parents[1]
ERRORS = {"DataError", "ModelError"}
# What somebody is told to do; the names of keys are no words.
REMEDY = re.compile(
    r"\b([Uu]se|[Ss]et|[Gg]ive|[Cc]hoose|[Cc]orrect|[Cc]heck|[Rr]aise|[Ll]ower|[Ll]eave|[Tt]ake|"
    r"[Nn]ame|[Pp]ass|[Ll]oad|[Ww]rite|[Dd]eclare|[Dd]ownload|[Mm]erge|[Ee]xport|[Ii]nstall|"
    r"[Kk]eep|[Cc]onvert|compare|every party needs|(must|needs to) be)\b(?![.=])|it has: "
)


def _raised(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the words of each such error whose words stand where it is raised."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Raise):
            continue
        call = node.exc
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id not in ERRORS or not call.args:
            continue
        said = call.args[0]
        pieces = said.values if isinstance(said, ast.JoinedStr) else [said]
        words = [str(p.value) for p in pieces if isinstance(p, ast.Constant)]
        # What another function says, or a constant, it says itself.
        if len("".join(words)) > 20:
            made = [ast.unparse(p) for p in pieces if not isinstance(p, ast.Constant)]
            yield node.lineno, "".join(words) + " ".join(f" {{{m}}}" for m in made)


ROOMS = ("fedmodel/data", "fedmodel/models", "fedmodel/tasks", "fedmodel/training", "clients")


@pytest.mark.parametrize("room", ROOMS)
def test_every_refusal_of_data_or_of_a_checkpoint_says_what_to_do(room: str) -> None:
    found = [
        (path, line, said) for path in (ROOT / room).rglob("*.py") for line, said in _raised(path)
    ]
    assert found
    without = [
        f"{path.relative_to(ROOT)}:{line}: {said}"
        for path, line, said in found
        if not REMEDY.search(said) and "_ELSEWHERE" not in said and "settings(" not in said
    ]
    assert without == []
