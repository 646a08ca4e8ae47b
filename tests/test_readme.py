"""The README's commands run as they stand there (made small), and its links lead somewhere."""

import csv
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from fedmodel import cli
from simulations.scenario import Scenario

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SECURE = (ROOT / "docs/secure-aggregation.md").read_text()
SHARED = ROOT.parent / "shared"
SMALL = ["debug=fast", "data.rows=200", "data.test_rows=40"]
LARGE = re.compile("^data.rows=[0-9]+$")
ROWS = 400  # of a file: each of its five hospitals has some


def blocks(page: str) -> list[list[list[str]]]:
    """Return the commands of every block that has some."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL):
        lines = [line.split("#")[0].strip() for line in block.splitlines()]
        found.append([shlex.split(line)[1:] for line in lines if line.startswith("fedmodel ")])
    return [commands for commands in found if commands]


# Choices of the README that other tests run, too; that they compose is looked at of all.
SLOW = ("privacy=distributed", "privacy=patient")
BLOCKS = [
    pytest.param(
        block,
        id=f"{page}-{i}",
        marks=pytest.mark.slow if page == "readme" and set(SLOW) & set(block[0]) else (),
    )
    for page, text in (("readme", README), ("secure", SECURE))
    for i, block in enumerate(blocks(text))
]


def small(command: list[str]) -> list[str]:
    """Return the same command on a tiny model and few rounds."""
    if command[0] != "simulate" or "resume=true" in command:
        return command
    kept = [re.sub("^model=minilm$", "model=tiny", part) for part in command]
    kept = [LARGE.sub("data.rows=300", part) for part in kept]
    named = {part.split("=")[0] for part in kept}
    made_up = "data.train" not in named  # only then is there a number of notes to choose
    parts = SMALL if made_up else [part for part in SMALL if not part.startswith("data.")]
    return kept + [part for part in parts if part.split("=")[0] not in named]


@pytest.fixture
def _beside_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in SHARED.glob("data/medical_abstracts/*.csv"):
        copy = tmp_path / "shared" / path.relative_to(SHARED)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open(path, newline="", encoding="utf-8") as file, open(copy, "w", newline="") as out:
            csv.writer(out).writerows(itertools.islice(csv.reader(file), ROWS + 1))
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize(("page", "least"), [(README, 8), (SECURE, 5)], ids=["readme", "secure"])
def test_every_command_of_a_page_composes(page: str, least: int) -> None:
    found = [command for block in blocks(page) for command in block]
    assert len(found) >= least
    for verb, *args in found:
        if verb == "simulate" and "-m" not in args and "resume=true" not in args:
            Scenario.from_mapping(cli.compose(verb, args))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("_beside_shared")
@pytest.mark.parametrize("block", BLOCKS)
def test_every_command_of_a_block_runs(
    block: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in block:
        if "../shared" in " ".join(command) and not SHARED.exists():
            continue
        code = cli.main(small(command))
        assert code == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_make_targets_of_a_page_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    said = re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert said
    assert set(said) <= targets


def test_the_architecture_draws_every_room_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in contracts["contracts"] if c.get("exhaustive")]
    page = (ROOT / "docs/architecture.md").read_text()
    drawing = page.split("## The rooms of the library")[1].split("```")[1]
    names = re.findall(r"^ {2}(\S.*?)(?: {2}|$)", drawing, re.MULTILINE)
    drawn = [set(re.findall(r"\w+", name)) for name in names]
    assert drawn == [set(re.findall(r"\w+", layer)) for layer in layers]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?)`", text)
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).exists() or "NAME" in name or "VERB" in name, name


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/architecture.md",
        "docs/threat-model.md",
        "docs/data.md",
        "docs/deploy.md",
        "docs/provision.md",
        "docs/run-folder.md",
        "docs/secure-aggregation.md",
        "docs/report.md",
        "docs/verify.md",
        "docs/verify-formats.md",
    ],
)
def test_links_and_python_blocks_are_right(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / page).parent.joinpath(target).exists(), target
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(block, page, "exec")


@pytest.mark.long
@pytest.mark.usefixtures("_beside_shared")
def test_an_auditor_can_recompute_the_claim_as_the_document_says() -> None:
    args = ["simulate", *SMALL, "train=head", "privacy=record", "run=demo"]
    assert cli.main(args) == 0
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/run-folder.md").read_text(), flags=re.DOTALL
    )
    shown: list[object] = []
    exec(block.replace("print(", "shown.append("), {"shown": shown})
    assert 0 < getattr(shown[0], "epsilon", 0) <= 8
