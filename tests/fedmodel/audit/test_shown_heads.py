"""Tree heads of the coordinator's ledger that sites keep, where other things are beside or gone."""

import shutil
from dataclasses import replace

from tests.fedmodel.audit.conftest import Forge, failures
from tests.fedmodel.audit.forged_coordinator import coordinators_head, key_of
from tests.fedmodel.audit.shown_tampered import shown_of


def test_one_that_was_shown_in_another_run_is_not_of_this_one(forge: Forge) -> None:
    forged = forge()
    path = shown_of(forged)
    for run in ("0-01234567", "zz-01234567"):
        other = path.parents[1] / run / path.name
        other.parent.mkdir()
        other.write_bytes(b"{}\n")
    assert failures(forged.path) == {}


def test_one_that_a_site_keeps_tells_of_a_ledger_that_was_taken_away(forge: Forge) -> None:
    """With the sites' own ledgers, which say so too."""
    forged = forge()
    shutil.rmtree(forged.ledger().parent)
    for path in (forged.coordinator.path, forged.coordinator.head_path):
        path.unlink()
    (told,) = failures(forged.path)["coordinator-present"]
    assert "keeps a tree head of" in told.reason
    assert told.entry == shown_of(forged).relative_to(forged.path).as_posix()


def test_one_that_nobody_has_signed_accuses_nobody_of_two_stories(forge: Forge) -> None:
    forged = forge()
    lines = forged.coordinator.path.read_bytes().splitlines()
    head = coordinators_head(lines, key_of("coordinator"))
    lines[-1] += b" "
    other = coordinators_head(lines, key_of("coordinator"))
    forged_head = replace(other, signature=head.signature)
    shown_of(forged).write_bytes(forged_head.to_json() + b"\n")
    assert set(failures(forged.path)) == {"shown-head-signed"}
