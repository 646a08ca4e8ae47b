"""Tamperings with what a site reserves on, where its steps start and what it says it gave."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fedmodel import config
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.outcomes import OUTCOMES
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.ledger.grounds import DECISION
from tests import second_verifier
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import Forged
from tests.fedmodel.audit.forged_coordinator import key_of
from tests.fedmodel.audit.woven import AS_TOLD

Entry = dict[str, Any]
Tamper = Callable[[Forged], None]


def of(type_: str, round_: int | None = None) -> Callable[[Entry], bool]:
    return lambda e: e["type"] == type_ and round_ in (None, e.get("round"))


def at_site(which: Callable[[Entry], bool], site: str = "site-1", **fields: Any) -> Tamper:
    return lambda forged: forged.change(site, which, lambda entry: entry.update(fields))


def reserved(**fields: Any) -> Tamper:
    def change(entry: Entry) -> None:
        entry["grounds"].update(fields)

    return lambda forged: forged.change("site-1", of("reserve"), change)


def approval(
    run: str, job: str, *, by: str = "ann", expires: str = "2099-01-01T00:00:00Z"
) -> Entry:
    """Return a signed approval, as a site's people give it."""
    said = {"run": run, "job": job, "page": "0" * 64, "verdict": "approved", "why": ""}
    decision = {**said, "at": "2026-01-01T00:00:00Z", "expires": expires}
    signature = key_of(by).sign(DECISION + config.canonical(decision)).hex()
    return {"decision": decision, "key": key_of(by).public.hex(), "signature": signature}


def job_of(forged: Forged) -> str:
    return str(json.loads((forged.path / "manifest.json").read_bytes())["job_sha256"])


def approved(*, needed: int = 1, **changes: Any) -> Tamper:
    def tamper(forged: Forged) -> None:
        named = {"run": forged.run, "job": job_of(forged)} | changes
        reserved(needed=needed, approved=[approval(**named)])(forged)

    return tamper


def approval_signed_by_nobody(forged: Forged) -> None:
    said = approval(forged.run, job_of(forged))
    reserved(needed=1, approved=[said | {"signature": "0" * 128}])(forged)


def approved_twice_by_one(forged: Forged) -> None:
    said = approval(forged.run, job_of(forged))
    reserved(needed=2, approved=[said, said])(forged)


def shown_first(size: int) -> Tamper:
    """Whatever is asked, the sites are shown the beginning of the coordinator's ledger only."""

    def tamper(forged: Forged) -> None:
        changed = {site: forged.entries(site) for site in forged.here}
        for entry in (entry for entries in changed.values() for entry in entries):
            if entry.get("coordinator_entries"):
                entry |= {"coordinator_entries": size, "coordinator_root": ""}
        forged.weave(forged.coordinator.entries(), changed)

    return tamper


CAPS = {"epsilon": "1.0", "delta": None, "run_epsilon": None, "unit": "record"}
ZOO: dict[str, list[Tamper]] = {
    "ledger-form": [reserved(agreed={"format": "fedmodel.job/2"})],  # not the job that it names
    "people-agreed": [
        approved(job="0" * 64),
        approved(run="another"),
        approved(expires="2026-01-02T00:00:00Z"),
        approved(needed=2),
        approval_signed_by_nobody,
        approved_twice_by_one,
    ],
    "caps-kept": [reserved(caps=CAPS)],
    "plan-grounds": [reserved(divisor=7), reserved(divisor=80), reserved(preflight="none")],
    "asked-for": [shown_first(0), shown_first(3)],
    "started-from": [at_site(of("spend", 2), model="0" * 64)],
    "given-got": [at_site(of("outcome", 2), update="0" * 64)],
    "outcomes-told": [at_site(of("outcome", 2), steps=0)],
}


@pytest.mark.parametrize(
    ("name", "tamper"),
    [
        pytest.param(name, tamper, id=f"{name}-{number}")
        for name, some in ZOO.items()
        for number, tamper in enumerate(some)
    ],
)
def test_a_tampering_fails_in_the_check_that_names_it_alone(
    name: str, tamper: Tamper, forge: Forge
) -> None:
    forged = forge()
    tamper(forged)
    failed = failures(forged.path)
    assert set(failed) == {name}, failed


@pytest.mark.parametrize(("steps", "name"), [(2, "ledger-entries"), (0, "outcomes-told")])
def test_what_came_of_a_repeat_is_one_step(forge: Forge, steps: int, name: str) -> None:
    forged = forge("repeated")
    (repeated, *_) = [entry["seq"] for entry in forged.entries() if entry["type"] == "repeat"]
    at_site(lambda entry: entry.get("of") == repeated, steps=steps)(forged)
    assert set(failures(forged.path)) == {name}
    assert second_verifier.verify(forged.path)


def test_an_approval_of_this_job_passes(forge: Forge) -> None:
    forged = forge()
    approved()(forged)
    assert failures(forged.path) == {}
    (passed,) = (e for e in found(forged.path, Verdict.PASS)["people-agreed"])
    assert passed.party == "site site-1"


def test_an_update_that_failed_at_the_site_isnt_one_that_the_coordinator_has(forge: Forge) -> None:
    forged = forge()
    nothing: dict[str, Any] = {
        "result": "failed",
        "update": "",
        "manifest": "",
        "steps": 0,
        "clips": [],
    }
    forged.change("site-1", of("outcome", 2), lambda entry: entry.update(nothing))
    assert "given-got" in failures(forged.path)


def test_of_two_evaluations_that_gave_equal_counts_the_first_is_known_too(forge: Forge) -> None:
    forged = forge()
    entries = forged.entries()
    last = max(n for n, e in enumerate(entries) if e.get("kind") == "evaluate")
    (spend,) = (e for e in entries if (e["type"], e.get("kind")) == ("spend", "evaluate"))
    (given,) = (e for e in entries if e.get("of") == spend["seq"])
    again = [
        {**spend, "attempt": 2, "nonce": "0" * 32, "seq": 99},
        {**given, "attempt": 2, "of": 99, "seq": 100},
    ]
    forged.write("site-1", [*entries[: last + 1], *again, *entries[last + 1 :]])
    early = last + 1  # entries that it had when the coordinator got the first
    forged.coordinator.change(of("evaluation"), lambda e: e["given"][0].update(entries=early))
    # That it evaluated twice fails a check before: this one is to say nothing of its own.
    records = read_records(FolderEvidence(forged.path))
    (rule,) = (rule for rule in OUTCOMES if rule.name == "given-got")
    assert rule.site is not None
    assert rule.site(records, records.sites["site-1"]).verdict is Verdict.PASS


def test_steps_whose_fate_nobody_knows_are_told(forge: Forge) -> None:
    forged = forge("dropouts")
    last = max(e["round"] for e in forged.entries() if e["type"] == "outcome")
    forged.drop("site-1", of("outcome", last))
    (unsure,) = found(forged.path, Verdict.INCONCLUSIVE)["outcomes-told"]
    assert "of 1 charges nobody knows" in unsure.reason


def vectors_exchanged(forged: Forged) -> None:
    def swap(entry: Entry) -> None:
        vectors = entry["vectors"]
        vectors["1"], vectors["2"] = vectors["2"], vectors["1"]

    forged.coordinator.change(of("unmask", 2), swap)


def masked_for_another_attempt(forged: Forged) -> None:
    at_site(of("outcome", 2), manifest="0" * 64)(forged)


@pytest.mark.parametrize(
    ("name", "tamper"),
    [("sums-counted", vectors_exchanged), ("sums-vectors", masked_for_another_attempt)],
)
def test_a_masked_vector_is_the_one_that_its_site_has_masked(
    name: str, tamper: Tamper, forge: Forge
) -> None:
    forged = forge("on")
    tamper(forged)
    assert set(failures(forged.path)) == {name}


@pytest.mark.parametrize("round_", [1, 2])
def test_a_norm_that_adapts_goes_on_where_the_last_step_left_it(forge: Forge, round_: int) -> None:
    forged = forge("patient")
    at_site(of("spend", round_), clip="0.123")(forged)
    assert set(failures(forged.path)) == {"plan-clip"}
    forged = forge("patient", "again")
    forged.drop("site-1", of("outcome", 1))
    forged.coordinator.change(of("result", 1), lambda entry: entry["given"][0].update(update=""))
    unsure = found(forged.path, Verdict.INCONCLUSIVE)
    assert {"plan-clip", "outcomes-told"} <= unsure.keys()


def silent_coordinator(forged: Forged, **said: Any) -> None:
    """Let the coordinator say less of what it got of the first site in a round."""
    forged.coordinator.change(of("result", 1), lambda entry: entry["given"][0].update(said))


@pytest.mark.parametrize(
    ("name", "less"),
    [
        ("given-got", lambda forged: silent_coordinator(forged, update="")),
        ("paid-for", lambda forged: silent_coordinator(forged, entries=0, root="")),
        ("started-from", at_site(of("spend", 1), model="")),
    ],
)
def test_who_says_nothing_where_others_would_isnt_passed(
    name: str, less: Callable[[Forged], object], forge: Forge
) -> None:
    forged = forge()
    assert found(forged.path, Verdict.INCONCLUSIVE) == {}
    less(forged)
    assert failures(forged.path) == {}
    assert set(found(forged.path, Verdict.INCONCLUSIVE)) == {name}


# -- what sites were shown of the coordinator's ledger -------------------------------------------


def shown(forged: Forged, size: int, roots: Mapping[str, str]) -> None:
    """Let sites have been shown so much of the coordinator's ledger, each of its root."""
    changed = {site: forged.entries(site) for site in roots}
    for site, entries in changed.items():
        for entry in (entry for entry in entries if "coordinator_root" in entry):
            entry |= {"coordinator_entries": size, "coordinator_root": AS_TOLD + roots[site]}
    forged.weave(forged.coordinator.entries(), changed)


ANOTHER = hashlib.sha256(b"another story").hexdigest()


def test_what_sites_were_shown_of_the_coordinators_ledger_is_its_beginning(forge: Forge) -> None:
    forged = forge()
    passed = found(forged.path, Verdict.PASS)
    assert len(passed["coordinator-seen"]) == 3
    assert passed["coordinator-one-story"]
    shown(forged, 3, {"site-2": ANOTHER})
    (failed,) = failures(forged.path)["coordinator-seen"]
    assert failed.party == "site site-2"
    both = [{"site-1": ANOTHER, "site-2": "1" * 64}, dict.fromkeys(forged.sites, ANOTHER)]
    for roots, name in zip(both, ("coordinator-one-story", "coordinator-seen"), strict=True):
        forged = forge(name=name)
        shown(forged, 9, roots)
        assert set(failures(forged.path)) == {name}


@pytest.mark.parametrize("size", [0, 4])
def test_an_order_comes_with_the_attempt_that_it_is_of(size: int, forge: Forge) -> None:
    # The fourth entry asks for the round, the fifth opens the attempt that its sum is of.
    forged = forge("on")
    shown_first(size)(forged)
    failed = failures(forged.path)["asked-for"]
    assert f"was shown {size} entries" in failed[0].reason


def test_fewer_entries_than_before_are_a_ledger_that_went_back(forge: Forge) -> None:
    forged = forge()
    forged.change("site-1", of("spend", 2), lambda entry: entry.update(coordinator_entries=2))
    (failed,) = failures(forged.path)["coordinator-seen"]
    assert "and after that 2" in failed.reason


def test_a_ledger_that_sites_were_shown_more_of_was_rolled_back(forge: Forge) -> None:
    forged = forge()
    shown(forged, 99, {"site-1": "0" * 64})
    (failed,) = failures(forged.path)["coordinator-seen"]
    assert "it was rolled back" in failed.reason
    forged.coordinator.path.unlink()
    forged.coordinator.head_path.unlink()
    (gone,) = failures(forged.path)["coordinator-present"]
    assert "was shown 99 entries of it" in gone.reason
