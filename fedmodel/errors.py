"""Errors that fedmodel raises on purpose, all of them.

::

    FedmodelError                  anything below; ``exit_code`` is what the command line returns
    ├── UsageError          (2)    fix the command or the configuration
    │   ├── ConfigError            a key, a choice or a value in the configuration
    │   ├── DataError              a file, a column or a row of the data
    │   ├── ModelError             a model that is missing, unknown or unsuitable
    │   ├── EvidenceError          what is to be verified: a folder or file that can't be read
    │   └── MissingExtraError      an optional package that isn't installed
    ├── UnavailableError    (3)    somebody can't be reached now; nothing need be changed: try again
    └── RunError            (1)    the job was understood, but failed or was refused
        ├── RefusedError           a site's own rules said no
        │   ├── UnapprovedError    … because its people haven't said yes to the run, so far
        │   ├── BudgetError        … because its privacy budget doesn't cover it
        │   └── FloorError         … because too few sites would be in a secure sum
        ├── PrivacyError           a guard found that a privacy promise would not hold
        ├── ProtocolError          a message from another party isn't what the protocol says
        │   ├── UnsignedError      … its sender hasn't signed it, or for something else
        │   ├── UnjoinedError      … it is for a process of a site that has joined, and this hasn't
        │   ├── ReplayError        … it belongs to a round or a stage that is over
        │   ├── AccusationError    … what another site has sent can't be used
        │   └── EquivocationError  … it contradicts what was said before, or to others
        ├── IdentityError          a secret, request, certificate or roster can't be relied on
        │   ├── SignerError            … another key has signed it than the one that is trusted
        │   ├── PossessionError        … whoever asks doesn't show that he holds the key
        │   ├── PurposeError           … it is for another purpose, party or name
        │   ├── ExpiredError           … its time is over, or hasn't begun
        │   ├── RevokedError           … the consortium has taken it back
        │   └── OutdatedError          … a newer one of it was seen before
        ├── DivergedError          training led to numbers that aren't finite
        ├── RangeError             an update has a number that a secure sum has no room for
        ├── QuorumError            too few sites answered
        └── RunFolderError         a run folder that can't be read, written or resumed
            ├── RunNameError       … that isn't there, or is there already: exit code 2
            └── LedgerError        … a site's ledger, or what stands beside it
                └── RollbackError  … that is older than one that somebody has seen

One class for each fix the user can make. Messages say what was expected, what came and what to do;
they never contain text from a data row (they give its number instead). What another party, a file
or a row has put into one is escaped as the error is made, whoever shows it.
"""

import errno

from fedmodel._escape import escaped


class FedmodelError(Exception):
    """Base of all errors that fedmodel raises on purpose.

    ``rule`` is the rule of a site's policy that said no, with what was asked and what is allowed:
    for its operator, never for the coordinator. ``told`` are the words that may travel in place of
    the error's own, where those have figures of a site's ledger.
    """

    exit_code = 1
    rule: str | None = None
    told: str | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(escaped(message))


class UsageError(FedmodelError):
    """The command, the configuration or an input must be changed by the user."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key, choice or value isn't usable."""


class DataError(UsageError):
    """A data file, column or row isn't usable."""


class ModelError(UsageError):
    """A model can't be found or isn't suitable for the job."""


class EvidenceError(UsageError):
    """What is to be verified isn't there, can't be read, or is of a version that isn't known."""


class MissingExtraError(UsageError):
    """An optional package is needed that isn't installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional package that isn't installed; "
            f"run: pip install 'fedmodel[{extra}]'"
        )


class UnavailableError(FedmodelError):
    """Another party, or something of this machine, isn't there now: worth trying again later."""

    exit_code = 3


def exit_code(error: BaseException) -> int:
    """Return the exit code of a process of the network that an error has ended.

    A disk that was full changes it to :class:`UnavailableError`'s: with room on it, the same
    command goes on.

    Args:
        error: that nobody else takes.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return UnavailableError.exit_code
        cause = cause.__cause__
    return error.exit_code if isinstance(error, FedmodelError) else RunError.exit_code


class RunError(FedmodelError):
    """The job was understood but failed."""


class RefusedError(RunError):
    """A site's own rules refuse what was asked of it."""


class UnapprovedError(RefusedError):
    """A site's people haven't approved the run yet, and may do so."""


class BudgetError(RefusedError):
    """A site's privacy budget doesn't cover what was asked of it."""


class FloorError(RefusedError):
    """A site's own floors for secure sums are above what was asked of it."""


class PrivacyError(RunError):
    """A guard found that a privacy promise would not hold."""


class ProtocolError(RunError):
    """A message from another party isn't what the protocol says."""


class UnsignedError(ProtocolError):
    """An offer or order isn't signed by the coordinator, for this site and what it is sent for."""


class NewerRosterError(UnsignedError):
    """A run goes by an older roster than the site has: its coordinator takes the newest over."""


class UnjoinedError(ProtocolError):
    """A message is for a process of a site that has joined the run, and this one hasn't."""


class ReplayError(ProtocolError):
    """A message belongs to a round, an attempt or a stage that is over, or was answered before."""


class EquivocationError(ProtocolError):
    """A message contradicts another: one party says different things, or to different parties."""


class AccusationError(ProtocolError):
    """What another site has sent can't be used: one of the two is wrong.

    Args:
        accused: the other's number in the roster.
        why: what can't be used.
    """

    def __init__(self, accused: int, why: str) -> None:
        super().__init__(f"the shares from site {accused}: {why}")
        self.accused = accused


class IdentityError(RunError):
    """A secret, a request, a certificate or a roster can't be relied on."""


class SignerError(IdentityError):
    """Another key has signed it than the one that is trusted."""


class PossessionError(IdentityError):
    """Whoever asks doesn't show that he holds the private key of what he asks for."""


class PurposeError(IdentityError):
    """It is for another purpose, party or name."""


class ExpiredError(IdentityError):
    """Its time is over, or hasn't begun."""


class RevokedError(IdentityError):
    """The consortium has taken it back."""


class OutdatedError(IdentityError):
    """A newer one of it was seen before: this one is an old copy."""


class DivergedError(RunError):
    """Training led to parameters or a loss that aren't finite."""


class RangeError(RunError):
    """An update has a number that is beyond the range of a secure sum, or isn't finite."""


class QuorumError(RunError):
    """Too few sites answered in a round.

    ``passing``: some of them were away, and may come again. ``unapproved``: so many of them wait
    for the word of their people. ``ahead``: so many of them have a newer roster than the run's.
    ``attainable``: with all of these there would be enough, so that the same may be tried again.
    """

    passing: bool = False
    unapproved: int = 0
    ahead: int = 0
    attainable: bool = False


class RunFolderError(RunError):
    """A run folder can't be read, written or resumed."""


class RunNameError(RunFolderError):
    """A run folder isn't there where it is named, or is taken where a new one was to be made.

    To whoever reads folders it is one that can't be read; on the command line it is wrong input.
    """

    exit_code = 2


class LedgerError(RunFolderError):
    """A site's ledger, or its key, salt or heads, can't be read or written, or isn't valid."""


class RollbackError(LedgerError):
    """A site's ledger lacks entries that it once had: an old copy, or one that was rewritten."""
