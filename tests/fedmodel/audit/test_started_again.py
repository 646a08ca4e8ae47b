"""Starts of a coordinator that was killed: what an honest one looks like, and what goes back."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.parameters import MODEL, file_digest
from fedmodel.audit.verdicts import Verdict
from fedmodel.errors import EvidenceError
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import Forged

Entry = dict[str, Any]


def anew(entries: list[Entry], number: int = 0) -> list[Entry]:
    """Return entries that stand there once more."""
    return [
        {**e, "nonce": hashlib.sha256(f"{number}{e['nonce']}".encode()).hexdigest()[:32]}
        for e in entries
    ]


def place(entries: list[Entry], type_: str, round_: int | None = None) -> int:
    return next(
        n for n, e in enumerate(entries) if e["type"] == type_ and round_ in (None, e.get("round"))
    )


def finished_again(forged: Forged) -> None:
    """It was killed between the ledger's line of the first round and the round's checkpoint."""
    entries = forged.coordinator.entries()
    at = place(entries, "result", 1)
    again = anew([*entries[1:3], entries[at]])
    forged.coordinator.write([*entries[: at + 1], *again, *entries[at + 1 :]])


def test_the_first_round_finished_once_more_is_no_fault(forge: Forge) -> None:
    forged = forge()
    finished_again(forged)
    assert failures(forged.path) == {}
    assert "coordinator-rounds" not in found(forged.path, Verdict.INCONCLUSIVE)


def gone_back(forged: Forged, *, step: int, mean: str = "") -> None:
    """After the last round it starts again, at the beginning, by so many rounds at once."""
    entries = forged.coordinator.entries()
    end = place(entries, "end")
    models = {e["round"]: e["model"] for e in entries if e["type"] == "result"}
    models[0] = entries[1]["model"]
    starts = [
        entry | {"round": n, "model": models[n]}
        for n in range(max(models) - step, -1, -step)
        for entry in anew([entries[1]], n)
    ]
    rest = anew([e for e in entries[2:end] if e["type"] != "start"], 99)
    if mean:
        rest[place(rest, "result", 1)]["mean"] = mean
    forged.coordinator.write([*entries[:end], *starts, *rest, *entries[end:]])


@pytest.mark.parametrize(("step", "mean"), [(1, ""), (3, ""), (3, "0" * 64)])
def test_a_run_that_went_back_says_so_in_whatever_steps(step: int, mean: str, forge: Forge) -> None:
    forged = forge("resumed")
    gone_back(forged, step=step, mean=mean)
    (unsure,) = found(forged.path, Verdict.INCONCLUSIVE)["coordinator-rounds"]
    assert "an older checkpoint was taken" in unsure.reason
    assert failures(forged.path) == {}


def test_a_round_that_is_finished_once_more_has_its_mean(forge: Forge) -> None:
    forged = forge("resumed")
    entries = forged.coordinator.entries()
    at = place(entries, "result", 1)
    again = anew([*entries[1:3], entries[at] | {"mean": "0" * 64}])
    forged.coordinator.write([*entries[: at + 1], *again, *entries[at + 1 :]])
    assert set(failures(forged.path)) == {"model-rounds"}


def test_a_header_of_many_numbers_takes_no_time(tmp_path: Path) -> None:
    shape = [10**15] * 40_000  # whose product has half a million digits
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (tmp_path / MODEL).parent.mkdir()
    (tmp_path / MODEL).write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    began = time.process_time()
    with pytest.raises(EvidenceError, match="'a' isn't float32, or doesn't follow"):
        file_digest(FolderEvidence(tmp_path), MODEL)
    assert time.process_time() - began < 1
