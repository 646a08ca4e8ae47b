"""Accounting and ledgers are for whoever checks a run, too: they need no torch, and say so here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "flwr", "peft", "opacus", "hydra", "omegaconf", "pyarrow")
BY_NEED = ("scipy", "dp_accounting")  # asked for an ε: only then


def modules(code: str) -> set[str]:
    """Return what a fresh process has imported after some code."""
    told = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {told}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    return set(json.loads(done.stdout))


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "room",
    ["fedmodel.accounting", "fedmodel.ledger", "fedmodel.ledger.site_state", "fedmodel.budget"],
)
def test_importing_it_brings_nothing_heavy(room: str) -> None:
    assert not modules(f"import {room}") & {*HEAVY, *BY_NEED}


@pytest.mark.long
def test_reading_a_ledger_takes_no_torch_nor_an_accountant() -> None:
    path = REPOSITORY / "tests" / "vectors" / "ledger_v3.jsonl"
    code = f"from fedmodel.ledger import Ledger; assert Ledger({str(path)!r}).spends()"
    assert not modules(code) & {*HEAVY, *BY_NEED}


@pytest.mark.long
def test_its_epsilon_takes_no_torch() -> None:
    path = REPOSITORY / "tests" / "vectors" / "ledger_v3.jsonl"
    code = (
        "from fedmodel.ledger import Ledger; from fedmodel.accounting import epsilon; "
        f"assert 0 < epsilon(Ledger({str(path)!r}).spends('third'), 1e-3) < 9"
    )
    found = modules(code)
    assert "dp_accounting" in found
    assert not found & set(HEAVY)
