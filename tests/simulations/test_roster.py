"""The roster of a simulation: signed, and taken by each site as a hospital takes it."""

import shutil
from pathlib import Path

import pytest

from fedmodel.errors import OutdatedError, SignerError
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.trust import TRUST, read_trust
from fedmodel.ledger.site_state import SiteState
from simulations.play import _provision


def states(root: Path, *names: str) -> dict[int, SiteState]:
    return {i: SiteState(root / name, name) for i, name in enumerate(names, start=2)}


def provisioned(root: Path, *names: str) -> CoordinatorKeys:
    return _provision(states(root, *names), root / "coordinator")


def test_each_site_keeps_the_version_that_it_saw(tmp_path: Path) -> None:
    for version, names in ((1, ("a", "b")), (2, ("a", "b", "c")), (2, ("a", "b", "c"))):
        roster = provisioned(tmp_path, *names).roster
        for name in names:
            trust = read_trust(tmp_path / name / TRUST)
            assert trust is not None
            assert (trust.version, trust.roster) == (version, roster.sha256)


def test_a_site_refuses_an_older_roster_and_another_consortium(tmp_path: Path) -> None:
    provisioned(tmp_path, "a", "b")
    shutil.copytree(tmp_path / "coordinator", tmp_path / "copy")
    provisioned(tmp_path, "a", "b", "c")
    shutil.rmtree(tmp_path / "coordinator")
    (tmp_path / "copy").rename(tmp_path / "coordinator")
    with pytest.raises(OutdatedError, match="version 2 was seen here"):
        provisioned(tmp_path, "a", "b")
    shutil.rmtree(tmp_path / "coordinator")
    with pytest.raises(SignerError, match="is signed by consortium"):
        provisioned(tmp_path, "a", "b")
