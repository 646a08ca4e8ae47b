"""A site in a process of its own, spoken to in Protocol Buffers over its standard streams.

Frames are a length (8 bytes, big-endian) and so many bytes; an empty one asks for the site's
report, which is the last thing that it says.
"""

import json
import pickle
import sys
from pathlib import Path
from typing import IO, Any

from flwr.app import Context, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.task_identity import TaskIdentity

from clients.app import SiteApp
from clients.assemble import SiteConfig, make_site, open_state
from clients.declared import Declared
from clients.policy import Policy
from clients.report import report_of
from fedmodel import config
from fedmodel.data import Rows
from fedmodel.identity.signed_roster import read_roster
from fedmodel.job import Job, Performance

__all__ = ["main", "read_frame", "write_frame"]


def write_frame(stream: IO[bytes], data: bytes) -> None:
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    size = int.from_bytes(stream.read(8), "big")
    return stream.read(size)


def _pickled(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was pickled")


def main(file: str) -> None:
    """Be the site that a JSON file describes, until it has reported."""
    given: dict[str, Any] = json.loads(Path(file).read_text())
    rows = Rows(tuple(given["texts"]), tuple(given["labels"]))
    site_config = SiteConfig(
        name=given["name"],
        declared=Declared.of(rows),
        home=Path(given["home"]),
        policy=Policy(approval="auto"),
        performance=Performance(device="cpu"),
    )
    roster = None if given["roster"] is None else read_roster(given["roster"].encode())
    site = make_site(
        site_config,
        open_state(site_config),
        rows,
        None,
        roster=roster,
    )
    for name in ("dumps", "loads", "dump", "load"):
        setattr(pickle, name, _pickled)
    app, (run, node) = SiteApp(lambda context: site), given["key"]
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run, 1, node
    while frame := read_frame(sys.stdin.buffer):
        message = message_from_proto(ProtoMessage.FromString(frame))
        reply = app.app(message, Context(run, node, {}, RecordDict(), {}))
        write_frame(sys.stdout.buffer, message_to_proto(reply).SerializeToString())
    report = report_of(
        site, given["run"], Job.from_json(given["job"].encode()), app.work(run, node)
    )
    told = {
        "site": report.site,
        "refusal": report.work.refusal,
        "seconds": report.work.seconds,
        "epsilon": None if report.ledger is None else report.ledger.epsilon,
        "steps": None if report.ledger is None else report.ledger.steps,
    }
    write_frame(sys.stdout.buffer, config.canonical(told))
