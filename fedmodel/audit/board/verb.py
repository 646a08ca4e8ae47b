"""The verb ``report``: what a run's records say, for people who decide on its model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedmodel import _files, config
from fedmodel._escape import escaped
from fedmodel.audit import collector
from fedmodel.audit.board.asked import Terms
from fedmodel.audit.board.report import Report, report_of
from fedmodel.audit.board.sacro import sacro_files, tables
from fedmodel.audit.board.signed import STATEMENT, statement_of
from fedmodel.audit.bundles.signing import Who, named, signer_of
from fedmodel.audit.verb import Source, records_of
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import ConfigError, MissingExtraError, RunFolderError, UnavailableError
from fedmodel.identity.names import grouped
from fedmodel.identity.validity import utc_now

__all__ = ["main"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Source, Who):
    """What is asked.

    Args:
        to: folder to write.
        format: ``board``, or ``sacro`` for the viewer of UK safe settings.
        recipients: see :class:`fedmodel.audit.board.asked.Terms`.
        until: likewise.
        contact: likewise.
    """

    to: str | None = None
    format: Literal["board", "sacro"] = "board"
    recipients: str | None = None
    until: str | None = None
    contact: str | None = None

    def __post_init__(self) -> None:
        Who.__post_init__(self)
        if self.to is None:
            raise ConfigError("report needs to=<a folder to write>")

    @property
    def signs(self) -> bool:
        """Whether anybody is to sign it."""
        return self.home is not None or self.signer is not None


@collector.paused(verb=True)
def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Write the report on a run.

    Args:
        mapping: the composed configuration.
        given: unused.

    Returns:
        The exit code: 0, or 1 where a check fails.

    Raises:
        ConfigError: for a missing or wrong value.
        LedgerError: for a key that can't be read.
        IdentityError: for one that doesn't open.
        EvidenceError: for what no report can be made of.
        MissingExtraError: when the packages for it aren't installed.
        RunFolderError: when the folder can't be written.
    """
    ask = config.build(Ask, named(mapping))
    terms = Terms(recipients=ask.recipients, until=ask.until, contact=ask.contact)
    now = utc_now()
    terms.check_still_good(now.date())
    to = Path(str(ask.to)).expanduser()
    _check_free(to)
    signer, key = signer_of(ask, to) if ask.signs else (None, None)
    records = records_of(ask, "report")
    findings = verify(records)
    made = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    report = report_of(findings, records, terms=terms, made=made, signer=signer)
    files, left_out = _made(report)
    if ask.format == "sacro":
        files |= tables(report)
    if key is not None:
        files[STATEMENT] = statement_of(report.to_mapping(), files, key)
    if ask.format == "sacro":
        files = sacro_files(report, files)
    _write(to, files)
    if left_out is not None:
        print(escaped(f"report.pdf was left out, and report.html prints as well: {left_out}"))
    print(escaped(f"{report.advice.advice}: {report.advice.reason}"))
    print(escaped(f"written to {to}: {', '.join(name for name in files if '/' not in name)}"))
    if signer is not None:
        print(f"fingerprint of the key that signed it: {grouped(signer.fingerprint)}")
        print("read it out to whoever verifies it: fedmodel verify report=… signer=…")
    return 1 if findings.count(Verdict.FAIL) else 0


def _made(report: Report) -> tuple[dict[str, bytes], str | None]:
    """Return the report's files, and why there is no PDF among them."""
    from fedmodel.audit.board.page import report_page, report_pdf

    text = json.dumps(report.to_mapping(), indent=2, ensure_ascii=False, allow_nan=False)
    files = {"report.html": report_page(report).encode(), "report.json": text.encode() + b"\n"}
    try:
        return files | {"report.pdf": report_pdf(report)}, None
    except (MissingExtraError, UnavailableError) as error:
        return files, str(error)


def _check_free(to: Path) -> None:
    """Check, before minutes may go by, that a folder can be written.

    Raises:
        ConfigError: when it is there, and not empty.
    """
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ConfigError(f"{to} is there already; give to= a folder that isn't, or is empty")


def _write(to: Path, files: Mapping[str, bytes]) -> None:
    try:
        _files.make_folder(to.parent)
        with _files.staged(to, 0o777) as folder:
            for name, text in files.items():
                _files.make_folder((folder / name).parent)
                _files.write_atomic(folder / name, text, durable=False)
    except OSError as error:
        why = f"can't write {to}: {error.strerror}; nothing is left of it"
        raise RunFolderError(why) from error
