"""What a desk shows: the jobs that were offered, one of them, and what was decided on it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.approvers import People
from clients.desk.approvals import Approvals, Status
from clients.desk.asked import Asked
from clients.desk.decision import Signed, lasts
from clients.desk.page import page_text
from fedmodel import config
from fedmodel._escape import escaped

__all__ = ["Shown"]

_SHORT = 60  # characters of a purpose in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a site's desk shows to its people.

    Args:
        desk: of the site.
        people: who may decide there.
        as_json: as JSON, not in words.
    """

    desk: Approvals
    people: People
    as_json: bool

    def jobs(self) -> None:
        """Show what was offered, the newest first."""
        rows = [self._row(asked, status) for asked, status in self.desk.overview()]
        if self.as_json:
            print(json.dumps({"schema": "fedmodel.jobs/1", "jobs": rows}, indent=2))
        elif rows:
            self._table(rows)
        else:
            print("no job has been offered")

    def one(self, asked: Asked, page: Mapping[str, Any]) -> None:
        """Show an offer: its page, where it stands, and who has said what of it."""
        status = self.desk.status(asked.run, asked.job_sha256)
        said = self.desk.decisions(asked.run, asked.job_sha256)
        if self.as_json:
            decided = [config.to_mapping(signed) for signed in said]
            whole = {"page": page, **self._row(asked, status), "decisions": decided}
            print(json.dumps(whole, indent=2))
            return
        print(page_text(page))
        print(f"\nstatus: {status}")
        self._print_missing(asked)
        for signed in said:
            print(escaped(self._told(signed)))

    def decided(
        self, asked: Asked, page: Mapping[str, Any], status: Status, *, whole: bool
    ) -> None:
        """Show what came of a decision.

        Args:
            asked: the offer.
            page: that was decided on.
            status: of the offer now.
            whole: the page in words, too.
        """
        expires = self._row(asked, status)["expires"]
        if self.as_json:
            told = {"run": asked.run, "status": status, "expires": expires, "page": page}
            print(json.dumps(told))
            return
        if whole:
            print(page_text(page))
            print()
        end = f" until {expires}" if status == "approved" else ""
        print(escaped(f"run {asked.run} is {status} here{end}"))
        self._print_missing(asked)

    def _print_missing(self, asked: Asked) -> None:
        """Show who has approved and who is missing; nothing where nobody is named."""
        if not self.people.all:
            return
        have, others, needed = self.people.standing(self.desk.approved_by(asked))
        line = f"approved by {', '.join(have) or 'nobody'}"
        more = f"; {needed} more needed, of {', '.join(others)}" if needed else ""
        print(escaped(line + more))

    def _row(self, asked: Asked, status: Status) -> dict[str, Any]:
        readable = status != "unreadable"
        approved = self.desk.approved_by(asked) if readable else set()
        have, others, missing = self.people.standing(approved)
        known = status == "approved"
        said = self.desk.decisions(asked.run, asked.job_sha256) if known else []
        # The first of them that ends, where all are needed.
        end = lasts(said, self.people.needed)
        return {
            "approved_by": have,
            "not_yet": others,
            "missing": missing if status == "waiting" else 0,
            "run": asked.run,
            "job": asked.job_sha256,
            "status": status,
            "offered": asked.since,
            "purpose": asked.purpose,
            "expires": None if end is None else end.isoformat(timespec="seconds"),
        }

    def _table(self, rows: list[dict[str, Any]]) -> None:
        from rich.table import Table

        from fedmodel.report.tables import cell
        from fedmodel.report.terminal import Terminal

        table = Table(title="jobs that were offered, the newest first")
        named = ("approved by",) if self.people.all else ()
        for name in ("run", "status", *named, "until", "offered", "job", "purpose"):
            table.add_column(name, overflow="fold")
        for row in rows:
            said = row["purpose"]
            short = said if len(said) <= _SHORT else f"{said[: _SHORT - 1]}…"
            times = [_minute(row[name]) for name in ("expires", "offered")]
            more = f"; {row['missing']} more needed" if row["missing"] else ""
            who = [f"{', '.join(row['approved_by']) or 'nobody'}{more}"] if named else []
            shown = (row["run"], row["status"], *who, *times, row["job"][:12])
            table.add_row(*map(cell, (*shown, short)))
        Terminal().print(table)

    def _told(self, signed: Signed) -> str:
        told = signed.decision
        end = f" until {told.expires}" if told.expires else ""
        why = f": {told.why}" if told.why else ""
        name = self.people.name_of(signed.key)
        who = f"key {signed.key[:16]}…" if name is None else f"{name}, key {signed.key[:16]}…"
        return f"  {told.at} {told.verdict}{end} by {who}{why}"


def _minute(moment: str | None) -> str:
    return "" if moment is None else f"{moment[:10]} {moment[11:16]} UTC"
