"""A zoo of tamperings: each fails in the check that names it, and nothing else does."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit.verdicts import Verdict
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import OLD, Forged, head_of, key_of

Tamper = Callable[[Forged], None]


def lines(forged: Forged) -> list[bytes]:
    return forged.ledger().read_bytes().splitlines(keepends=True)


def put(forged: Forged, kept: list[bytes]) -> None:
    forged.ledger().write_bytes(b"".join(kept))


def spend(round_: int) -> Callable[[dict[str, Any]], bool]:
    return lambda e: e["type"] == "spend" and (e["kind"], e["round"]) == ("train", round_)


# -- by who has no key ---------------------------------------------------------------------------


def removed(forged: Forged) -> None:
    put(forged, [line for n, line in enumerate(lines(forged)) if n != 3])


def reordered(forged: Forged) -> None:
    a, b, c, d, e, *rest = lines(forged)
    put(forged, [a, b, c, e, d, *rest])


def duplicated(forged: Forged) -> None:
    *first, last = lines(forged)
    put(forged, [*first, last, last])


def edited(forged: Forged) -> None:
    put(forged, [line.replace(b'"round":1', b'"round":2') for line in lines(forged)])


def edited_at_the_end(forged: Forged) -> None:
    *first, last = lines(forged)
    put(forged, [*first, last.replace(b'"by":"site"', b'"by":"operator"')])


def cut(forged: Forged) -> None:
    put(forged, lines(forged)[:-2])


def cut_in_the_midst_of_a_line(forged: Forged) -> None:
    put(forged, [*lines(forged)[:-1], lines(forged)[-1][:40]])


def not_canonical(forged: Forged) -> None:
    put(forged, [line.replace(b'"seq":3', b'"seq": 3') for line in lines(forged)])


def gone(forged: Forged) -> None:
    forged.ledger().unlink()


def of_another_site(forged: Forged) -> None:
    shutil.copyfile(forged.ledger("site-2"), forged.ledger("site-1"))
    shutil.copyfile(forged.own_head("site-2"), forged.own_head("site-1"))


def signature(forged: Forged) -> None:
    first, *rest = forged.heads()
    other = first.signed(key_of("somebody"))
    forged.write_heads([other, *rest])


def own_signature(forged: Forged) -> None:
    head = head_of([b"x"], key_of("site-1")).signed(key_of("somebody"))
    forged.own_head().write_bytes(head.to_json() + b"\n")


def heads_gone(forged: Forged) -> None:
    (forged.path / "heads.json").unlink()


def heads_in_other_words(forged: Forged) -> None:
    path = forged.path / "heads.json"
    path.write_bytes(path.read_bytes().replace(b'"size": ', b'"size":  '))


def roster_changed(forged: Forged) -> None:
    path = forged.roster
    path.write_bytes(path.read_bytes().replace(b'"name":"site-1"', b'"name":"site-9"'))


def roster_of_another_name(forged: Forged) -> None:
    forged.roster.rename(forged.roster.with_name(f"{'0' * 64}.json"))


# -- by a site, with its key ---------------------------------------------------------------------


def under_another_key(forged: Forged) -> None:
    forged.write("site-1", forged.entries(), key=key_of("another"))


def rolled_back_with_its_head(forged: Forged) -> None:
    forged.write("site-1", forged.entries()[:-2], coordinator=False)


def two_stories(forged: Forged) -> None:
    entries = forged.entries()
    entries[-1]["nonce"] = "0" * 32
    forged.write("site-1", entries, own=False)


def rewritten(forged: Forged) -> None:
    entries = forged.entries()
    entries[1]["nonce"] = "0" * 32
    forged.write("site-1", [*entries, entries[1]], coordinator=False)


def no_reservation(forged: Forged) -> None:
    forged.drop("site-1", lambda entry: entry["type"] == "reserve")


def round_at_one_party_only(forged: Forged) -> None:
    forged.drop("site-1", spend(2))


def evaluation_left_out(forged: Forged) -> None:
    forged.drop("site-1", lambda e: e["type"] == "spend" and e["kind"] == "evaluate")


def first_attempt_left_out(forged: Forged) -> None:
    forged.change(
        "site-1",
        lambda e: (e.get("kind"), e.get("round")) == ("train", 2),
        lambda entry: entry.update(attempt=2),
    )


def evaluated_twice(forged: Forged) -> None:
    entries = forged.entries()
    (at,) = (n for n, e in enumerate(entries) if e["type"] == "spend" and e["kind"] == "evaluate")
    again = {**entries[at], "attempt": 2, "nonce": "0" * 32}
    forged.write("site-1", [*entries[: at + 1], again, *entries[at + 1 :]])


def rolled_back_at_both(forged: Forged) -> None:
    """A site and the coordinator go back together; the round's line still tells."""
    entries = forged.entries()
    (at,) = (n for n, e in enumerate(entries) if spend(2)(e))
    forged.write("site-1", entries[:at])


# -- by the coordinator --------------------------------------------------------------------------


def round_left_out(forged: Forged) -> None:
    forged.write_rows(forged.rows()[:1])


def round_in_the_middle_left_out(forged: Forged) -> None:
    forged.write_rows(forged.rows()[1:])


def rounds_added(forged: Forged) -> None:
    rows = forged.rows()
    forged.write_rows([*rows, {**rows[-1], "round": 3}])
    forged.edit("summary.json", lambda summary: summary.update(rounds=3))


def steps_in_the_summary(forged: Forged) -> None:
    forged.edit(
        "summary.json", lambda summary: summary["privacy"]["sites"]["site-1"].update(steps=1)
    )


def metrics_gone(forged: Forged) -> None:
    (forged.path / "metrics.jsonl").unlink()


def summary_cut(forged: Forged) -> None:
    path = forged.path / "summary.json"
    path.write_bytes(path.read_bytes()[:-5])


def row_without_a_number(forged: Forged) -> None:
    forged.write_rows([{**row, "updates": "3"} for row in forged.rows()])


def head_of_another_last_line(forged: Forged) -> None:
    head = replace(forged.head(), last="0" * 64).signed(key_of("site-1"))
    forged.own_head().write_bytes(head.to_json() + b"\n")


ZOO: dict[str, list[Tamper]] = {
    "ledger-present": [gone],
    "ledger-form": [not_canonical],
    "ledger-chain": [removed, reordered, duplicated, edited],
    "ledger-entries": [no_reservation],
    "ledger-owner": [of_another_site],
    "heads-form": [heads_gone, heads_in_other_words],
    "heads-signed": [signature],
    "own-head-signed": [own_signature],
    "roster-signed": [roster_changed, roster_of_another_name],
    "roster-key": [under_another_key],
    "one-head": [two_stories],
    "own-head": [head_of_another_last_line, edited_at_the_end, cut, cut_in_the_midst_of_a_line],
    "coordinator-head": [rolled_back_with_its_head, rewritten],
    "rounds-numbered": [round_left_out, round_in_the_middle_left_out, rounds_added],
    "attempts-numbered": [first_attempt_left_out],
    "rounds-paid": [round_at_one_party_only, rolled_back_at_both],
    "steps-told": [steps_in_the_summary],
    "evaluation-paid": [evaluation_left_out, evaluated_twice],
    "metrics-form": [metrics_gone, row_without_a_number],
    "summary-form": [summary_cut],
}


def cases(zoo: Mapping[str, Sequence[Tamper]]) -> Iterator[Any]:
    for name, tamperings in zoo.items():
        for tampering in tamperings:
            yield pytest.param(name, tampering, id=f"{name}-{tampering.__name__}")


def check_fails_alone(name: str, tamper: Tamper, forge: Forge) -> None:
    forged = forge()
    tamper(forged)
    failed = failures(forged.path)
    assert set(failed) == {name}, failed
    assert all(each.reason for checks in failed.values() for each in checks)


def test_what_is_signed_anew_by_the_tests_keys_is_as_good_as_before(forge: Forge) -> None:
    assert failures(forge().path) == {}


@pytest.mark.parametrize(("name", "tamper"), list(cases(ZOO)))
def test_a_tampering_fails_in_the_check_that_names_it_alone(
    name: str, tamper: Tamper, forge: Forge
) -> None:
    check_fails_alone(name, tamper, forge)


def test_ledgers_that_some_sites_of_a_served_run_hand_in(forge: Forge) -> None:
    forged = forge("handed-in")
    assert failures(forged.path) == {}
    forged.ledger("site-3").unlink()
    assert failures(forged.path) == {}
    (untested,) = found(forged.path, Verdict.NOT_TESTED)["updates-paid"]
    assert untested.reason == "ledgers that weren't handed in: site-3"
    forged.drop("site-1", spend(2))
    assert set(failures(forged.path)) == {"rounds-paid"}


def test_a_site_isnt_accused_of_a_round_that_others_have_paid(forge: Forge) -> None:
    """Whom a resumed run leaves out isn't in its manifest: another may have given the update."""
    forged = forge()
    forged.edit(
        "manifest.json", lambda told: told["config"]["federation"].update(exclude=["site-1"])
    )
    forged.write_rows([{**row, "updates": 2, "asked": 2} for row in forged.rows()])
    forged.drop("site-2", spend(2))
    assert "rounds-paid" not in failures(forged.path)
    forged.drop("site-1", spend(2))
    assert {each.party for each in failures(forged.path)["rounds-paid"]} == {"site site-2"}


def test_a_coordinator_without_a_sites_head_cant_tell(forge: Forge) -> None:
    forged = forge()
    forged.write_heads([head for head in forged.heads() if head.key != forged.head().key])
    assert failures(forged.path) == {}
    (unsure,) = found(forged.path, Verdict.INCONCLUSIVE)["coordinator-head"]
    assert unsure.party == "site site-1"
    assert "never answered, or its head was taken out" in unsure.reason


def test_a_site_that_refused_has_a_ledger_of_other_runs(forge: Forge) -> None:
    forged = forge("shared", golden=OLD)
    forged.drop("site-1", lambda entry: entry.get("run") == forged.run)

    def refuse(summary: dict[str, Any]) -> None:
        before = summary["privacy"]["sites"]["site-1"]["epsilon"]  # the other run was as this one
        told = {"epsilon": 0.0, "epsilon_total": before, "steps": 0, "refused": "it won't"}
        summary["privacy"]["sites"]["site-1"] = told

    forged.edit("summary.json", refuse)
    forged.write_rows([{**row, "updates": 2, "asked": 2} for row in forged.rows()])
    assert failures(forged.path) == {}
    passed = found(forged.path, Verdict.PASS)
    (told,) = (e for e in passed["epsilon-told"] if e.party == "site site-1")
    assert told.reason == "ε = 0"
    assert "site site-1" in {each.party for each in passed["epsilon-total"]}


def test_a_round_that_only_its_repeated_attempt_speaks_of(forge: Forge) -> None:
    forged = forge("repeated")
    forged.drop("site-1", spend(1))
    assert set(failures(forged.path)) == {"ledger-entries"}


def test_a_round_left_out_of_a_run_that_hasnt_ended(forge: Forge) -> None:
    forged = forge("interrupted")
    assert failures(forged.path) == {}
    forged.drop("site-2", spend(1))
    (failed,) = failures(forged.path)["rounds-paid"]
    assert failed.party == "site site-2"


def test_a_run_that_hasnt_ended_may_have_old_copies_of_its_ledgers(forge: Forge) -> None:
    """Over a state of their own, sites' ledgers come into the run folder as the run ends."""
    forged = forge("shared")
    (forged.path / "summary.json").unlink()
    assert failures(forged.path) == {}
    for site in forged.sites:
        entries = forged.entries(site)
        (at, *_) = (n for n, e in enumerate(entries) if spend(2)(e) and e["run"] == forged.run)
        forged.write(site, entries[:at], coordinator=False)
    assert failures(forged.path) == {}
    unsure = found(forged.path, Verdict.INCONCLUSIVE)
    assert {each.party for each in unsure["coordinator-head"]} == {
        f"site {site}" for site in forged.sites
    }
    for site in forged.sites:
        forged.ledger(site).unlink()
    assert failures(forged.path) == {}
    # A rewritten one is no old copy.
    changed = forge("shared", "again")
    (changed.path / "summary.json").unlink()
    rewritten_before(changed)
    assert set(failures(changed.path)) == {"coordinator-head"}


def rewritten_before(forged: Forged) -> None:
    entries = forged.entries()
    entries[1]["nonce"] = "0" * 32
    forged.write("site-1", entries, coordinator=False)


def test_a_folder_that_was_brought_back_whole_isnt_noticed(forge: Forge, tmp_path: Path) -> None:
    """Where all that remembers goes back together, nothing here can tell: the page says so."""
    forged = forge()
    for site in forged.sites:
        entries = forged.entries(site)
        (at,) = (n for n, e in enumerate(entries) if spend(2)(e))
        forged.write(site, entries[:at])
    forged.write_rows(forged.rows()[:1])
    (forged.path / "summary.json").unlink()
    forged.coordinator.write(forged.coordinator.entries()[:5])
    shutil.rmtree(forged.path / "checkpoints")
    shutil.rmtree(forged.path / "model")
    assert failures(forged.path) == {}
