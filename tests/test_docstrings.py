"""Docstrings whose ``Args:`` name what there is: a function's arguments, a class's fields."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("fedmodel", "server", "clients", "simulations")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def named(node: Documented) -> list[str] | None:
    """Return the names in the docstring's ``Args:``; None where it has no such section."""
    text = ast.get_docstring(node) or ""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, flags=re.MULTILINE)
    if section is None:
        return None
    # `a, b: what both are` names two.
    found = re.findall(
        r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:", section[1], re.MULTILINE
    )
    return [name.strip().lstrip("*") for group in found for name in group.split(",")]


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    of = node.args
    loose = [one for one in (of.vararg, of.kwarg) if one is not None]
    return [one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs, *loose)]


def fields(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> tuple[list[str], list[str]]:
    """Return what a class itself is made from, and that together with what it inherits."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            return arguments(child), arguments(child)
    own = [
        child.target.id
        for child in node.body
        if isinstance(child, ast.AnnAssign)
        and isinstance(child.target, ast.Name)
        and "ClassVar" not in ast.unparse(child.annotation)
        and "init=False" not in ast.unparse(child)
    ]
    bases = [classes[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in classes]
    inherited = [name for base in bases for name in fields(base, classes)[1]]
    return own or inherited, [*own, *inherited]


def faults(tree: ast.Module, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, Documented):
            continue
        told = named(node)
        if told is None:
            continue
        if isinstance(node, ast.ClassDef):
            own, known = fields(node, classes)
        else:
            own = known = arguments(node)
        # What begins with an underscore is nobody's business, and `self` is no argument.
        there = {name for name in own if not name.startswith("_")} - {"self", "cls"}
        where = f"{node.lineno} {node.name}"
        if gone := sorted(set(told) - set(known)):
            yield f"{where}: no such argument: {', '.join(gone)}"
        if unsaid := sorted(there - set(told)):
            yield f"{where}: not named: {', '.join(unsaid)}"
        if len(set(told)) != len(told):
            yield f"{where}: named twice: {', '.join(told)}"


def every_fault(sources: Mapping[str, str]) -> list[str]:
    trees = {name: ast.parse(text) for name, text in sources.items()}
    classes = {
        node.name: node
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return [f"{name}:{fault}" for name, tree in trees.items() for fault in faults(tree, classes)]


@pytest.mark.long
def test_docstrings_name_the_arguments_that_there_are() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = every_fault({str(p.relative_to(ROOT)): p.read_text() for p in paths})
    assert len(paths) > 100
    assert not found, "\n".join(found)


def args(*lines: str) -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return f'    """Do it.\n\n    Args:\n{body}\n    Returns:\n        r: what.\n    """\n'


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(a):\n    pass", None),
        ("def f(a, *, b):\n" + args("a: one.", "b: two."), None),
        ("def f(a, *b, **c):\n" + args("a, *b: one.", "**c (x): two."), None),
        ("def f(a):\n" + args("a: one.", "b: two."), "no such argument: b"),
        ("def f(a, b):\n" + args("a: one:", "    b: deeper."), "not named: b"),
        ("def f(a):\n" + args("a: one.", "a: one."), "named twice"),
        ("class A:\n" + args("x: one.") + "    x: int\n    y: int", "not named: y"),
        ("class A:\n" + args("x: one.") + "    x: int\n    y: ClassVar[int] = 1", None),
        ("class A:\n" + args("x: one.") + "    def __init__(self, z): ...", "no such argument: x"),
        ("class A:\n    x: int\nclass B(A):\n" + args("x: a.", "y: b.") + "    y: int", None),
        ("class A:\n    x: int\nclass B(A):\n" + args("y: b.") + "    y: int", None),
    ],
)
def test_the_check_sees_what_drifts(source: str, says: str | None) -> None:
    found = every_fault({"m.py": source})
    assert (says is None and not found) or (says is not None and says in found[0])
