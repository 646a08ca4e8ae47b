"""Every tampering of the zoo in one place, for who verifies in another way than ours."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.fedmodel.audit.forged import Forged
from tests.fedmodel.audit.test_coordinator_tampered import ZOO as COORDINATOR
from tests.fedmodel.audit.test_outcomes_tampered import (
    ZOO as OUTCOMES,
)
from tests.fedmodel.audit.test_outcomes_tampered import (
    masked_for_another_attempt,
    vectors_exchanged,
)
from tests.fedmodel.audit.test_promises_tampered import ZOO as PROMISES
from tests.fedmodel.audit.test_tampered import ZOO as RECORDS

__all__ = ["TAMPERINGS", "Tampering"]


@dataclass(frozen=True)
class Tampering:
    """What is made of a run, and the check that names it.

    Args:
        check: its name.
        number: among those of that check.
        tamper: what makes it.
        kind: of the golden run.
    """

    check: str
    number: int
    tamper: Callable[[Forged], None]
    kind: str = "record"

    def __str__(self) -> str:
        return f"{self.check}-{self.number}-{self.tamper.__name__.strip('<>')}"


TAMPERINGS = [
    *(
        Tampering(check, number, tamper)
        for zoo in (RECORDS, PROMISES, OUTCOMES)
        for check, tampers in zoo.items()
        for number, tamper in enumerate(tampers)
    ),
    *(
        Tampering(check, number, case.tamper, case.kind)
        for check, cases in COORDINATOR.items()
        for number, case in enumerate(cases)
    ),
    Tampering("sums-counted", 1, vectors_exchanged, "on"),
    Tampering("sums-vectors", 0, masked_for_another_attempt, "on"),
]
