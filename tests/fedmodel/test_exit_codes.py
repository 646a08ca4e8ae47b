"""Exit codes of errors: of a kind each, but where a full disk is behind them."""

import errno

import pytest

from fedmodel.errors import (
    FedmodelError,
    IdentityError,
    LedgerError,
    QuorumError,
    RunFolderError,
    UnavailableError,
    UsageError,
    exit_code,
)


def _because(error: FedmodelError, number: int) -> FedmodelError:
    error.__cause__ = OSError(number, "")
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError(), 2),
        (UnavailableError(), 3),
        (QuorumError(), 1),
        (IdentityError(), 1),
        (_because(RunFolderError(), errno.ENOSPC), 3),
        (_because(LedgerError(), errno.EDQUOT), 3),
        (_because(RunFolderError(), errno.EACCES), 1),
        (OSError(errno.ENOSPC, ""), 3),
        (OSError(errno.EIO, ""), 1),
    ],
)
def test_a_full_disk_may_pass_and_nothing_else_changes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_what_is_behind_what_is_behind_counts() -> None:
    error = RunFolderError()
    error.__cause__ = _because(RunFolderError(), errno.ENOSPC)
    assert exit_code(error) == 3
