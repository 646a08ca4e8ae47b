"""Job, updates and protocol bytes ↔ Flower records. Everything from outside is checked here."""

from fedmodel.wire.buffers import packed, unpacked
from fedmodel.wire.failures import Failure, decode_error, encode_error, unexpected
from fedmodel.wire.hello import (
    HELLO,
    Hello,
    answer_hello,
    answered_hello,
    decode_hello,
    encode_hello,
)
from fedmodel.wire.offers import Offer, decode_offer, encode_offer
from fedmodel.wire.orders import (
    Leave,
    Order,
    decode_leave,
    decode_order,
    encode_leave,
    encode_order,
)
from fedmodel.wire.parcels import (
    LONGEST,
    add_parcel,
    parcel,
    update_from_bytes,
    update_size,
    update_to_bytes,
)
from fedmodel.wire.records import VERSION, Content, pack
from fedmodel.wire.replies import (
    checked_update,
    decode_counts,
    decode_standing,
    decode_update,
    encode_counts,
    encode_reply,
    encode_update,
)
from fedmodel.wire.shown import MOST_PROOFS, Shown, decode_seen, say_seen, show
from fedmodel.wire.signed import Instruction, sign_content, signed_by

__all__ = [
    "HELLO",
    "LONGEST",
    "MOST_PROOFS",
    "VERSION",
    "Content",
    "Failure",
    "Hello",
    "Instruction",
    "Leave",
    "Offer",
    "Order",
    "Shown",
    "add_parcel",
    "answer_hello",
    "answered_hello",
    "checked_update",
    "decode_counts",
    "decode_error",
    "decode_hello",
    "decode_leave",
    "decode_offer",
    "decode_order",
    "decode_seen",
    "decode_standing",
    "decode_update",
    "encode_counts",
    "encode_error",
    "encode_hello",
    "encode_leave",
    "encode_offer",
    "encode_order",
    "encode_reply",
    "encode_update",
    "pack",
    "packed",
    "parcel",
    "say_seen",
    "show",
    "sign_content",
    "signed_by",
    "unexpected",
    "unpacked",
    "update_from_bytes",
    "update_size",
    "update_to_bytes",
]
