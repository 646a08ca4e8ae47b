"""Contents of messages: all that the project sends, and those whose bytes a golden file keeps.

``python -m tests.fedmodel.contents`` writes the golden file of today's format. Do that only while
no release has it: afterwards another format has another version, and another file.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedmodel import wire
from fedmodel.errors import AccusationError, BudgetError
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from fedmodel.wire.arrays import flat_array
from fedmodel.wire.buffers import packed
from tests.fedmodel.test_signed import COORDINATOR, HELLO, MEANT, SITE, order
from tests.fedmodel.test_wire_heads import HEAD, STANDING
from tests.jobs import make_job

__all__ = ["GOLDEN", "golden", "joined", "sent"]

GOLDEN = Path(__file__).parents[1] / "vectors" / "content_v1.json"
VECTOR = np.arange(-3, 8, dtype=np.float32)


def joined(content: RecordDict | Error) -> bytes:
    """Return a content's payload."""
    return b"".join(packed(content))


def sent() -> dict[str, RecordDict | Error]:
    """Return a content of every kind that the project sends, by what makes it."""
    job = make_job()
    asked = Message(RecordDict(), 2, "train")
    asked.metadata.__dict__["_message_id"] = "m2"
    update = Update.of(VECTOR, 17.0, {"train_loss": 0.1})
    parcels = wire.add_parcel(wire.encode_reply(STANDING), "secagg", b"shares")
    return {
        "encode_hello": wire.encode_hello(HELLO),
        "answer_hello": wire.answer_hello(HELLO, 1, 2**64 - 1, SITE.sign),
        "encode_offer": wire.encode_offer(
            wire.Offer(run="test", job=job, tree_heads=(HEAD,) * 1000, purpose="ü☃" * 900)
        ),
        "encode_order": wire.encode_order("test", 3, job.sha256, wire.pack(VECTOR), 7),
        "sign_content": order(),
        "sign_content of a greeting": wire.sign_content(
            wire.encode_hello(HELLO), replace(MEANT, kind=wire.HELLO), COORDINATOR.sign
        ),
        "encode_leave": wire.encode_leave(wire.Leave(run="test", job_sha256="", failed=True)),
        "encode_reply": wire.encode_reply(STANDING),
        "encode_reply of nobody": wire.encode_reply(),
        "encode_update": wire.encode_update(update, STANDING),
        "encode_update of nothing": wire.encode_update(Update.of(np.zeros(0, np.float32))),
        "encode_counts": wire.encode_counts(Counts(values=(17, -3, 10**12, *range(5000)))),
        "add_parcel": wire.add_parcel(parcels, "masked", np.arange(255, dtype=np.uint8)),
        "encode_error": wire.encode_error(BudgetError("ε is spent"), asked).error,
        "encode_error of another": wire.encode_error(AccusationError(3, "no share"), asked).error,
        "no records": RecordDict(),
    }


def golden() -> dict[str, RecordDict | Error]:
    """Return what the golden file keeps, by name. No version's own texts are in it."""
    values: dict[str, Any] = {
        "yes": True,
        "no": False,
        "least": -(2**63),
        "largest": 2**64 - 1,
        "zero": 0,
        "minus-zero": -0.0,
        "tenth": 0.1,
        "smallest": 5e-324,
        "inf": float("inf"),
        "-inf": float("-inf"),
        "text": 'ü☃😀 "\\\n\x00\x7f',
        "empty": "",
        "256": "a" * 256,
        "257": "a" * 257,
        "bytes": bytes(range(256)),
        "bytes.257": bytes(257),
        "list": [],
        "bools": [True, False],
        "ints": [1, -2, 3],
        "floats": [0.5, -1e300],
        "texts": ["", "é" * 200],
        "of-bytes": [b"", b"\xff", b"\x01" * 300],
    }
    arrays = {
        "vector": flat_array(np.linspace(-1, 1, 21, dtype="<f4").data, "float32"),
        "parcel": flat_array(b"fedmodel", "uint8"),
        "other": Array("bfloat16", (2, 3), "another.format", b"\x00\x01\x02"),
        "none": Array("float32", (0,), "numpy.ndarray", b""),
    }
    return {
        "nothing": RecordDict(),
        "config": RecordDict({"config": ConfigRecord(values)}),
        "metrics": RecordDict({"metrics": MetricRecord({"weight": 1.5, "counts": [3, -(2**63)]})}),
        "arrays": RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord({"v": "x"})}),
        "error": Error(201, "BudgetError: ε"),
        "error-without-reason": Error(-1),
    }


def main() -> None:
    """Write the golden file of today's format."""
    whole = {
        "about": "Payloads of the format fedmodel.content/1, in hex, of the contents in "
        "tests/fedmodel/contents.py.",
        "payloads": {name: joined(content).hex() for name, content in golden().items()},
    }
    GOLDEN.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
