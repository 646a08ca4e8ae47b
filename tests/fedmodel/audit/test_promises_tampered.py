"""Tamperings with what was promised and what it cost: each fails in its own check, alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmodel import config
from fedmodel.accounting.claims import claim
from fedmodel.audit import claims
from fedmodel.audit.families import FAMILIES
from fedmodel.audit.verdicts import Verdict
from fedmodel.errors import PrivacyError
from fedmodel.runs.files import to_json
from tests.fedmodel.audit.conftest import Forge, failures, found
from tests.fedmodel.audit.forged import GOLDEN, OLD, Forged, head_of, key_of
from tests.fedmodel.audit.spends_tampered import beyond_its_epsilon, is_spend, summary_of
from tests.fedmodel.audit.test_coordinator_tampered import ZOO as COORDINATOR
from tests.fedmodel.audit.test_outcomes_tampered import ZOO as OUTCOMES
from tests.fedmodel.audit.test_tampered import ZOO as BEFORE
from tests.fedmodel.audit.test_tampered import cases, check_fails_alone

Tamper = Callable[[Forged], None]


def is_reserve(entry: dict[str, Any]) -> bool:
    return bool(entry["type"] == "reserve")


def times(text: str, factor: float) -> str:
    return repr(float(text) * factor)


def everywhere(key: str, how: Callable[[Any], Any]) -> Tamper:
    """Return what changes a field of a ledger's steps of training, reserved and spent."""

    def change(forged: Forged) -> None:
        entries = forged.entries()
        for entry in entries:
            steps = entry.get("parts", []) if is_reserve(entry) else [entry]
            for each in steps:
                if key in each and each.get("kind", "train") == "train":
                    each[key] = how(each[key])
        forged.write("site-1", entries)

    return change


def is_trained(entry: dict[str, Any]) -> bool:
    return is_spend(entry) or (entry["type"], entry.get("kind")) == ("outcome", "train")


def of_all(key: str, value: str) -> Tamper:
    """Return what changes what a ledger's reservation and all its spends say of the promise."""

    def change(forged: Forged) -> None:
        entries = forged.entries()
        for entry in entries:
            if key in entry and entry["type"] in ("reserve", "spend"):
                entry[key] = value
        forged.write("site-1", entries)

    return change


# -- what ledgers say ----------------------------------------------------------------------------


def less_noise(forged: Forged) -> None:
    everywhere("noise_multiplier", lambda text: times(text, 0.99))(forged)


def more_noise(forged: Forged) -> None:
    everywhere("noise_multiplier", lambda text: times(text, 1.01))(forged)


def less_noise_than_reserved(forged: Forged) -> None:
    forged.change(
        "site-1", is_spend, lambda e: e.update(noise_multiplier=times(e["noise_multiplier"], 0.99))
    )


def rounds_exchanged(forged: Forged) -> None:
    """The noise decays, and each round says the other's."""
    entries = forged.entries()
    one, two = (entry for entry in entries if is_spend(entry))
    one["noise_multiplier"], two["noise_multiplier"] = (
        two["noise_multiplier"],
        one["noise_multiplier"],
    )
    forged.write("site-1", entries)


def rate(forged: Forged) -> None:
    everywhere("rate", lambda text: times(text, 0.5))(forged)


def clip(forged: Forged) -> None:
    forged.change("site-1", is_spend, lambda entry: entry.update(clip="0.25"))


def counted_norm(forged: Forged) -> None:
    forged.change(
        "site-1",
        lambda e: (e["type"], e.get("kind")) == ("spend", "evaluate"),
        lambda entry: entry.update(clip="0.5"),
    )


def mechanism(forged: Forged) -> None:
    shared = {"honest": 3, "name": "distributed", "survivors": 4}
    everywhere("mechanism", lambda _: shared)(forged)


def unit(forged: Forged) -> None:
    of_all("unit", "patient")(forged)


def adjacency(forged: Forged) -> None:
    of_all("adjacency", "replace")(forged)


def delta(forged: Forged) -> None:
    of_all("delta", "1e-05")(forged)


def promised(forged: Forged) -> None:
    forged.change("site-1", is_reserve, lambda entry: entry.update(epsilon="7.9"))


def more_steps(forged: Forged) -> None:
    forged.change("site-1", is_trained, lambda entry: entry.update(steps=2))
    summary_of(forged, "site-1", steps=4)


def more_reserved(forged: Forged) -> None:
    everywhere("steps", lambda _: 9)(forged)
    forged.change("site-1", is_trained, lambda entry: entry.update(steps=1))


def another_round(forged: Forged) -> None:
    entries = forged.entries()
    (at,) = (n for n, e in enumerate(entries) if is_spend(e) and e["round"] == 2)
    forged.write("site-1", [*entries[: at + 1], {**entries[at], "round": 3}, *entries[at + 1 :]])
    summary_of(forged, "site-1", steps=3)


def another_job_at_one_site(forged: Forged) -> None:
    forged.change("site-1", lambda e: "grounds" in e, lambda entry: entry.update(grounds=None))
    of_all("job", "0" * 64)(forged)
    forged.change(
        "site-1",
        lambda e: e["type"] in ("give-back", "outcome"),
        lambda entry: entry.update(job="0" * 64),
    )


# -- what the manifest and the summary say -------------------------------------------------------


def job_changed(forged: Forged) -> None:
    forged.edit("manifest.json", lambda told: told["job"]["privacy"].update(epsilon=4.0))


def job_changed_and_hashed(forged: Forged) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["job"]["privacy"].update(epsilon=4.0)
        manifest["job_sha256"] = config.digest(manifest["job"])

    forged.edit("manifest.json", change)


def job_hashed_everywhere_but_in_ledgers(forged: Forged) -> None:
    job_changed_and_hashed(forged)
    found: dict[str, Any] = {}
    forged.edit("manifest.json", found.update)
    forged.edit("summary.json", lambda told: told.update(job_sha256=found["job_sha256"]))
    forged.coordinator.change(
        lambda entry: entry["type"] == "start",
        lambda entry: entry.update(job=found["job"], job_sha256=found["job_sha256"]),
    )


def job_cut(forged: Forged) -> None:
    forged.edit("manifest.json", lambda told: told["job"]["privacy"].pop("rate"))


def told(factor: float) -> Tamper:
    def change(forged: Forged) -> None:
        def scale(summary: dict[str, Any]) -> None:
            summary["privacy"]["epsilon"] *= factor
            for site in summary["privacy"]["sites"].values():
                site["epsilon"] *= factor
                site["epsilon_total"] *= factor

        forged.edit("summary.json", scale)

    return change


def epsilon_less(forged: Forged) -> None:
    told(0.99)(forged)


def epsilon_more(forged: Forged) -> None:
    told(1.01)(forged)


def epsilon_of_the_run(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["privacy"].update(epsilon=7.0))


def epsilon_of_all_runs(forged: Forged) -> None:
    summary_of(forged, "site-2", epsilon_total=7.0)


def unit_in_the_summary(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["privacy"].update(unit="patient"))


def delta_in_the_summary(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["privacy"].update(delta=1e-5))


def way_of_hiding(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["secagg"].update(mode="seal"))


def cap(forged: Forged) -> None:
    forged.edit("manifest.json", lambda told: told["config"]["budget"].update(epsilon=7.0))


def cap_that_is_none(forged: Forged) -> None:
    forged.edit("manifest.json", lambda told: told["config"]["budget"].update(run_epsilon="x"))


def model_bit(forged: Forged) -> None:
    path = forged.path / "model" / "trained.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def model_gone(forged: Forged) -> None:
    (forged.path / "model" / "trained.safetensors").unlink()


# -- what only all records together tell ---------------------------------------------------------


def more_updates_than_spends(forged: Forged) -> None:
    first, *rest = forged.rows()
    forged.write_rows([{**first, "updates": 4, "asked": 4}, *rest])


def more_published_than_paid(forged: Forged) -> None:
    forged.edit("summary.json", lambda told: told["released"].update(sites=4))


def ledger_that_nobody_has(forged: Forged) -> None:
    forged.write_heads([*forged.heads(), head_of([b"x"], key_of("somebody"))])


def own_head_is_none(forged: Forged) -> None:
    forged.own_head().write_bytes(b"{}\n")


ZOO: dict[str, list[Tamper]] = {
    "plan-noise": [less_noise, more_noise, less_noise_than_reserved, rounds_exchanged],
    "plan-rate": [rate],
    "plan-clip": [clip, counted_norm],
    "plan-mechanism": [mechanism],
    "plan-unit": [unit, adjacency, delta, promised],
    "plan-steps": [more_steps, more_reserved, another_round],
    "job-named": [
        another_job_at_one_site,
        job_changed_and_hashed,
        job_hashed_everywhere_but_in_ledgers,
    ],
    "job-hash": [job_changed],
    "job-complete": [job_cut],
    "epsilon-kept": [beyond_its_epsilon],
    "epsilon-told": [epsilon_less, epsilon_more],
    "epsilon-worst": [epsilon_of_the_run],
    "epsilon-total": [epsilon_of_all_runs],
    "summary-promise": [unit_in_the_summary, delta_in_the_summary],
    "sums-agreed": [way_of_hiding],
    "caps-kept": [cap, cap_that_is_none],
    "model-checkpoint": [model_bit, model_gone],
    "updates-paid": [more_updates_than_spends],
    "publications-paid": [more_published_than_paid],
    "heads-have-ledgers": [ledger_that_nobody_has],
    "own-head-form": [own_head_is_none],
}
# Each of these has a test of its own, here, of exports, or (the consortium's) with the verb.
OTHERWISE = {
    *("export-files", "export-named"),
    *("coordinator-one-story", "coordinator-seen", "sums-vectors"),
    *("epsilon-adversaries", "sums-floors", "epsilon-bounds"),
    *("heads-told", "roster-consortium"),
}
# What isn't made yet, can't fail: of what the roster doesn't name nobody can say why. Clocks may be
# set back.
NEVER = {"heads-by-members", "plan-epsilon", "ledger-times", "coordinator-times"}


@pytest.mark.parametrize(("name", "tamper"), list(cases(ZOO)))
def test_a_tampering_fails_in_the_check_that_names_it_alone(
    name: str, tamper: Tamper, forge: Forge
) -> None:
    check_fails_alone(name, tamper, forge)


def test_every_check_that_can_fail_has_a_tampering() -> None:
    rules = {rule.name for family in FAMILIES for rule in family.rules}
    tampered = BEFORE.keys() | ZOO.keys() | COORDINATOR.keys() | OUTCOMES.keys() | OTHERWISE
    assert tampered | NEVER == rules
    assert not tampered & NEVER


@pytest.mark.parametrize("kind", ["distributed", "handed-shared"])
def test_an_adversarys_epsilon_in_the_summary(forge: Forge, kind: str) -> None:
    forged = forge(kind)
    assert failures(forged.path) == {}
    forged.edit(
        "summary.json", lambda told: told["privacy"]["adversaries"].update({"coordinator": 1.0})
    )
    assert set(failures(forged.path)) == {"epsilon-adversaries"}
    forged.edit("summary.json", lambda told: told["privacy"]["adversaries"].clear())
    silent = Verdict.FAIL if kind == "distributed" else Verdict.INCONCLUSIVE
    assert "epsilon-adversaries" in found(forged.path, silent)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "heads-told",
            {"ledger": {"entries": 3, "root": "0" * 64, "time": "2026-01-01T00:00:00Z"}},
        ),
        ("epsilon-told", {"epsilon": 3.9}),
    ],
)
def test_what_a_coordinator_that_serves_tells_of_a_site(
    name: str, change: dict[str, Any], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(GOLDEN / "served", tmp_path / "served"))
    assert failures(run) == {}
    summary = json.loads((run / "summary.json").read_bytes())
    summary["privacy"]["sites"]["site-1"] |= change
    (run / "summary.json").write_bytes(to_json(summary))
    assert set(failures(run)) == {name}


def test_a_sum_below_its_floor(forge: Forge) -> None:
    forged = forge("on", golden=OLD)
    first, *rest = forged.rows()
    failures_of = {"2": "no answer in time", "3": "no answer in time"}
    forged.write_rows([{**first, "updates": 3, "failures": failures_of}, *rest])
    assert set(failures(forged.path)) == {"sums-floors"}


def test_accountants_that_contradict_a_test(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(schedule: Any, delta: float, adjacency: Any) -> Any:
        if len(schedule) > 1:
            return claim(schedule, delta, adjacency)
        raise PrivacyError("the accountants can't be right")

    forged = forge("seal")
    monkeypatch.setattr(claims, "_claimed", broken)
    assert set(failures(forged.path)) == {"epsilon-bounds"}


def test_adaptive_norms_after_the_first_round_cant_be_told(forge: Forge) -> None:
    forged = forge("patient", golden=OLD)
    unsure = found(forged.path, Verdict.INCONCLUSIVE)
    assert set(unsure) == {"plan-clip"}
    forged.change(
        "site-1", lambda e: is_spend(e) and e["round"] == 1, lambda entry: entry.update(clip="1.0")
    )
    assert set(failures(forged.path)) == {"plan-clip"}


def test_what_follows_from_a_failure_says_so(forge: Forge) -> None:
    forged = forge()
    less_noise(forged)
    untested = found(forged.path, Verdict.NOT_TESTED)
    (told,) = (each for each in untested["epsilon-told"] if each.party == "site site-1")
    assert told.reason == "because plan-noise failed for site site-1"
    assert untested["epsilon-worst"][0].reason == "because plan-noise failed for site site-1"
    # The other sites' are made all the same.
    passed = found(forged.path, Verdict.PASS)
    assert {each.party for each in passed["epsilon-told"]} == {"run", "site site-2", "site site-3"}
