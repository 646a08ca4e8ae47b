"""The verb's way from what is asked to whose part it is."""

from collections.abc import Callable, Sequence
from typing import Any

from fedmodel.provision.ask import Ask, Role
from fedmodel.provision.consortium import provision_consortium
from fedmodel.provision.demo import provision_demo
from fedmodel.provision.party import provision_party

__all__ = ["main"]

_PARTS: dict[Role, Callable[[Ask], int]] = {
    "site": provision_party,
    "coordinator": provision_party,
    "consortium": provision_consortium,
    "demo": provision_demo,
}


def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Do one party's part.

    Args:
        mapping: the composed configuration.
        given: keys that stood on the command line.

    Returns:
        The exit code.

    Raises:
        FedmodelError: for a missing or wrong value, for what can't be relied on, and where somebody
            must confirm a fingerprint first.
    """
    ask = Ask.of(mapping, given)
    return _PARTS[ask.role](ask)
