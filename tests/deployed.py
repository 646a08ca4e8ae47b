"""A consortium as it is deployed: folders by ``provision``, sites by their own files, no network.

What carries the messages is a loopback grid in one process, with the seam of a network.
"""

import csv
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from clients.app import SiteApp
from clients.site import Site
from clients.site_file import SiteFile
from clients.start import start
from fedmodel import cli
from fedmodel.identity.home import PartyHome
from fedmodel.runs import Traffic
from server.exchange.hub import Hub, Listening
from simulations.loopback import LoopbackGrid

LABELS = "[fever,knee]"
EACH = 40  # rows of a site


def rows_of(site: int) -> list[tuple[str, str]]:
    """Return made-up rows: text and label."""
    return [
        (f"note {site}.{i}: {'fever and cough' if i % 3 else 'pain in the knee'}", _label(i))
        for i in range(EACH)
    ]


def _label(i: int) -> str:
    return "fever" if i % 3 else "knee"


def write_rows(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


@dataclass
class Deployed:
    """Folders of a consortium, its coordinator and its sites; and of their rows."""

    root: Path
    count: int = 3
    held_out: bool = False
    seen: list[Listening] = field(default_factory=list)
    away: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        asked = ["provision", "role=demo", f"home={self.state}", f"sites={self.count}"]
        assert cli.main(asked) == 0
        whole = []
        for number, name in enumerate(self.names, start=1):
            rows = rows_of(number)
            write_rows(self.root / f"{name}.csv", ["text", "label"], rows)
            whole += [(*row, name) for row in rows]
            own = self.root / f"{name}.csv"
            self.fill(name, "train: null  # file", f"train: {own}  # file")
            self.fill(name, "records: null", f"records: [{EACH // 2}, {EACH}]")
            self.fill(name, "epsilon: 20.0", "epsilon: null")
            if not self.held_out:
                self.fill(name, "held_out: true", "held_out: false")
        write_rows(self.root / "all.csv", ["text", "label", "site"], whole)
        write_rows(self.root / "test.csv", ["text", "label"], rows_of(0)[:20])

    @property
    def state(self) -> Path:
        """Folder of all parties' folders."""
        return self.root / "demo"

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.state / "coordinator"

    @property
    def names(self) -> list[str]:
        """The sites'."""
        width = len(str(self.count))
        return [f"site-{number:0{width}}" for number in range(1, self.count + 1)]

    def file(self, name: str) -> Path:
        """Return a site's own file."""
        return self.state / name / "site.yaml"

    def fill(self, name: str, before: str, after: str) -> None:
        """Change what a site's file says."""
        text = self.file(name).read_text()
        assert before in text, before
        self.file(name).write_text(text.replace(before, after))

    def sites(self) -> dict[int, Site]:
        """Return node → site, each started from its own file."""
        found = {}
        for name in self.names:
            roster = PartyHome(self.state / name).current_roster()
            site = start(SiteFile.read(self.file(name)), roster=roster)
            found[roster.number_of(name) + 1] = site
        return found

    @contextmanager
    def carry(self, listening: Listening) -> Iterator[Hub]:
        """Carry messages as a network would, within one process."""
        self.seen.append(listening)
        sites = self.sites()
        contexts = {n: Context(77, n, {}, RecordDict(), {}) for n in sites}
        app = SiteApp(lambda context: sites[context.node_id]).app
        here = [site.name for site in sites.values() if site.name not in self.away]
        yield _Hub(self.grid(app, contexts, Run.create_empty(77)), here)

    def grid(self, *parts: Any) -> Grid:
        """Return what carries them; a test may put another in its place."""
        return LoopbackGrid(*parts)


@dataclass
class _Hub:
    grid: Grid
    here: Sequence[str]
    port: int = 4711

    def present(self) -> Sequence[str]:
        return self.here

    def traffic(self) -> Traffic | None:
        crossed = getattr(self.grid, "traffic", None)
        return crossed and Traffic(bytes_up=crossed.up, bytes_down=crossed.down)


def lines(caplog_text: str) -> list[str]:
    """Return the lines of a log without their times."""
    return [line.split(" ", 1)[1] for line in caplog_text.splitlines() if " " in line]


logging.getLogger("flwr").setLevel(logging.ERROR)
