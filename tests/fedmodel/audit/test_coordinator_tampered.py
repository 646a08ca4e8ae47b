"""Tamperings with what the coordinator's ledger tells: each fails in its check, and alone."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit.verdicts import Verdict
from tests.fedmodel.audit import sums_tampered as sums
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import GOLDEN, OLD, Forged
from tests.fedmodel.audit.forged_coordinator import coordinators_head, key_of
from tests.fedmodel.audit.shown_tampered import SHOWN
from tests.fedmodel.audit.sums_tampered import of
from tests.fedmodel.audit.woven import AS_TOLD

Entry = dict[str, Any]


def lines(forged: Forged) -> list[bytes]:
    return forged.coordinator.path.read_bytes().splitlines(keepends=True)


def put(forged: Forged, kept: Sequence[bytes]) -> None:
    forged.coordinator.path.write_bytes(b"".join(kept))


# -- by who has no key ---------------------------------------------------------------------------


def gone(forged: Forged) -> None:
    forged.coordinator.path.unlink()


def not_canonical(forged: Forged) -> None:
    put(forged, [line.replace(b'"seq":3', b'"seq": 3') for line in lines(forged)])


def head_in_other_words(forged: Forged) -> None:
    path = forged.coordinator.head_path
    path.write_bytes(path.read_bytes().replace(b'"size":', b'"size": '))


def removed(forged: Forged) -> None:
    put(forged, [line for n, line in enumerate(lines(forged)) if n != 3])


def edited(forged: Forged) -> None:
    put(forged, [line.replace(b'"members":[1,2,3]', b'"members":[1,2]') for line in lines(forged)])


def end_edited(forged: Forged) -> None:
    *first, last = lines(forged)
    put(forged, [*first, last.replace(b'"failed":false', b'"failed":true')])


def rolled_back(forged: Forged) -> None:
    put(forged, lines(forged)[:-2])


def head_of_somebody(forged: Forged) -> None:
    head = coordinators_head([line.rstrip(b"\n") for line in lines(forged)], key_of("coordinator"))
    forged.coordinator.head_path.write_bytes(head.signed(key_of("somebody")).to_json() + b"\n")


# -- by the coordinator, with its key ------------------------------------------------------------


def begun_twice(forged: Forged) -> None:
    first, *rest = forged.coordinator.entries()
    forged.coordinator.write([first, first, *rest])


def of_another_run(forged: Forged) -> None:
    forged.coordinator.change(of("run"), lambda entry: entry.update(run="another"))


def under_another_key(forged: Forged) -> None:
    forged.coordinator.write(forged.coordinator.entries(), key=key_of("another"))


def numbered_otherwise(forged: Forged) -> None:
    members = {"1": "site-2", "2": "site-1", "3": "site-3"}
    forged.coordinator.change(of("start"), lambda entry: entry.update(members=members))


def another_job(forged: Forged) -> None:
    forged.coordinator.change(of("start"), lambda entry: entry["job"]["privacy"].update(rate=0.5))


def round_left_out(forged: Forged) -> None:
    forged.coordinator.drop(lambda e: e.get("round") == 1 and e["type"] in ("round", "result"))


def result_left_out(forged: Forged) -> None:
    forged.coordinator.drop(of("result", 1))


def asked_in_secret(forged: Forged) -> None:
    forged.coordinator.drop(of("round", 2))


def evaluation_left_out(forged: Forged) -> None:
    forged.coordinator.drop(lambda e: e["type"] == "evaluation")


def strangers(forged: Forged) -> None:
    forged.coordinator.change(of("round", 2), lambda entry: entry["members"].append(4))


def after_the_end(forged: Forged) -> None:
    entries = forged.coordinator.entries()
    forged.coordinator.write([*entries, {**entries[-1], "nonce": "0" * 32}])


def rolled_back_with_its_head(forged: Forged) -> None:
    forged.coordinator.write(forged.coordinator.entries()[:5])


def end_left_out(forged: Forged) -> None:
    forged.coordinator.drop(of("end"))


def giver_left_out(forged: Forged) -> None:
    forged.coordinator.change(of("result", 2), lambda entry: entry["given"].pop())


def failure_of_nobody(forged: Forged) -> None:
    def fail(entry: Entry) -> None:
        entry["failed"] = [{"member": 1, "kind": "away"}]

    forged.coordinator.change(of("result", 2), fail)


def publisher_left_out(forged: Forged) -> None:
    forged.coordinator.change(of("evaluation"), lambda entry: entry["given"].pop())


def not_asked(forged: Forged) -> None:
    """The last site was asked in no round, it says; the metrics tell so, too."""

    def leave_out(entry: Entry) -> None:
        entry["members"] = [1, 2]
        if "given" in entry:
            entry["given"] = entry["given"][:2]

    def forget(entry: Entry) -> None:
        entry["given"] = entry["given"][:2]

    forged.coordinator.change(lambda e: e["type"] == "round" and e["kind"] == "train", leave_out)
    forged.coordinator.change(of("result"), forget)
    forged.write_rows([{**row, "updates": 2, "asked": 2} for row in forged.rows()])


def prefix_before_the_spend(forged: Forged) -> None:
    """The entries that it names are the site's, from before it had paid for the round."""
    first: dict[int, Entry] = {}
    for entry in forged.coordinator.entries():
        if of("result", 1)(entry):
            first = {given["member"]: given for given in entry["given"]}

    def swap(entry: Entry) -> None:
        entry["given"] = [first[given["member"]] for given in entry["given"]]

    forged.coordinator.change(of("result", 2), swap)


def another_root(forged: Forged) -> None:
    forged.coordinator.change(
        of("end"), lambda entry: entry["told"][0].update(root=AS_TOLD + "0" * 64)
    )


def more_entries_than_there_are(forged: Forged) -> None:
    forged.coordinator.change(of("result", 1), lambda e: e["given"][0].update(entries=99))


# -- models --------------------------------------------------------------------------------------


def another_start(forged: Forged) -> None:
    forged.coordinator.change(of("round", 2), lambda entry: entry.update(model="0" * 64))


def changed_without_a_mean(forged: Forged) -> None:
    forged.coordinator.change(of("end"), lambda entry: entry.update(model="0" * 64))


def models_of(forged: Forged) -> list[Path]:
    return [
        *forged.path.glob("model/*.safetensors"),
        *forged.path.glob("checkpoints/*/model.safetensors"),
    ]


def bit_flipped(forged: Forged) -> None:
    for path in models_of(forged):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def of_another_type(forged: Forged) -> None:
    for path in models_of(forged):
        path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))


def cut_short(forged: Forged) -> None:
    for path in models_of(forged):
        path.write_bytes(path.read_bytes()[:-4])


@dataclass(frozen=True)
class Case:
    tamper: Callable[[Forged], None]
    kind: str = "record"


def cases(kind: str, *tampers: Callable[[Forged], None]) -> list[Case]:
    return [Case(tamper, kind) for tamper in tampers]


ZOO: dict[str, list[Case]] = {
    **{name: cases("record", *tampers) for name, tampers in SHOWN.items()},
    "coordinator-present": cases("record", gone),
    "coordinator-form": cases("record", not_canonical),
    "coordinator-head-form": cases("record", head_in_other_words),
    "coordinator-chain": cases("record", removed, edited),
    "coordinator-beginning": cases("record", begun_twice),
    "coordinator-owner": cases("record", of_another_run),
    "coordinator-signed": cases("record", head_of_somebody),
    "coordinator-key": cases("record", under_another_key),
    "coordinator-members": cases("record", numbered_otherwise),
    "coordinator-own-head": cases("record", rolled_back, end_edited),
    "coordinator-job": cases("record", another_job),
    "coordinator-rounds": [
        *cases("record", round_left_out, result_left_out, asked_in_secret, evaluation_left_out),
        *cases("record", strangers, after_the_end),
        *cases("skipped", round_left_out),  # which had no mean
        *cases("lost", round_left_out),
    ],
    "coordinator-told": [
        *cases("record", rolled_back_with_its_head, end_left_out, giver_left_out),
        *cases("record", failure_of_nobody, publisher_left_out),
        *cases("served", giver_left_out),
    ],
    "asked-for": cases("record", not_asked),
    "paid-for": cases("record", prefix_before_the_spend, another_root, more_entries_than_there_are),
    "sums-manifests": cases(
        "on",
        *(sums.manifest_swapped, sums.manifest_unsigned, sums.named_otherwise),
        *(
            sums.manifest(job="0" * 64),
            sums.manifest(model="0" * 64),
            sums.manifest(session="0" * 64),
        ),
        *(sums.manifest(threshold=2), sums.manifest(survivors=3), sums.manifest(colluders=0)),
        *(
            sums.manifest(bits=24),
            sums.manifest(count=7),
            sums.manifest(version="fedmodel.secagg/1"),
        ),
    ),
    "sums-floors": cases("on", sums.sum_of_three),
    "sums-consents": cases(
        "on",
        *(sums.consents_of_another_set, sums.consent_of_another_site, sums.too_few_consents),
        *(sums.vector_of_another_site, sums.takers_from_nowhere),
    ),
    "sums-once": cases("on", sums.unmasked_twice),
    "sums-counted": cases("on", sums.update_beside_the_sum),
    "model-rounds": cases("record", another_start, changed_without_a_mean),
    "model-named": cases("record", bit_flipped, of_another_type, cut_short),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case.kind}-{case.tamper.__name__}")
        for name, some in ZOO.items()
        for case in some
    ],
)
def test_a_tampering_fails_in_the_check_that_names_it_alone(
    name: str, case: Case, forge: Forge
) -> None:
    forged = forge(case.kind)
    case.tamper(forged)
    failed = failures(forged.path)
    assert set(failed) == {name}, failed
    assert all(each.reason for checks in failed.values() for each in checks)


@pytest.mark.parametrize("kind", ["record", "on", "recovered", "lost", "skipped", "served"])
def test_what_is_signed_anew_by_the_tests_keys_is_as_good_as_before(
    kind: str, forge: Forge
) -> None:
    assert failures(forge(kind).path) == {}


def test_a_run_from_before_coordinators_had_ledgers_isnt_refuted(forge: Forge) -> None:
    forged = forge("on", golden=OLD)
    assert failures(forged.path) == {}
    untested = found(forged.path, Verdict.NOT_TESTED)
    assert {each.reason for each in untested["sums-consents"]} == {
        "the coordinator's own ledger isn't here"
    }
    assert untested["coordinator-present"]


def test_sums_are_held_against_the_coordinators_ledger_alone_where_no_site_hands_in_its_own(
    forge: Forge,
) -> None:
    forged = forge("on")
    for path in (*forged.path.glob("ledger/*"), forged.path / "sites"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    passed = found(forged.path, Verdict.PASS)
    assert {"sums-manifests", "sums-consents", "sums-once", "model-rounds"} <= passed.keys()


def test_a_start_after_an_older_checkpoint_says_what_it_repeats(forge: Forge) -> None:
    forged = forge("resumed")
    entries = forged.coordinator.entries()
    (again,) = (n for n, e in enumerate(entries) if e["type"] == "start" and e["round"])
    (end,) = (n for n, e in enumerate(entries) if e["type"] == "end")
    beginning = {**entries[1], "nonce": "1" * 32}
    forged.coordinator.write([*entries[:end], beginning, *entries[2:again], *entries[again:]])
    (unsure,) = found(forged.path, Verdict.INCONCLUSIVE)["coordinator-rounds"]
    assert "an older checkpoint was taken" in unsure.reason


def test_the_digest_of_a_models_file_is_that_of_its_vector() -> None:
    from safetensors.numpy import load_file

    from fedmodel.audit.evidence import FolderEvidence
    from fedmodel.audit.parameters import MODEL, file_digest

    arrays = load_file(GOLDEN / "record" / MODEL)
    naive = hashlib.sha256()
    for name in sorted(arrays):
        naive.update(arrays[name].astype("<f4").tobytes())
    assert file_digest(FolderEvidence(GOLDEN / "record"), MODEL) == naive.hexdigest()
