"""Edges of what the coordinator's ledger is held against: one entry, one start, one site off."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit import transcripts
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.parameters import MODEL, file_digest
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Found
from fedmodel.audit.verdicts import Verdict
from fedmodel.errors import EvidenceError
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import Forged
from tests.fedmodel.audit.forged_coordinator import coordinators_head, key_of
from tests.fedmodel.audit.sums_tampered import of
from tests.fedmodel.audit.test_outcomes_tampered import ANOTHER, approval, at_site, job_of, reserved
from tests.fedmodel.audit.woven import AS_TOLD

Entry = dict[str, Any]


def start(round_: int) -> Callable[[Entry], bool]:
    return lambda entry: entry["type"] == "start" and entry["round"] == round_


def first_start_numbered_otherwise(forged: Forged) -> None:
    members = {"1": "site-2", "2": "site-1", "3": "site-3"}
    forged.coordinator.change(start(0), lambda entry: entry.update(members=members))


def last_start_with_another_job(forged: Forged) -> None:
    forged.coordinator.change(start(1), lambda entry: entry["job"]["privacy"].update(rate=0.5))


def head_with_another_last_line(forged: Forged) -> None:
    lines = forged.coordinator.path.read_bytes().splitlines()
    head = replace(coordinators_head(lines, key_of("coordinator")), last="0" * 64)
    text = head.signed(key_of("coordinator")).to_json() + b"\n"
    forged.coordinator.head_path.write_bytes(text)


def given_with_entries_up_to(type_: str) -> Callable[[Forged], None]:
    """The entries that the site had are all those before its spend, or its outcome."""

    def tamper(forged: Forged) -> None:
        (seq,) = (
            e["seq"] for e in forged.entries() if of(type_, 2)(e) and e.get("kind") == "train"
        )
        forged.coordinator.change(of("result", 2), lambda e: e["given"][0].update(entries=seq))

    tamper.__name__ = f"all_before_the_{type_}"
    return tamper


def update_of_the_round_before(forged: Forged) -> None:
    (first,) = (e["given"][0]["update"] for e in forged.coordinator.entries() if of("result", 1)(e))
    forged.coordinator.change(of("result", 2), lambda e: e["given"][0].update(update=first))


def start_of_the_round_before(forged: Forged) -> None:
    (first,) = (e["model"] for e in forged.entries() if of("spend", 1)(e))
    at_site(lambda e: of("spend", 2)(e) and e["kind"] == "train", model=first)(forged)


def shown_all_before_the_asking(forged: Forged) -> None:
    (place,) = (
        n
        for n, e in enumerate(forged.coordinator.entries())
        if of("round", 2)(e) and e["kind"] == "train"
    )
    at_site(lambda e: of("spend", 2)(e) and e["kind"] == "train", coordinator_entries=place)(forged)


def fewer_updates_by_the_summary(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["privacy"]["sites"]["site-1"].update(rounds=1))


def publisher_that_failed(forged: Forged) -> None:
    def fail(entry: Entry) -> None:
        gone = entry["given"].pop()
        entry["failed"] = [{"member": gone["member"], "kind": "away"}]

    forged.coordinator.change(of("evaluation"), fail)
    forged.edit("summary.json", lambda told: told["released"].update(sites=2))


def another_root_by_the_summary(forged: Forged) -> None:
    forged.edit(
        "summary.json",
        lambda told: told["privacy"]["sites"]["site-1"]["ledger"].update(root="0" * 64),
    )


def another_story_at_the_end(forged: Forged) -> None:
    at_site(of("give-back"), coordinator_root=AS_TOLD + ANOTHER)(forged)


def second_approval_is_of_another_run(forged: Forged) -> None:
    job = job_of(forged)
    both = [approval(forged.run, job), approval("another", job, by="bob")]
    reserved(needed=1, approved=both)(forged)


def cohort_of_three(forged: Forged) -> None:
    def shrink(entry: Entry) -> None:
        manifest = entry["manifest"]
        manifest.update(cohort=manifest["cohort"][:3], keys=manifest["keys"][:3])

    forged.coordinator.change(of("attempt", 2), shrink, sums=True)


def consent_of_who_isnt_in_it(forged: Forged) -> None:
    def shrink(entry: Entry) -> None:
        entry["survivors"] = [1, 2, 3, 4]
        del entry["vectors"]["5"]

    forged.coordinator.change(of("unmask", 2), shrink, sums=True)
    forged.coordinator.change(of("result", 2), lambda e: e.update(given=e["given"][:4]))
    first, second = forged.rows()
    forged.write_rows([first, {**second, "updates": 4}])


def attempt_that_isnt_told(forged: Forged) -> None:
    def renumber(entry: Entry) -> None:
        entry["attempt"] = 3
        if "manifest" in entry:
            entry["manifest"]["attempt"] = 3

    forged.coordinator.change(lambda e: e.get("attempt") == 2, renumber, sums=True)


CASES: list[tuple[str, str, Callable[[Forged], None]]] = [
    ("coordinator-members", "resumed", first_start_numbered_otherwise),
    ("coordinator-job", "resumed", last_start_with_another_job),
    ("coordinator-own-head", "record", head_with_another_last_line),
    ("paid-for", "record", given_with_entries_up_to("spend")),
    ("given-got", "record", given_with_entries_up_to("outcome")),
    ("given-got", "record", update_of_the_round_before),
    ("asked-for", "record", shown_all_before_the_asking),
    ("started-from", "record", start_of_the_round_before),
    ("coordinator-told", "record", fewer_updates_by_the_summary),
    ("coordinator-told", "record", publisher_that_failed),
    ("heads-told", "served", another_root_by_the_summary),
    ("coordinator-one-story", "record", another_story_at_the_end),
    ("people-agreed", "record", second_approval_is_of_another_run),
    ("sums-manifests", "on", cohort_of_three),
    ("sums-consents", "on", consent_of_who_isnt_in_it),
    ("coordinator-rounds", "repeated", attempt_that_isnt_told),
]


@pytest.mark.parametrize(("name", "kind", "tamper"), CASES)
def test_one_off_fails_in_its_check(
    name: str, kind: str, tamper: Callable[[Forged], None], forge: Forge
) -> None:
    forged = forge(kind)
    tamper(forged)
    assert name in failures(forged.path)


def test_a_start_two_rounds_back_takes_an_older_checkpoint(forge: Forge) -> None:
    forged = forge("resumed")
    entries = forged.coordinator.entries()
    (again,) = (n for n, entry in enumerate(entries) if start(1)(entry))
    later = [{**entries[again], "nonce": "1" * 32}, *entries[again + 1 :]]
    forged.coordinator.write([*entries[:-1], *later])
    (unsure,) = found(forged.path, Verdict.INCONCLUSIVE)["coordinator-rounds"]
    assert "a start goes back to round 1" in unsure.reason


def test_a_start_after_no_round_goes_on_from_the_parameters_of_before(forge: Forge) -> None:
    forged = forge("lost")
    entries = forged.coordinator.entries()
    first, again = (n for n, entry in enumerate(entries) if start(0)(entry))
    before = entries[first]["model"]
    for entry in entries[again:]:
        entry |= {"model": "0" * 64} if entry.get("model") == before else {}
    forged.coordinator.write(entries)
    (failed,) = failures(forged.path)["model-rounds"]
    assert "it goes on from other parameters" in failed.reason


def test_sums_are_held_against_the_roster_of_their_start(forge: Forge) -> None:
    records = read_records(FolderEvidence(forge("recovered").path))
    roster, ledger = records.roster.value, records.coordinator
    assert roster is not None
    assert ledger is not None
    key = key_of("another").public.hex()
    others = tuple(replace(member, key=f"{n:064x}") for n, member in enumerate(roster.members))
    newer = replace(roster, coordinator=key, members=others)
    later = replace(records, roster=Found(value=newer, name="roster.json"))
    for check in (transcripts.manifests, transcripts.consents):
        assert check(later, ledger).verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("offsets", "size"), [([[0, 4], [8, 12]], 12), ([[0, 8], [8, 12]], 12), ([[0, 4], [0, 4]], 4)]
)
def test_parameters_follow_one_another_without_a_gap(
    forge: Forge, offsets: list[list[int]], size: int
) -> None:
    path = forge().path
    tensors = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": each}
        for name, each in zip("ab", offsets, strict=True)
    }
    header = json.dumps(tensors).encode()
    Path(path / MODEL).write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(EvidenceError, match="doesn't follow the one before it"):
        file_digest(FolderEvidence(path), MODEL)
