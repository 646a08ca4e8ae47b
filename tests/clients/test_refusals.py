"""Refusals of a policy in the security logs of both ends, and what the coordinator's has not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error

from clients.limits import Limits
from fedmodel import wire
from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.spends import Spend
from fedmodel.budget.figures import figures, said
from fedmodel.budget.statement import what_if
from fedmodel.cli import main
from fedmodel.errors import BudgetError, RefusedError
from fedmodel.identity.security_log import Row, SecurityLog
from fedmodel.job import Federation
from fedmodel.ledger import Ledger, Request
from fedmodel.ledger.caps import Caps, Charge
from fedmodel.wire import decode_error
from tests.clients.test_app import PLAIN, PRIVATE, Talk


def rows_of(folder: Path, event: str) -> list[Row]:
    found = SecurityLog(folder / "security.jsonl").rows()
    return [row for row in found if row.event == event]


def test_a_site_writes_down_what_it_refused_once_for_each_run(tmp_path: Path) -> None:
    talk = Talk(tmp_path, limits=Limits(epsilon=1.0))
    for _ in range(3):
        assert talk.join(PRIVATE).has_error()
    talk.join(PRIVATE, run="other")
    talk.join(PLAIN)
    told = [dict(row.about) for row in rows_of(talk.site.state.folder, "job-refused")]
    about = {"rule": "policy.epsilon", "allowed": "1", "coordinator": "none"}
    asked = {"asked": "privacy.epsilon=3", "job": PRIVATE.sha256}
    assert told == [
        about | asked | {"run": "test"},
        about | asked | {"run": "other"},
        about | {"asked": "privacy=none", "job": PLAIN.sha256, "run": "test"},
    ]


def test_another_rule_that_refuses_the_same_run_is_another_row(tmp_path: Path) -> None:
    talk = Talk(tmp_path, limits=Limits(epsilon=1.0))
    talk.join(PRIVATE)
    talk.restart(policy=replace(talk.site.policy, limits=Limits(rounds=1)))
    talk.join(PRIVATE)
    found = rows_of(talk.site.state.folder, "job-refused")
    assert [row.about["rule"] for row in found] == ["policy.epsilon", "policy.rounds"]


@pytest.mark.parametrize(
    ("job", "site", "rule", "allowed", "kind"),
    [
        (
            replace(PLAIN, federation=Federation(min_rows=99)),
            {},
            "federation.min_rows",
            "16",
            RefusedError,
        ),
        (PRIVATE, {"caps": Caps(epsilon=0.1)}, "budget", "", BudgetError),
        (PLAIN, {"limits": Limits(rounds=1)}, "policy.rounds", "1", RefusedError),
    ],
)
def test_the_rule_is_told_and_the_numbers_of_a_site_stand_in_its_own_log(
    job: Any, site: dict[str, Any], rule: str, allowed: str, kind: type, tmp_path: Path
) -> None:
    talk = Talk(tmp_path, **site)
    told = decode_error(talk.join(job).error)
    (row,) = rows_of(talk.site.state.folder, "job-refused")
    assert row.about["rule"] == rule
    assert row.about["allowed"] == allowed or rule == "budget"
    assert told.rule == rule
    assert rule not in told.reason.partition(" ")[0]
    assert told.kind == kind.__name__


@pytest.mark.long
def test_a_caps_refusal_has_the_figures_of_budget_for_the_operator_alone(tmp_path: Path) -> None:
    heard = []
    for name, spent in (("new", 0), ("old", 1)):
        caps = Caps(epsilon=3.0 if not spent else 4.0)
        talk = Talk(tmp_path / name, caps=caps)
        for number in range(spent):
            assert not talk.join(PRIVATE, run=f"before-{number}").has_error()
            assert not talk.send("train", order_of(talk, f"before-{number}")).has_error()
        if not spent:
            talk.restart(policy=replace(talk.site.policy, caps=Caps(epsilon=0.5)))
        told = decode_error(talk.join(PRIVATE).error)
        assert (told.kind, told.rule, told.budget) == ("BudgetError", "budget", True)
        assert "exceed budget.epsilon of this site" in told.reason
        heard.append(told.reason)
        work = talk.app.work(77, 5)
        assert "budget.epsilon" in str(work.refusal)
        if spent:
            book = Ledger(talk.site.ledger_file).book()
            cost = what_if(book, Request.of(plan_of(PRIVATE)), caps)
            assert cost.spent is not None
            assert cost.before is not None
            assert cost.alone is not None
            assert cost.after is not None
            assert 0 < cost.spent < cost.before < caps.epsilon < cost.after  # type: ignore[operator]
            assert cost.alone == pytest.approx(PRIVATE.privacy.epsilon, rel=0.02)
            assert f"asked {said(figures(cost))}, allowed budget.epsilon = 4" in str(work.rule)
        (row,) = rows_of(talk.site.state.folder, "job-refused")
        assert row.about["asked"].startswith("dataset main, per record, at δ = 0.001")
    # Whatever is spent there, and whatever the cap is, the words are the same.
    assert heard[0] == heard[1]
    assert not any(character.isdigit() for character in heard[0])


def test_that_a_ledger_holds_steps_of_records_is_for_the_operator_alone() -> None:
    charge = Charge(Spend(0.4, 1.0, 4), "record", "add-remove", 1e-3)
    patient = replace(charge, unit="patient")
    with pytest.raises(BudgetError, match="its ledger holds steps") as caught:
        Caps(unit="patient").check(spent=[charge], held=[], new=[patient])
    assert caught.value.told is not None
    assert "exceed budget.unit of this site" in caught.value.told
    assert "ledger" not in caught.value.told


def test_a_rule_is_believed_where_a_kind_of_refusal_is_named_alone() -> None:
    told = decode_error(Error(200, "[policy.epsilon] anything"))
    assert (told.kind, told.rule) == ("", None)
    assert decode_error(Error(202, "[policy.epsilon] anything")).rule == "policy.epsilon"
    assert decode_error(Error(202, "[Policy Epsilon] anything")).rule is None


def order_of(talk: Talk, run: str) -> Any:
    vector = wire.pack(talk.learner.initial)
    return wire.encode_order(run, 1, PRIVATE.sha256, vector)


def test_what_isnt_approved_yet_is_no_refusal_of_the_policy(tmp_path: Path) -> None:
    talk = Talk(tmp_path, approval="each")
    assert talk.join(PLAIN).has_error()
    assert not (talk.site.state.folder / "security.jsonl").exists()


@pytest.mark.long
def test_both_ends_of_a_simulation_have_the_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    words = ["simulate", "debug=fast", "train=head", "federation.sites=2", f"state={state}"]
    words += ["policy.epsilon=0.5", "privacy.epsilon=2", f"run={tmp_path / 'run'}"]
    assert main(words) == 1
    assert "policy.epsilon=0.5" in capsys.readouterr().out
    heard = [dict(row.about) for row in rows_of(state / "coordinator", "site-refused")]
    assert {each["site"] for each in heard} == {"site-1", "site-2"}
    assert all(each["rule"] == "policy.epsilon" for each in heard)
    assert all(each["kind"] == "RefusedError" for each in heard)
    for site in ("site-1", "site-2"):
        ours = [dict(row.about) for row in rows_of(state / site, "job-refused")]
        assert len(ours) == 1
        assert {(o["run"], o["job"]) for o in ours} == {(h["run"], h["job"]) for h in heard}
        assert ours[0]["asked"] == "privacy.epsilon=2"
        assert ours[0]["allowed"] == "0.5"
        assert len(ours[0]["coordinator"]) == 32
    # What is told is the kind and the public rule.
    assert all(set(each) == {"site", "kind", "rule", "run", "job"} for each in heard)
    assert json.dumps(heard).count("site-1") == 1
