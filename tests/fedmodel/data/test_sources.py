import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from fedmodel import config, tasks
from fedmodel.data import Rows, Source, labels_of, load
from fedmodel.errors import DataError
from fedmodel.seeds import Seed

SINGLE = tasks.of("sequence-classification")

ROOT = Path(__file__).resolve().parents[3]
ABSTRACTS = ROOT.parent / "shared" / "data" / "medical_abstracts"
COLUMNS = {
    "text": ["first note, with a comma", 'second "quoted"\nnote', "третья"],
    "label": ["x", "y", "x"],
    "site": ["north", "south", "north"],
    "pid": [7, 8, 7],
    "unused": [0.5, 1.5, 2.5],
}
ROWS = Rows(COLUMNS["text"], COLUMNS["label"], COLUMNS["site"], ["7", "8", "7"])  # type: ignore[arg-type]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


def write(kind: str, folder: Path) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS))
            writer.writeheader()
            writer.writerows(RECORDS)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(record) for record in RECORDS))
    elif kind == "parquet":
        table().to_parquet(path)
    elif kind == "saved":
        table().save_to_disk(path)
    elif kind == "saved splits":
        splits = {"train": table(), "other": table().select([0])}
        datasets.DatasetDict(splits).save_to_disk(path)
    else:
        path.mkdir()
        write(kind.removeprefix("folder of "), path).rename(
            path / f"train.{kind.removeprefix('folder of ')}"
        )
    return path


def table() -> datasets.Dataset:
    return datasets.Dataset.from_dict(COLUMNS)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the user's cache, where nothing should be written."""
    folder: Path = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize(
    "kind",
    [
        "csv",
        "jsonl",
        "parquet",
        "saved",
        "saved splits",
        "folder of csv",
        "folder of jsonl",
        "folder of parquet",
    ],
)
def test_the_same_content_gives_the_same_rows(
    tmp_path: Path, cache: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(kind, tmp_path)
    shown = kind if kind in ("csv", "jsonl", "parquet") else "folder"
    capfd.readouterr()
    mapping = {"kind": shown, "train": str(path), "site": "site", "patient": "pid"}
    tables = load(config.build(Source, mapping), Seed(0), 2, SINGLE)
    assert tables.train == ROWS
    assert tables.test is None
    assert [p for p in cache.rglob("*") if p.is_file()] == []
    out = capfd.readouterr()
    assert out.err == ""
    assert "Rows" in repr(tables)
    assert "note" not in repr(tables)


@pytest.mark.long
def test_class_labels_become_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    data.with_format("numpy").save_to_disk(tmp_path / "saved")
    rows = load(Source(kind="folder", train=str(tmp_path / "saved")), Seed(0), 2, SINGLE).train
    assert list(rows.labels) == ["yes", "no"]


@pytest.mark.long
def test_splits_of_a_folder(tmp_path: Path) -> None:
    path = str(write("saved splits", tmp_path))
    tables = load(Source(kind="folder", train=path, test_split="other"), Seed(0), 2, SINGLE)
    assert tables.test is not None
    assert len(tables.test) == 1
    with pytest.raises(DataError, match=r"split 'dev'.*train, other.*data.train_split"):
        load(Source(kind="folder", train=path, train_split="dev"), Seed(0), 2, SINGLE)
    with pytest.raises(DataError, match=r"split 'test'.*train, other"):
        load(Source(kind="folder", train=path, test=path), Seed(0), 2, SINGLE)


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.parquet"])
def test_a_file_of_a_folder_that_has_changed_is_read_anew(name: str, tmp_path: Path) -> None:
    for rows in (3, 5):  # at one path, within one second
        table = pd.DataFrame(
            {"text": [f"note {i}" for i in range(rows)], "label": list("xyxyx")[:rows]}
        )
        if name.endswith("parquet"):
            table.to_parquet(tmp_path / name)
        else:
            table.to_csv(tmp_path / name, index=False)
        found = load(Source(kind="folder", train=str(tmp_path)), Seed(0), 2, SINGLE)
        assert len(found.train) == rows


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("x.csv", 'text,label\nSECRET,"x\n'),
        ("x.jsonl", '{"text": "SECRET'),
        ("x.txt", ""),
        ("", ""),
    ],
)
def test_folders_that_cannot_be_read(tmp_path: Path, file: str, content: str) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    if file:
        (folder / file).write_text(content)
    with pytest.raises(DataError, match="rows") as caught:
        load(Source(kind="folder", train=str(folder)), Seed(0), 2, SINGLE)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.long
def test_null_in_a_folder(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": ["SECRET", None], "label": ["x", "y"]})
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"saved, row 2: .*'text'.*null"):
        load(Source(kind="folder", train=str(tmp_path / "saved")), Seed(0), 2, SINGLE)


@pytest.mark.long
def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def load_dataset(path: str, name: str | None, **rest: Any) -> datasets.Dataset:
        calls.append((path, name, rest["revision"], rest["split"]))
        return table() if rest["split"] == "train" else table().select([1])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Source(kind="hub", train="org/notes", name="en", revision="abc", test_split="dev")
    tables = load(source, Seed(0), 2, SINGLE)
    assert tables.train == Rows(ROWS.texts, ROWS.labels)
    assert tables.test == Rows(ROWS.texts[1:2], ["y"])
    assert calls == [("org/notes", "en", "abc", "train"), ("org/notes", "en", "abc", "dev")]


@pytest.mark.long
def test_hub_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("SECRET")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"org/notes\[train\].*ConnectionError.*network") as caught:
        load(Source(kind="hub", train="org/notes"), Seed(0), 2, SINGLE)
    assert "SECRET" not in str(caught.value)


@pytest.mark.skipif(not ABSTRACTS.is_dir(), reason="the shared data isn't on this machine")
def test_real_abstracts() -> None:
    source = Source(
        kind="csv",
        train=str(ABSTRACTS / "train.csv"),
        test=str(ABSTRACTS / "test.csv"),
        site="site",
    )
    tables = load(source, Seed(0), 5, SINGLE)
    assert tables.test is not None
    assert (len(tables.train), len(tables.test)) == (2300, 588)
    assert len(labels_of(tables.train, SINGLE)) == 5
    assert len(set(tables.train.sites or ())) == 5


def test_import_is_light() -> None:
    code = (
        "import sys, fedmodel.data; "
        "print([m for m in ('datasets','pandas','torch','pyarrow','flwr') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert out.stdout.strip() == "[]"


def test_a_site_or_a_patient_is_the_same_in_another_form_of_its_name(tmp_path: Path) -> None:
    names = ["Su\u0308d", "S\u00fcd ", "S\u00fcd"]
    patients = ["p  1", " p 1", "p\u00a01"]
    rows = [f"{site},{patient}, note  {i} ,{'ab'[i % 2]}" for i, (site, patient) in
            enumerate(zip(names, patients, strict=True))]  # fmt: skip
    path = tmp_path / "notes.csv"
    path.write_text("\n".join(["site,patient,text,label", *rows]), encoding="utf-8")
    source = Source(kind="csv", train=str(path), site="site", patient="patient")
    found = load(source, Seed(0), 1, tasks.of("sequence-classification")).train
    assert set(found.sites or ()) == {"S\u00fcd"}
    assert set(found.patients or ()) == {"p 1"}
    assert found.texts[0] == " note  0 "  # a text is as it is
