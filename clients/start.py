"""Start of a site from its own file: its rows are read, and held against what it declares."""

import logging
import re
from dataclasses import fields

from clients.assemble import SiteConfig, make_site, open_state
from clients.declared import Declared, Mismatch
from clients.site import Site
from clients.site_file import SiteFile
from fedmodel import tasks
from fedmodel.data import Rows, Source, hold_out_everywhere, load
from fedmodel.errors import DataError
from fedmodel.identity import Roster
from fedmodel.seeds import Entropy, Seed
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["check_numbers", "read_rows", "start"]

logger = logging.getLogger(__name__)

# No part of a file's name: data.train.csv is none.
_KEY = re.compile(
    rf"(?<![\w./-])data\.({'|'.join(each.name for each in fields(Source))})\b(?!\.\w)"
)


def start(
    file: SiteFile,
    *,
    roster: Roster | None = None,
    passphrase: bytes | None = None,
    entropy: Entropy | None = None,
    watch: Watch = UNWATCHED,
) -> Site:
    """Return a site, ready for any run.

    Args:
        file: the hospital's own.
        roster: who may take part.
        passphrase: that the site's keys are sealed under.
        entropy: real randomness for sampling, noise and keys.
        watch: who is told how far the reading is.

    Raises:
        ConfigError: for a file that doesn't say where the rows are.
        DataError: for rows that can't be read, that are more than the site declares, or that are
            part of another dataset of the site.
        LedgerError: when the site's key can't be read or written.
    """
    declared = file.own_numbers()
    rows, test = read_rows(file, watch)
    check_numbers(file.name, declared, rows, test)
    config = SiteConfig(
        name=file.name,
        declared=declared,
        home=file.state,
        dataset=file.dataset,
        policy=file.policy,
        performance=file.performance,
    )
    state = open_state(config, entropy, passphrase)
    site = make_site(config, state, rows, test, roster=roster, entropy=entropy)
    # A joining asks this too, and what it says there others hear.
    state.check_rows(file.dataset, *site.columns())
    return site


def read_rows(file: SiteFile, watch: Watch = UNWATCHED) -> tuple[Rows, Rows | None]:
    """Return a site's training rows, and those that it has held out.

    Which are held out follows from each row's text (or patient) alone, and is the same in all runs.

    Args:
        file: the hospital's own.
        watch: who is told how far the reading is.

    Raises:
        ConfigError: for a file that doesn't say where the rows are.
        DataError: for rows that can't be read.
    """
    try:
        return _rows(file, watch)
    except DataError as error:
        raise DataError(f"{error}{_in_the_file(str(error))}") from error


def _rows(file: SiteFile, watch: Watch) -> tuple[Rows, Rows | None]:
    source, seed = file.source(), Seed(0).child("site")
    tables = load(source, seed, 1, tasks.of(file.task), watch, partial=True)
    if tables.test is not None or not source.holds_out:
        return tables.train, tables.test
    if file.declared is not None and not file.declared.held_out:
        return tables.train, None
    drawn = hold_out_everywhere(
        {file.name: tables.train}, source.test_fraction, seed, source.train_only, each_trains=False
    )
    return drawn.train[file.name], drawn.test[file.name]


def _in_the_file(message: str) -> str:
    """Return where the keys stand in site.yaml that a message names as a command line has them."""
    named = dict.fromkeys(key[1] for key in _KEY.finditer(message))
    if not named:
        return ""
    return f" (in site.yaml: {' and '.join(f'{name}:' for name in named)} below data:)"


def check_numbers(name: str, declared: Declared, rows: Rows, test: Rows | None) -> list[Mismatch]:
    """Hold a site's rows against what it declares; its operator is told what isn't so.

    Args:
        name: of the site.
        declared: what it says of its rows.
        rows: to train on.
        test: held out from them.

    Returns:
        What isn't so, and may stay.

    Raises:
        DataError: for what may not: a promise hangs on it.
    """
    found = list(declared.mismatches(rows, test))
    for each in found:
        logger.warning("site %s: %s; correct what is declared, or the rows", name, each)
    if grave := [each for each in found if each.grave]:
        raise DataError(
            f"site '{name}': {grave[0]}. With more than is declared a promise could be "
            "broken (δ is held against it), so the site takes part in nothing; correct what "
            "is declared in its site.yaml, or the rows"
        )
    return found
