"""The accuracy benchmark: its cells, what it goes on from, and the table that it writes."""

import csv
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from simulations.benchmarks import accuracy, silent
from simulations.benchmarks.accuracy import Cell, kept, lines, overrides
from simulations.benchmarks.accuracy_sets import SETS, write_set

QUICK = ("--quick", "--sets", "templated", "--epsilons", "3", "--modes", "record", "--seeds", "1")


@pytest.mark.long
@pytest.mark.slow
def test_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "figures.json", tmp_path / "table.md"
    words = [*QUICK, "--out", str(out), "--markdown", str(table), "--methods"]
    assert accuracy.main([*words, "head-zero"]) == 0
    path = tmp_path / "figures.json.quick.cells"
    (first,) = kept(path)
    value = kept(path)[first]
    whole = path.read_text()
    path.write_text(whole + '{"cell": {"set": "templa')  # it was killed as it wrote
    ran: list[Any] = []

    def counted(*asked: Any) -> Any:
        ran.append(asked)
        return silent.simulated(*asked)

    monkeypatch.setattr(accuracy, "simulated", counted)
    assert accuracy.main([*words, "head-zero,means"]) == 0
    assert len(ran) == 1
    assert [cell.method for cell in kept(path)] == ["head-zero", "means"]
    assert kept(path)[first] == value
    assert accuracy.main([*words, "head-zero,means"]) == 0
    assert len(ran) == 1
    named = {figure["name"] for figure in json.loads(out.read_text())["figures"]}
    assert "templated, record, 3, means: macro-F1, more than head-zero" in named
    assert table.read_text().count("\n| templated | record | 3 |") == 2
    assert "without --train and --test" not in capsys.readouterr().err


def test_a_difference_is_of_the_same_split() -> None:
    asked = [
        Cell(set="plain", mode="record", epsilon="1", method=method, seed=seed)
        for seed in (0, 1)
        for method in ("head-zero", "head")
    ]
    values = [(50.0, 40.0), (53.0, 45.0), (60.0, 50.0), (65.0, 53.0)]
    base, other = lines(dict(zip(asked, values, strict=True)), asked)
    assert other.apart == [(3.0, 5.0), (5.0, 3.0)]
    assert "59.0 ± 8.5 / 49.0 ± 5.7 (2) | +4.0 ± 1.0 / +4.0 ± 1.0 |" in other.shown()
    assert base.shown().endswith("| – |")


def test_only_patients_rows_have_patients_and_a_cell_says_all_that_differs() -> None:
    args = Namespace(
        sets="plain,patients",
        modes="distributed,patient",
        epsilons="1,none",
        methods="head",
        seeds=1,
    )
    found = [(c.set, c.mode) for c in accuracy.cells(args)]
    assert ("plain", "patient") not in found
    assert found.count(("plain", "distributed")) == 2
    assert found.count(("patients", "patient")) == 1  # without privacy it is as the others
    assert ("patients", "patient") in found
    one = Cell(set="plain", mode="pooled", epsilon="none", method="head", seed=4)
    assert overrides(one)[-1] == "privacy=none"
    assert "seed=4" in overrides(one)


@pytest.mark.parametrize("name", [name for name in SETS if name != "abstracts"])
def test_a_set_is_the_same_for_a_seed_and_another_for_another(name: str, tmp_path: Path) -> None:
    def rows(seed: int, folder: str, part: str = "train") -> list[dict[str, str]]:
        (tmp_path / folder).mkdir()
        words = write_set(name, seed, tmp_path / folder, (120, 30), None)
        path = next(word for word in words if word.startswith(f"data.{part}=")).split("'")[1]
        with open(path, newline="") as file:
            return list(csv.DictReader(file))

    one, again, other = rows(1, "a"), rows(1, "b"), rows(2, "c")
    assert one == again != other
    assert len(one) == 120
    if name == "patients":
        many = [row["patient"] for row in one]
        assert max(map(many.count, many)) == 8
        tested = {row["patient"] for row in rows(1, "d", "test")}
        assert tested
        assert not tested & set(many)


def test_abstracts_are_split_anew_with_the_sites_sizes(tmp_path: Path) -> None:
    files = tmp_path / "train.csv", tmp_path / "test.csv"
    files[0].write_text("site,text,label\n" + "".join(f"s{i % 3},t{i},a\n" for i in range(30)))
    files[1].write_text("text,label\n" + "".join(f"u{i},b\n" for i in range(10)))
    write_set("abstracts", 3, tmp_path, (0, 0), files)
    with open(tmp_path / "abstracts-3-train.csv", newline="") as file:
        train = list(csv.DictReader(file))
    with open(tmp_path / "abstracts-3-test.csv", newline="") as file:
        test = list(csv.DictReader(file))
    assert [row["site"] for row in train] == [f"s{i % 3}" for i in range(30)]
    texts = [row["text"] for row in (*train, *test)]
    assert sorted(texts) == sorted([f"t{i}" for i in range(30)] + [f"u{i}" for i in range(10)])
    assert any(text.startswith("u") for text in texts[:30])
