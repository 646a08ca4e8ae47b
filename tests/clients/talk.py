"""A coordinator's side of talking to one site through its real Flower app."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from clients.app import SiteApp
from clients.declared import Declared
from clients.policy import Policy
from clients.site import Site
from clients.site_run import SiteRun
from fedmodel import wire
from fedmodel.data import Rows
from fedmodel.job import Job
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.training.learner import Learner, resident
from fedmodel.wire import Offer
from tests.jobs import CPU
from tests.watching import Noted

__all__ = ["NODE", "RUN", "Speaker", "make_site"]

RUN, NODE = 77, 5


def make_site(folder: Path, rows: Rows, **values: Any) -> Site:
    """Return a site whose files lie below a folder; its policy is made of what one has."""
    own = ("caps", "floors", "limits")
    policy: Any = {name: values.pop(name) for name in own if name in values}
    policy["approval"] = values.pop("approval", "auto")
    name = values.pop("name", "north")
    parts: dict[str, Any] = {
        "name": name,
        "rows": rows,
        "state": SiteState(folder / "home", name),
        "ledger_path": folder / "ledger" / f"{name}.jsonl",
        "performance": CPU,
        "policy": Policy(**policy),
        "declared": Declared.of(rows, values.get("test")),
    }
    return Site(**parts | values)


class Speaker:
    """Says things to a site, as a coordinator would."""

    def __init__(self, site: Site, job: Job, run: str = "test") -> None:
        self.site = site
        self.run_name = run
        self.job = job
        self.on_step: Callable[[], None] = lambda: None
        self.restart()

    def restart(self, **changed: Any) -> None:
        """Speak to a new process of the site, perhaps one in which something is different."""
        if "test" in changed:
            changed.setdefault("declared", Declared.of(self.site.rows, changed["test"]))
        self.site = replace(self.site, **changed)
        site = self.site
        self.app = SiteApp(lambda context: site, Noted(lambda: self.on_step()))

    @property
    def run(self) -> SiteRun:
        """The site's part in the run that it has joined."""
        run = self.app._nodes[RUN, NODE].run
        assert run is not None
        return run

    def send(self, kind: str, content: RecordDict, /) -> Message:
        message = Message(content, NODE, kind)
        message.metadata.__dict__["_message_id"] = "m"
        return self.app.app(message, Context(RUN, NODE, {}, RecordDict(), {}))

    def join(self, job: Job, *known: TreeHead, joining: str = "", run: str = "") -> Message:
        self.job = job
        offer = Offer(
            run=run or self.run_name, job=job, performance=CPU, tree_heads=known, joining=joining
        )
        return self.send("query.join", wire.encode_offer(offer))

    @property
    def kept(self) -> Path:
        """Folder of what the site keeps of the run from round to round."""
        return self.site.state.run_folder(self.run_name)

    @property
    def learner(self) -> Learner:
        return resident(self.job, CPU)

    def spent(self) -> int:
        ledger = self.site.ledger_file
        return sum(s.steps for s in Ledger(ledger).spends()) if ledger.exists() else 0

    def repeated(self) -> int:
        """Return how many attempts the ledger has that cost nothing."""
        return sum(entry.type == "repeat" for entry in Ledger(self.site.ledger_file).entries())
