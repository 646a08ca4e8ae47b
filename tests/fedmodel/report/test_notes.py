import subprocess
import sys

import pytest

from fedmodel.job import MaskedSums, Privacy, SecAgg
from fedmodel.report.figures import hiding, noise_to_signal, privacy_summary
from fedmodel.report.notes import notes
from fedmodel.runs import Hiding, SiteSummary
from tests.fedmodel.report.conftest import site
from tests.jobs import make_job

HIDDEN = SecAgg(mode="on", sums=MaskedSums(survivors=4, colluders=1, threshold=3, bits=20))


def test_the_notes_say_what_secure_sums_dont_promise() -> None:
    assert notes(make_job(), None) == ()
    (note,) = notes(make_job(secagg=HIDDEN), None)
    assert "nothing is promised about those" in note
    (note,) = notes(make_job(secagg=HIDDEN, privacy=Privacy(mechanism="dpsgd")), None)
    assert "They add nothing to ε" in note


def test_noise_above_the_signal_is_said_to_be_of_little_use() -> None:
    (useless,), (useful,) = notes(make_job(), 2.345), notes(make_job(), 0.5)
    assert "2.3 times" in useless
    assert "of little use" in useless
    assert "0.5 times" in useful
    assert "of little use" not in useful


def test_how_updates_were_hidden_is_the_jobs() -> None:
    assert hiding(make_job()) == Hiding(mode="off")
    assert hiding(make_job(secagg=SecAgg(mode="seal"))) == Hiding(mode="seal")
    assert hiding(make_job(secagg=HIDDEN)) == Hiding(
        mode="on", survivors=4, colluders=1, honest=3, threshold=3, bits=20, step=2.0**-13
    )


def test_the_worst_site_is_the_runs() -> None:
    job = make_job(privacy=Privacy(mechanism="dpsgd", delta=1e-5))
    sites = {"a": site(1.0), "b": site(3.5), "c": site(0.0, steps=0, refused="too few rows")}
    found = privacy_summary(job, sites, [], 100)
    assert (found.epsilon, found.delta, found.sites) == (3.5, 1e-5, sites)
    assert (found.adversaries, found.noise_to_signal) == ({}, None)
    plain = {"a": SiteSummary(epsilon=None, steps=2, refused=None)}
    none = privacy_summary(make_job(), plain, [], 100)
    assert (none.epsilon, none.delta, none.private) == (None, None, False)
    assert noise_to_signal(make_job(), 100) is None


@pytest.mark.long
def test_reading_a_run_and_reporting_on_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import fedmodel.runs, fedmodel.report.page, "
        "fedmodel.report.card, fedmodel.report.figures, fedmodel.report.notes"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rounds_that_changed_nothing_are_told() -> None:
    (note,) = notes(make_job(), None, skipped=3)
    assert note.startswith("3 of the rounds left the model as it was")
