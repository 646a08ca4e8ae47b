"""Forms of an export: every door takes the same ones, and says so."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fedmodel import models
from fedmodel._forms import ExportForm
from fedmodel.cli.interface import FinishedRun
from fedmodel.export import Ask, export_run
from fedmodel.report.usage import library

CONF = Path(__file__).resolve().parents[2] / "conf/export.yaml"


@pytest.mark.parametrize("door", [Ask, export_run, models.export, FinishedRun.export])
def test_every_door_takes_the_same_forms(door: object) -> None:
    assert get_type_hints(door)["form"] is ExportForm


def test_every_form_has_a_library_and_stands_in_the_help() -> None:
    (line,) = (x for x in CONF.read_text().splitlines() if x.startswith("form: "))
    for form in get_args(ExportForm):
        assert library(form)
        assert form in line
