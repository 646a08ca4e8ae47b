"""What bytes from outside cost before they are refused, measured: memory, and what stays of it."""

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from fedmodel import _hazmat, config, wire
from fedmodel.errors import ConfigError, FedmodelError, ProtocolError
from fedmodel.identity import Member, Roster
from fedmodel.job import Job
from fedmodel.ledger import lines
from fedmodel.secagg import messages
from fedmodel.secagg.fields import check_hex
from fedmodel.secagg.messages import decode, encode, largest
from tests.fedmodel.secagg.test_fuzz import Entry, entries, fork
from tests.jobs import make_job

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

SITES = 50  # in the roster; four of them are in the round
BEYOND = 1 << 24
# What a parser in pure Python makes of a byte at most: an empty object of three bytes takes 72.
EACH, OWN = 64, 1 << 17

PADDINGS: dict[str, Callable[[int], str]] = {
    "hex": lambda n: '"' + "0" * n + '"',
    "wide": lambda n: '"\U0001f600' + "0" * n + '"',
    "escapes": lambda n: '"' + "\\u0001" * (n // 6) + '"',
    "digits": lambda n: "9" * n,
    "numbers": lambda n: "[" + "1," * (n // 2) + "1]",
    "floats": lambda n: "[" + "1.5," * (n // 4) + "1]",
    "objects": lambda n: "[" + "{}," * (n // 3) + "{}]",
    "lists": lambda n: "[" + "[]," * (n // 3) + "[]]",
    "names": lambda n: "{" + ",".join(f'"{i}":0' for i in range(n // 9)) + "}",
    "one name": lambda n: '{"' + "a" * n + '":0}',
    "depth": lambda n: "[" * n,
    "nothing": lambda n: " " * n,
}


class Measured:
    """What a block took at most, and what it left, in bytes."""

    peak = 0
    kept = 0


@pytest.fixture(scope="module")
def measure() -> Iterator[Callable[[Callable[[], object]], Measured]]:
    """Return what runs something that is refused, and says what that took."""

    def run(what: Callable[[], object]) -> Measured:
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found = Measured()
        with pytest.raises(FedmodelError):
            what()
        found.peak = tracemalloc.get_traced_memory()[1] - before
        gc.collect()
        found.kept = tracemalloc.get_traced_memory()[0] - before
        return found

    gc.collect()
    gc.freeze()  # what other tests have imported needn't be looked through each time
    tracemalloc.start()
    yield run
    tracemalloc.stop()
    gc.unfreeze()


@pytest.fixture(scope="module")
def ways(worlds: "type[World]") -> dict[str, Entry]:
    return entries(worlds, extra=SITES - 4)


WAYS = {
    "take_advert": messages.Advert,
    "open": messages.Open,
    "take_shares": messages.Shares,
    "deliver": messages.Deliver,
    "take_upload": messages.Upload,
    "consent": messages.Survivors,
    "take_consent": messages.Consent,
    "reveal": messages.Request,
    "take_reveal": messages.Reveal,
}


def padded(good: bytes, padding: str, size: int) -> bytes:
    """Return a message of a size, one field of which is filled up."""
    name, text = good.split(b"\n", 1)
    body: dict[str, Any] = json.loads(text)
    field = next(iter(body))
    rest = json.dumps({k: v for k, v in body.items() if k != field}).encode()[1:]
    head = name + b'\n{"' + field.encode() + b'":'
    made = PADDINGS[padding](max(0, size - len(head) - len(rest) - 12)).encode()
    return head + made + b"," + rest


def test_every_kind_of_message_is_measured(ways: dict[str, Entry]) -> None:
    assert set(WAYS) == set(ways)
    assert set(WAYS.values()) == {kind for kind, _, _, _ in messages._KINDS}


@pytest.mark.sample(3)
@pytest.mark.parametrize("way", WAYS)
def test_a_message_up_to_its_limit_takes_a_small_multiple_of_it(
    ways: dict[str, Entry], measure: Any, way: str
) -> None:
    entry, machine = ways[way], fork(ways[way].machine)
    most = largest(entry.kind, SITES)
    for padding in PADDINGS:
        data = padded(entry.good, padding, most)
        assert len(data) <= most
        found = measure(lambda data=data: entry.take(machine, data))
        assert found.peak < EACH * most + OWN, padding
        assert found.kept < OWN, padding


@pytest.mark.sample(3)
@pytest.mark.parametrize("way", WAYS)
def test_a_message_beyond_its_limit_takes_nothing(
    ways: dict[str, Entry], measure: Any, way: str
) -> None:
    entry = ways[way]
    data = padded(entry.good, "objects", BEYOND)
    assert len(data) > BEYOND // 2
    found = measure(lambda: entry.take(entry.machine, data))
    assert found.peak < OWN
    assert found.kept < OWN


@pytest.mark.long
def test_the_largest_honest_messages_are_within_their_limits() -> None:
    """As many sites as a roster can have numbers for, and every number at its longest."""
    sites = 100
    members = tuple(range(65536 - sites, 65536))
    key, name, signature = "a" * 64, "b" * 64, "c" * 128
    ids: dict[str, Any] = {"session": name, "job": name, "roster": name}
    manifest = messages.Manifest(
        version="fedmodel.secagg/2", **ids, round=2**53 - 1, attempt=2**53 - 1, model=name,
        cohort=members, keys=(key,) * sites, survivors=sites, colluders=sites, threshold=sites,
        bits=32, count=2**53 - 1, signature=signature,
    )  # fmt: skip
    adverts = tuple(
        messages.Advert(**ids, member=n, key=key, closed=2**31 - 1, signature=signature)
        for n in members
    )
    boxes = tuple(messages.Sealed(member=n, box="d" * 2 * 94) for n in members)
    consents = tuple(messages.Consent(member=n, signature=signature) for n in members)
    pledges = tuple(messages.Pledge(member=n, vector=name, signature=signature) for n in members)
    shares = tuple(messages.Share(owner=n, share="00" + "e" * 64) for n in members)
    made: list[object] = [
        adverts[0],
        messages.Open(manifest=manifest, adverts=adverts),
        messages.Shares(
            manifest=name, member=65535, boxes=boxes, recovery="f" * 2 * (28 + 32 * sites),
            pairs="9" * 64 * sites,
            self_commitment=name, recovery_commitment=name, signature=signature,
        ),
        messages.Deliver(manifest=name, takers=members, boxes=boxes),
        messages.Survivors(manifest=name, takers=members, survivors=members),
        messages.Upload(manifest=name, member=65535, vector=name, signature=signature),
        consents[0],
        messages.Request(manifest=name, consents=consents, pledges=pledges),
        messages.Reveal(manifest=name, member=65535, self_seeds=shares, recovery_keys=()),
    ]  # fmt: skip
    for message in made:
        data = encode(message)
        assert len(data) <= largest(type(message), sites)
        decode(type(message), data, sites)


def test_sizes_come_before_signatures(
    world: "World", measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that signs a large box is refused for its size, without a look at the signature."""
    attempt = world.begin()
    shares = decode(messages.Shares, world.sites[5].open(attempt.open_for(5)))
    large = replace(shares, recovery="00" * 200)
    signed = replace(large, signature=world.signers[5](large.signed()).hex())

    def never(*_: object) -> None:
        raise AssertionError("a signature was verified")

    monkeypatch.setattr("fedmodel.secagg.aggregator.verify", never)
    with pytest.raises(ProtocolError, match="isn't of the right size"):
        attempt.take_shares(5, encode(signed))
    monkeypatch.undo()
    attempt.take_shares(5, encode(shares))


def test_what_has_verified_is_remembered_by_its_hash(measure: Any) -> None:
    public, sign = _hazmat.ed25519(bytes(32))
    large = bytes(1 << 22)
    signature = sign(large)

    def verify() -> None:
        _hazmat.ed25519_verify(public, large, signature)
        raise ProtocolError("done")

    found = measure(verify)
    assert found.kept < 1 << 12
    for change in (b"x", b""):
        with pytest.raises(ProtocolError, match="doesn't verify"):
            _hazmat.ed25519_verify(public, large[:-1] + change, signature)


def test_few_signatures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hazmat._Verified, "MOST", 3)
    public, sign = _hazmat.ed25519(bytes(32))
    for number in range(8):
        _hazmat.ed25519_verify(public, bytes([number]), sign(bytes([number])))
        assert len(_hazmat.verified._names) <= 3


def test_hex_is_read_without_a_record_of_each_digit(measure: Any) -> None:
    long = "0" * (1 << 20)
    for text, digits in ((long + "gg", None), ("0g" + long, None), (long, 64)):
        found = measure(lambda text=text, digits=digits: check_hex("x", text, digits))
        assert found.peak < 1 << 16


# -- what travels in records ---------------------------------------------------------------------


def header(shape: str, descr: str = "|u1") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(2, 536870912)", "(0, 5)", "(-4, -4)"])
def test_an_array_is_not_given_the_room_that_it_asks_for(measure: Any, shape: str) -> None:
    for kind, descr in (("uint8", "|u1"), ("float32", "<f4")):
        array = Array(kind, (16,), "numpy.ndarray", header(shape, descr) + bytes(16))
        content = RecordDict({"parcels": ArrayRecord({"x": array})})
        assert measure(lambda content=content: wire.parcel(content, "x")).peak < OWN


def test_a_parcel_is_measured_before_it_is_copied(measure: Any) -> None:
    content = wire.add_parcel(RecordDict(), "x", bytes(BEYOND))
    assert measure(lambda: wire.parcel(content, "x", most=BEYOND - 1)).peak < OWN
    assert wire.parcel(content, "x", most=BEYOND).size == BEYOND


def test_an_offer_with_endless_heads_is_refused_by_its_length(measure: Any) -> None:
    job = make_job()
    content = wire.encode_offer(wire.Offer(run="test", job=job))
    record: Any = content["config"]
    record["heads"] = "\n" * BEYOND
    assert measure(lambda: wire.decode_offer(content)).peak < OWN


# -- texts: a job, a roster, a ledger's line -----------------------------------------------------


def _roster() -> Roster:
    return Roster(coordinator="a" * 64, seal="b" * 64, members=(Member(name="x", key="c" * 64),))


TEXTS: dict[str, tuple[Callable[[bytes], object], int]] = {
    "job": (Job.from_json, 1 << 20),
    "roster": (Roster.from_json, 1 << 22),
    "line": (lines.decode, 1 << 20),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_beyond_its_limit_takes_nothing(measure: Any, kind: str) -> None:
    read, most = TEXTS[kind]
    text = ('{"format":' + PADDINGS["objects"](most) + "}").encode()
    assert measure(lambda: read(text)).peak < OWN


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_up_to_its_limit_takes_a_small_multiple_of_it(measure: Any, kind: str) -> None:
    read, _ = TEXTS[kind]
    good = {"job": make_job().json, "roster": _roster().to_json(), "line": b'{"schema":"x"}'}[kind]
    for padding in PADDINGS:
        text = good[:-1] + b',"members":' + PADDINGS[padding](1 << 14).encode() + b"}"
        assert measure(lambda text=text: read(text)).peak < EACH * len(text) + OWN, padding


def test_a_file_is_read_up_to_its_limit(tmp_path: Any, measure: Any) -> None:
    path = tmp_path / "roster.json"
    with path.open("wb") as file:
        file.truncate(1 << 28)  # of which no byte is on disk
    assert measure(lambda: Roster.load(path)).peak < 1 << 24


def test_what_is_said_of_a_long_value_is_short() -> None:
    for value in ("x" * 10**6, ["y"] * 10**6, {"z" * 10**6: 1}, 10**4000):
        with pytest.raises(ConfigError) as caught:
            config.build(messages.Consent, {"member": value, "signature": value})
        assert len(str(caught.value)) < 10_000
