"""The collector of cycles stands still while records are checked, and no longer."""

import gc
import weakref

from fedmodel.audit import collector
from tests.fedmodel.audit.conftest import findings_of
from tests.fedmodel.audit.forged import GOLDEN


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_thrown_away_is_collected_afterwards() -> None:
    """By whoever verifies in a process that goes on, with things of its own."""
    before = weakref.ref(Ring())
    with collector.paused():
        assert not gc.isenabled()
        meanwhile = weakref.ref(Ring())
    findings_of(GOLDEN / "record")
    assert gc.isenabled()
    gc.collect()
    assert (before(), meanwhile()) == (None, None)


def test_one_that_stood_still_before_stays_so() -> None:
    gc.disable()
    try:
        with collector.paused(), collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
