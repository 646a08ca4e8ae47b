"""When a party's files for TLS are read anew: each time one of them changed, and once."""

import os
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import IdentityError
from fedmodel.transport import tls
from tests.fedmodel.transport.consortium import Consortium

pytestmark = pytest.mark.long


class Reader:
    """Counts how often the files are read; they may be no good, and time may pass."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.count, self.now, self.good = 0, 0.0, True
        self._read = tls.read_material
        patched.setattr(tls, "read_material", self)
        patched.setattr(tls, "monotonic", lambda: self.now)

    def __call__(self, *args: Any) -> tls.Material:
        self.count += 1
        if not self.good:
            raise IdentityError("a clock is wrong")
        return self._read(*args)


def test_files_are_read_anew_once_when_one_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, reader = Consortium(tmp_path).coordinator, Reader(monkeypatch)
    current = tls.CurrentMaterial(home, None, "coordinator")
    names = ["tls-key", "certificate.pem", "roster.json", "party.json"]
    for number, name in enumerate(names, start=2):
        path = home.folder / name
        os.utime(path, (number, number))
        for _ in range(2):
            current.read()
        assert (name, reader.count) == (name, number)


def test_files_that_were_no_good_are_tried_again_after_a_while_and_no_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each use of a key is a line of the security log; but a clock may have been set."""
    home, reader = Consortium(tmp_path).coordinator, Reader(monkeypatch)
    current = tls.CurrentMaterial(home, None, "coordinator")
    first, reader.good = current.read(), False
    os.utime(home.folder / "certificate.pem", (1, 1))
    for _ in range(3):
        assert current.read() is first
    assert reader.count == 2
    reader.good, reader.now = True, 59.0
    assert current.read() is first
    reader.now = 61.0
    assert current.read() is not first
    reader.now = 1e9
    current.read()
    assert reader.count == 3
