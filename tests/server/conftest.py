"""What tests of served runs share: a consortium of three, of which each party has its folder."""

from pathlib import Path

import pytest

from tests.deployed import Deployed


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    monkeypatch.chdir(tmp_path)
    return Deployed(tmp_path)
