"""Names of runs: chosen by whoever starts one, told to every site, and safe to keep things under.

A name is a run's own: a folder's name with random digits, so that another run of the same folder's
name, or of the same job, is another run.
"""

import hashlib
import re

from fedmodel.errors import ConfigError
from fedmodel.seeds import Entropy

__all__ = ["LONGEST", "check_run", "is_called", "new_run", "run_folder_name"]

LONGEST = 160  # characters
_SUFFIX = len("-01234567")  # of a run's name: what tells it from others that are called so
_ROOM = LONGEST - _SUFFIX
_HASHED = 6  # digits of a hash that are taken for one
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def new_run(name: str, entropy: Entropy | None = None) -> str:
    """Return the name of a run that begins now.

    Args:
        name: what people call it; what no run's name may have in it is left out.
        entropy: draws eight digits.
    """
    plain = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)
    plain = plain.strip(" ").lstrip(" .")[:_ROOM]  # no other blank is printable
    return f"{plain or 'run'}-{(entropy or Entropy()).bytes(4).hex()}"


def check_run(run: str) -> str:
    """Return a run's name from outside, if it is one.

    Raises:
        ConfigError: when it is empty or too long, has a character that can't be printed or that
            separates folders, or begins with a dot or a blank.
    """
    fits = 0 < len(run) <= LONGEST and run.isprintable() and run == run.strip()
    if not fits or run[0] == "." or "/" in run or "\\" in run:
        raise ConfigError(
            f"a run's name has 1 to {LONGEST} printable characters, none of them / or \\, and "
            f"doesn't begin with a dot or a blank; got {run[:40]!r:.60}"
        )
    return run


def is_called(run: str, job: str, name: str) -> bool:
    """Return whether somebody who types a name may mean a run of a job.

    Args:
        run: its name.
        job: SHA-256 (hex) of its job.
        name: the run's, also without the digits at its end; six or more digits of the job's hash;
            or ``RUN/HASH`` with the first of them, which tells two jobs of one run apart.

    >>> is_called("demo-0123abcd", "5d1c9a30", "demo")
    True
    >>> is_called("demo-0123abcd", "5d1c9a30", "demo-0123abcd/5d")
    True
    """
    whole, _, digits = name.rpartition("/")
    if whole:  # no run has a / in its name
        return run == whole and bool(digits) and job.startswith(digits)
    hashed = len(name) >= _HASHED and job.startswith(name)
    return hashed or name in (run, run[:-_SUFFIX])


def run_folder_name(run: str) -> str:
    """Return the folder that a run's name means: itself, or a hash of it with some of its letters.

    Two names never share a folder, not even where case or accents make no difference to the disk.

    >>> run_folder_name("demo-0123abcd")
    'demo-0123abcd'
    >>> run_folder_name("Demo-0123abcd")[:24]
    'demo-0123abcd-d1d594e031'
    """
    if _PLAIN.fullmatch(run):
        return run
    # With its hash it is longer than any plain name, so it is none.
    plain = re.sub(r"[^a-z0-9_]+", "-", run.lower()).strip("-")[:40]
    return f"{plain or 'run'}-{hashlib.sha256(run.encode()).hexdigest()}"
