"""What a researcher is told of the rows before anything is trained, and what no seed decides."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmodel import cli, tasks
from fedmodel.data import Rows
from fedmodel.errors import DataError
from fedmodel.job import ProposedPrivacy
from simulations.notices import counts_table, rare_classes, say_rare, say_unit, say_unread
from simulations.parties import Parties, gather
from simulations.run import main
from simulations.scenario import Scenario

SINGLE = tasks.of("sequence-classification")


def gathered(path: Path, *more: str) -> Parties:
    args = ["debug=fast", "train=head", "train.batch_size=8", "privacy=none", "data=csv"]
    args += [f"data.train={path}", "federation.partition=iid", "federation.sites=2", *more]
    return gather(Scenario.from_mapping(cli.compose("simulate", args)))


def table(path: Path, labels: list[str], words: int = 3) -> Path:
    rows = [f"{' '.join(['note'] * words)} {i},{label}" for i, label in enumerate(labels)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


RARE = ["benign", "malignant"] * 30 + ["rare one", "rare-2"]


@pytest.mark.slow
@pytest.mark.long
def test_no_seed_decides_whether_rows_of_rare_classes_will_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "rows.csv", RARE)
    held = 0
    for seed in range(12):
        caplog.clear()
        parties = gathered(path, f"seed={seed}")
        assert parties.job.model.labels == ("benign", "malignant", "rare one", "rare-2")
        out = set(parties.test.labels) & {"rare one", "rare-2"}
        held += len(out)
        assert ("never" in caplog.text or "data.train_only=" in caplog.text) == bool(out)
        for name in ("rare one", "rare-2"):
            learned, tested = (0, 1) if name in out else (1, 0)
            assert f"'{name}' ({learned} to train on, {tested} to test on)" in caplog.text
    assert 0 < held < 24
    caplog.clear()
    for seed in range(6):
        parties = gathered(path, f"seed={seed}", "data.train_only=[rare one,rare-2]")
        assert not set(parties.test.labels) & {"rare one", "rare-2"}


@pytest.mark.slow
@pytest.mark.long
def test_no_seed_decides_whether_few_rows_will_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "rows.csv", ["a", "b"] * 2)
    for seed in range(8):
        parties = gathered(path, f"seed={seed}", "federation.min_rows=1", "train.batch_size=1")
        assert len(parties.test)
        assert sum(map(len, parties.sites.values())) == 4 - len(parties.test)
    assert "one was put on the other" in caplog.text
    table(tmp_path / "one.csv", ["a", "b"])
    (tmp_path / "one.csv").write_text("text,label,pid\nx,a,1\ny,b,1\n")
    with pytest.raises(DataError, match="no site can hold out a row"):
        gathered(tmp_path / "one.csv", "data.patient=pid", "federation.sites=1")


def test_rare_classes() -> None:
    train = Rows([""] * 21, ["a"] * 12 + ["b"] * 9)
    test = Rows([""] * 31, ["b"] * 1 + ["c"] * 30)
    assert rare_classes(train, test, SINGLE) == {"c": (0, 30)}
    assert rare_classes(train, Rows((), ()), SINGLE) == {"b": (9, 0)}
    assert rare_classes(train, Rows((), ()), SINGLE, ["z", "a"]) == {"b": (9, 0), "z": (0, 0)}


def test_long_names_of_rare_classes_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    long = "SECRET " * 9
    say_rare(Rows("ab", ["x", long]), Rows("cd", [long, "x"]), SINGLE, held_out=True)
    assert "SECRET" not in caplog.text
    assert "'x' (1 to train on, 1 to test on)" in caplog.text


@pytest.mark.long
def test_truncation_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "rows.csv", ["a", "b"] * 20, words=60)
    parties = gathered(path, "model.max_length=16")
    learner, texts = parties.learner, ["note", "note " * 14, "note " * 15, "note " * 62]
    assert "model.max_length=16 cuts" in caplog.text
    assert "this model reads up to 256" in caplog.text
    caplog.clear()
    say_unread(learner, texts)
    # Two special tokens each: 3, 16, 17 and 64 of which 16 are kept.
    lost = round(100 * (1 + 48) / (3 + 16 + 17 + 64))
    assert f"cuts 2 of 4 training rows, and {lost} % of all tokens are never read" in caplog.text
    assert "half have up to 16, nine in ten up to 64, all up to 64" in caplog.text
    caplog.clear()
    say_unread(learner, texts[:2])
    say_unread(learner, [])
    say_unread(learner, texts, least=0.5)
    assert not caplog.records
    monkeypatch.setattr("simulations.notices._LOOKED_AT", 15_000)
    say_unread(learner, ["note"] * 3000 + ["note " * 20] * 300)  # 42,000 characters
    assert "cuts 100 of 1100 training rows looked at" in caplog.text


@pytest.mark.long
def test_texts_that_the_tokenizer_doesnt_know_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of another script is one unknown token after another: only its length is learned from."""
    learner = gathered(table(tmp_path / "rows.csv", ["a", "b"] * 20)).learner
    assert "doesn't know" not in caplog.text
    say_unread(learner, ["note " * 19 + "\u8840"])
    assert not caplog.records
    say_unread(learner, ["note " * 2 + "\u8840\u8840", "note"])
    assert "doesn't know 40 % of the texts' pieces" in caplog.text
    caplog.clear()
    say_unread(learner, ["\x00", "note"])  # a text of no piece
    assert "doesn't know 50 %" in caplog.text


def shown(width: int = 200, **given: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(counts_table(task=SINGLE, **given))
    return out.getvalue()


def test_counts_of_sites_and_classes() -> None:
    sites = {
        "[red]north": Rows("abc", "xxy", None, "112"),
        "south": Rows("de", "yy", None, "34"),
    }
    held = {"[red]north": Rows("f", "x", None, "5"), "south": Rows((), (), None, ())}
    text = shown(sites=sites, held_out=held, test=held["[red]north"])
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["[red]north", "3", "2", "1", "1", "2"] in lines  # the commonest class, y, first
    assert ["south", "2", "2", "0", "2", "0"] in lines
    assert ["all", "5", "4", "1", "3", "2"] in lines
    many = {"s": Rows([""] * 40, [f"c{i % 20:02d}" for i in range(40)])}
    text = shown(sites=many, held_out={}, test=Rows("ab", "xy"))
    assert "13 more" in text
    long = {"s": Rows([""] * 12, [f"{chr(97 + i)}-otherapeutics" for i in range(12)])}
    text = shown(80, sites=long, held_out={}, test=Rows("ab", "xy"))
    assert "…" not in text  # nothing is cut: words go on in the next line
    heads = [line.strip("┃").split("┃") for line in text.splitlines() if "┃" in line]
    names = {"".join(part.strip() for part in column) for column in zip(*heads, strict=True)}
    assert {"a-otherapeutics", "g-otherapeutics", "5more"} <= names
    assert "2 public test rows" in text
    lots = {f"s{i:03d}": Rows("a", "x") for i in range(50)}
    assert "30 more sites" in shown(sites=lots, held_out={}, test=Rows("a", "x"))


@pytest.mark.long
def test_counts_are_shown_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "rows.csv", ["a", "b"] * 40)
    args = ["debug=fast", "train=head", "privacy=none", "train.batch_size=8", "data=csv"]
    args += [
        f"data.train={path}",
        "federation.partition=iid",
        "federation.sites=2",
        f"run={tmp_path / 'run'}",
    ]
    assert main([cli.compose("simulate", args)]) == 0
    out = capsys.readouterr().out
    assert out.index("rows to train on") < out.index("sites joined")
    told = "".join(p.read_text() for p in (tmp_path / "run").rglob("summary.json"))
    assert "held out" not in told.replace("held out from the sites", "")


@pytest.mark.parametrize(
    ("privacy", "fix"),
    [
        (ProposedPrivacy(mechanism="dpsgd", epsilon=3.0), "privacy=patient"),
        (ProposedPrivacy(mechanism="distributed", epsilon=3.0), "privacy.unit=patient"),
        (ProposedPrivacy(mechanism="dpsgd", epsilon=3.0, unit="patient"), None),
        (ProposedPrivacy(), None),
    ],
    ids=["record", "distributed", "patient", "none"],
)
def test_it_is_said_where_a_person_has_more_rows_than_are_hidden(
    privacy: ProposedPrivacy, fix: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    once = Rows("abc", "xyx", ["1", "1", "2"], ["p", "q", "p"])  # two sites' patients called p
    say_unit(once, privacy)
    assert not caplog.text
    say_unit(Rows("abcd", "xyxy", ["1", "1", "2", "1"], ["p", "q", "p", "p"]), privacy)
    if fix is None:
        assert not caplog.text
    else:
        assert f"1 of 3 patients have several, up to 2: {fix} hides all" in caplog.text
