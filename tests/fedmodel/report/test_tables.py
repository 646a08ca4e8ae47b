import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fedmodel.accounting.planning import plan_of
from fedmodel.job import Privacy, Train
from fedmodel.report.figures import adversaries, privacy_summary
from fedmodel.report.page import report_page
from fedmodel.report.tables import summary_tables, sweep_table
from fedmodel.runs import ReleasedScore, SiteSummary, Summary
from tests.fedmodel.report.conftest import PLAIN, RELEASED, private, served, site
from tests.jobs import make_job, summed


def shown(summary: Summary, rows: dict[str, int] | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    for table in summary_tables(summary, rows):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def cells(text: str, name: str) -> list[str]:
    (line,) = [x for x in text.splitlines() if re.search(rf"│\s*{re.escape(name)}\s*│", x)]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_run_without_privacy() -> None:
    text = shown(PLAIN)
    assert cells(text, "north") == ["north", "14", "no privacy"]
    assert cells(text, "accuracy") == ["accuracy", "91.2 %"]
    assert cells(text, "sent up / down")[1] == "2.00 / 4.00 MB"
    assert "worst site" not in text
    assert "in all runs" not in text


def test_an_epsilon_is_rounded_up_and_other_runs_are_told_only_where_there_were_any() -> None:
    assert cells(shown(private()), "north") == ["north", "14", "2.980"]
    older = {"north": site(1.23401, epsilon_total=4.5), "south": site(1.0, epsilon_total=None)}
    text = shown(replace(PLAIN, privacy=replace(private().privacy, sites=older)))
    assert cells(text, "north") == ["north", "14", "1.235", "4.500"]
    assert cells(text, "south") == ["south", "14", "1.000", "unknown"]
    assert cells(text, "(ε, δ), worst site")[1] == "(2.980, 1e-05) per record"


def test_a_served_runs_table_has_what_its_coordinator_knows() -> None:
    text = shown(served(), {"north": 12, "south": 90})
    assert cells(text, "north") == ["north", "7", "9", "3.000"]
    assert cells(text, "south") == ["south", "0 (refused: it waits for approval)", "–", "0.000"]
    assert cells(text, "(ε, δ), worst site, at most")[1] == "(3.000, 1e-05) per record"
    assert cells(text, "from start to end")[1] == "3.0 s"
    for unknown in ("training", "everything else", "sent up", "rows", "in all runs"):
        assert unknown not in text


def test_rows_a_refusal_and_adversaries() -> None:
    sites = {"north": site(0.0, steps=0, refused="too few rows"), "south": site(2.98)}
    privacy = replace(private().privacy, sites=sites, adversaries={"another site": 3.0})
    text = shown(replace(PLAIN, privacy=privacy), {"north": 12, "south": 90})
    assert cells(text, "north")[1:3] == ["12", "0 (refused: too few rows)"]
    assert cells(text, "against: another site")[1] == "3.000"
    planned = shown(replace(PLAIN, privacy=replace(privacy, basis="plan")), {})
    assert cells(planned, "against: another site, at most")[1] == "3.000"
    assert "as released" not in text


def test_what_was_released_stands_below_the_truth() -> None:
    text = shown(replace(private(), released=RELEASED))
    assert cells(text, "as released under DP")[1] == "87.7 % (81 to 94)"
    wide = replace(RELEASED, accuracy=0.02, standard_error=0.115)
    assert (
        cells(shown(replace(private(), released=wide)), "as released under DP")[1]
        == "2.0 % (0 to 25)"
    )
    lost = replace(RELEASED, accuracy=None, standard_error=None)
    assert "lost in the noise" in shown(replace(private(), released=lost))


def test_scores_of_sets_of_labels_and_what_was_released_of_them() -> None:
    final = {"accuracy": 0.25, "micro_f1": 0.5, "majority": 0.125, "f1.fever": 0.75}
    scores = {
        "micro_f1": ReleasedScore(value=0.4321, standard_error=0.0123),
        "f1.fever": ReleasedScore(value=None, standard_error=None),
        "accuracy.fever": ReleasedScore(value=0.5, standard_error=0.1),
    }
    released = replace(RELEASED, scores=scores)
    lines = shown(replace(private(), final=final, released=released)).splitlines()
    rows = [[cell.strip() for cell in x.strip("│").split("│")] for x in lines if "│" in x]
    start = rows.index(["accuracy", "25.0 %"])
    assert rows[start : start + 8] == [
        ["accuracy", "25.0 %"],
        ["as released under DP", "87.7 % (81 to 94)"],
        ["always the commonest set of labels", "12.5 %"],
        ["micro-F1", "50.0 %"],
        ["as released under DP", "43.2 % (41 to 46)"],
        ["F1 of fever", "75.0 %"],
        ["as released under DP", "lost in the noise"],
        ["(ε, δ), worst site", "(2.980, 1e-05) per record"],
    ]


def test_a_sweep_has_a_row_for_each_job_and_shows_what_was_released_where_something_was() -> None:
    told = replace(private(), released=RELEASED)
    some: list[tuple[str, Summary | str]] = [("a", told), ("b", PLAIN), ("c", "failed: DataError")]
    none: list[tuple[str, Summary | str]] = [("b", PLAIN), ("", private())]
    for results, columns in ((some, 7), (none, 6)):
        table = sweep_table(results)
        assert (len(table.columns), table.row_count) == (columns, len(results))


def test_a_jobs_words_are_whole_in_a_sweeps_table_of_80_columns() -> None:
    told = replace(private(), released=RELEASED)
    console = Console(file=io.StringIO(), width=80)
    jobs: list[tuple[str, Summary | str]] = [
        ("privacy=record seed=0", told),
        ("privacy=none seed=10", PLAIN),
        ("privacy=patient seed=3", "failed: RunFolderError"),
    ]
    console.print(sweep_table(jobs))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    words = ("privacy=record", "privacy=none", "seed=10", "privacy=patient", "seed=3", "failed:")
    for word in (*words, "RunFolderError", " to ", "seconds"):
        assert word in text


def test_metrics_that_arent_there_are_left_out_and_others_are_shown_by_their_names() -> None:
    none = replace(PLAIN, final={})
    assert "accuracy" not in shown(none)
    assert sweep_table([("a", none)]).row_count == 1
    more = replace(PLAIN, final={**PLAIN.final, "label_f1_fever": 0.25})
    assert cells(shown(more), "label f1 fever")[1] == "0.250"
    assert cells(shown(more), "macro-F1")[1] == "50.0 %"
    assert cells(shown(more), "test loss")[1] == "0.250"


def test_a_page_follows_from_the_file_alone() -> None:
    summary = replace(private(), notes=("[1] Mind ε < 3 & more.",))
    read = Summary.from_mapping(json.loads(json.dumps(summary.to_mapping())))
    page = report_page(read, "a <b>")
    assert page == report_page(summary, "a <b>")
    assert "pre { overflow-x: auto;" in page  # wide tables scroll, the page doesn't
    assert "<h1>fedmodel run a &lt;b&gt;</h1>" in page
    assert "[1] Mind ε &lt; 3 &amp; more." in page
    assert "http" not in page
    for text in ("2.980", "91.2 %", "north", "south"):
        assert text in page


def test_labels_and_jobs_are_shown_as_they_are_whatever_markup_they_look_like() -> None:
    final = dict(PLAIN.final) | {"f1.[/fever]": 0.5, "f1.[red]pain": 0.25}
    text = shown(replace(PLAIN, final=final))
    assert "F1 of [/fever]" in text
    assert "F1 of [red]pain" in text
    console = Console(file=io.StringIO(), width=200)
    console.print(sweep_table([("data.labels=[fever,cough]", PLAIN), ("x=[/b]", "failed: [/c]")]))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("data.labels=[fever,cough]", "x=[/b]", "failed: [/c]"):
        assert word in told


@pytest.mark.long
def test_the_figures_of_a_run_are_the_worst_sites() -> None:
    job = make_job(
        train=Train(rounds=4, steps=1, batch_size=8),
        privacy=Privacy(mechanism="distributed", rate=0.5, delta=1e-4),
        secagg=summed(5),
    )
    plan = plan_of(job)
    little, much = [plan.spend(1, 1)], [plan.spend(1, 4)]
    worst = adversaries(job, [much])
    assert all(worst[name] > figure for name, figure in adversaries(job, [little]).items())
    assert adversaries(job, [little, much]) == adversaries(job, [much, little]) == worst
    sites = {
        name: SiteSummary(epsilon=epsilon, epsilon_total=9.0, steps=1, refused=None)
        for name, epsilon in (("a", 1.0), ("b", 3.0), ("c", 2.0))
    }
    told = privacy_summary(job, sites, [little, much], 10)
    assert (told.epsilon, told.adversaries) == (3.0, worst)
