"""Every family, method and privacy in a process in which nothing has run before.

What one party decides and another looks up only seems to be shared where they were in one process
before: features that are kept or not, checks that have passed, buffers.
"""

from itertools import product
from pathlib import Path

import pytest
import torch

from fedmodel import cli
from tests.checkpoints import write_checkpoint
from tests.fedmodel.models.conftest import CONFIGS
from tests.forks import Forks

METHODS = ("head", "lora", "ffa", "full")
PRIVACIES = ("none", "record", "patient", "distributed")
LAYERS = 3  # with two, a stack's ends are all there is of it
# Relative positions that are read once for a whole batch aren't any row's own.
FROZEN = {
    "t5": "train.frozen=[relative_attention_bias]",
    "mpnet": "train.frozen=[relative_attention_bias]",
    "deberta-v2": "train.frozen=[rel_embeddings,query_proj,key_proj]",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random checkpoints of three layers."""
    folders = {}
    for kind, make in CONFIGS.items():
        folder, config = tmp_path_factory.mktemp(kind), make()
        if not getattr(config, "layer_types", None):  # which are listed for each layer
            config.num_hidden_layers = LAYERS
        folders[kind] = write_checkpoint(folder, config)
    return folders


def run(forks: Forks, tmp_path: Path, kind: str, folder: Path, method: str, privacy: str) -> None:
    frozen = [FROZEN[kind]] if method == "full" and privacy != "none" and kind in FROZEN else []
    overrides = [
        *("simulate", "debug=fast", "data.rows=150", "data.test_rows=20"),
        *(f"model.path='{folder}'", "model.max_length=24", f"train={method}"),
        *(f"privacy={privacy}", f"run='{tmp_path / 'run'}'", *frozen),
    ]
    told = tmp_path / "told.txt"
    child = forks.start("fedmodel.cli:main", [overrides], tmp_path, output=told)
    code = child.wait()
    child.close()
    assert code == 0, told.read_text()[-2000:]


# Each family once, and all methods and privacies among them; all with all in the longest tests.
SOME = {
    (
        kind,
        "full" if kind in FROZEN else METHODS[row % len(METHODS)],
        PRIVACIES[(row + row // len(PRIVACIES)) % len(PRIVACIES)],
    )
    for row, kind in enumerate(CONFIGS)
}
CASES = [
    pytest.param(*case, marks=pytest.mark.slow if case in SOME else pytest.mark.soak)
    for case in product(CONFIGS, METHODS, PRIVACIES)
]


def test_every_method_and_privacy_is_tried_with_some_family() -> None:
    kinds, methods, privacies = map(set, zip(*SOME, strict=True))
    assert (kinds, methods, privacies) == (set(CONFIGS), set(METHODS), set(PRIVACIES))
    assert all((kind, "full") in {case[:2] for case in SOME} for kind in FROZEN)


@pytest.mark.parametrize(("kind", "method", "privacy"), CASES)
def test_it_runs_where_nothing_has_run_before(
    *,
    kind: str,
    method: str,
    privacy: str,
    forks: Forks,
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    run(forks, tmp_path, kind, checkpoints[kind], method, privacy)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", ["t5", "deberta-v2"])
def test_a_second_run_of_a_process_is_as_the_first(
    kind: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from fedmodel.runs import RunFolder
    from fedmodel.training import learner

    learner._resident.cache_clear()
    found = []
    for number in range(2):
        folder = tmp_path / f"run-{number}"
        overrides = ["data.rows=150", "data.test_rows=20", "model.max_length=24", "train=lora"]
        model = f"model.path='{checkpoints[kind]}'"
        code = cli.main(
            ["simulate", "debug=fast", *overrides, model, "privacy=none", f"run='{folder}'"]
        )
        assert code == 0
        found.append(RunFolder.open(folder).model())
    first, second = found
    assert all(torch.equal(torch.tensor(first[n]), torch.tensor(second[n])) for n in first)
