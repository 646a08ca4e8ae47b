"""A bundle: the zip archive rebuilt byte for byte, its envelope, and the run folder in it."""

import base64
import json
import struct
import zipfile
import zlib
from pathlib import Path

from tests.second_verifier.formats import Entry, canonical, fingerprint, sha256, signed
from tests.second_verifier.run import LARGEST, Run

STATEMENT = "statement.dsse.json"
TYPES = ("https://in-toto.io/Statement/v1", "urn:fedmodel:bundle:1")
ZIP_20, UTF_8, DAY_ONE, UNIX, FILE = 20, 0x800, 0x21, 3 << 8, 0o100644 << 16


def archive(parts: dict[str, bytes]) -> bytes:
    """The one archive of such parts: stored, without times."""
    local, central = b"", b""
    for name, text in parts.items():
        named, size = name.encode(), len(text)
        same = (ZIP_20, UTF_8, 0, 0, DAY_ONE, zlib.crc32(text), size, size, len(named))
        central += struct.pack("<4sH", b"PK\1\2", UNIX | ZIP_20) + struct.pack("<5H3I2H", *same, 0)
        central += struct.pack("<3H2I", 0, 0, 0, FILE, len(local)) + named
        local += struct.pack("<4s5H3I2H", b"PK\3\4", *same, 0) + named + text
    count, sizes = len(parts), (len(central), len(local))
    return local + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, *sizes, 0)


def unpack(path: Path) -> dict[str, bytes]:
    """A bundle's parts; what isn't that very archive of them is refused."""
    if path.is_symlink() or path.stat().st_size > LARGEST:
        raise ValueError("it is a link or too large")
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if any(one.compress_type or one.file_size > LARGEST for one in file.infolist()):
                raise ValueError("its parts aren't stored as they are")
            parts = {name: file.read(name) for name in names}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as odd:
        raise ValueError(f"it is no zip: {odd}") from odd
    ordered = names[:1] == [STATEMENT] and names[1:] == sorted(set(names[1:]))
    if not ordered or archive(parts) != path.read_bytes():
        raise ValueError("another program has packed it, or somebody has changed it")
    if any(set(name.split("/")) & {"", ".", ".."} or "\\" in name for name in names):
        raise ValueError("a name leads elsewhere")
    return parts


def statement(run: Run, text: bytes, what: str) -> tuple[dict[str, str], Entry]:
    """What an envelope's signer says: names with their SHA-256, and the predicate."""
    envelope = json.loads(text)
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
    told, (by,) = json.loads(payload), envelope["signatures"]
    run.need("schema", canonical(envelope) + b"\n" == text, f"{what}: its envelope's form")
    run.need("schema", canonical(told) == payload, f"{what}: its statement's form")
    types = (
        told["_type"],
        told["predicateType"],
    ) == TYPES and kind == "application/vnd.in-toto+json"
    run.need("schema", types, f"{what}: of another type")
    claim, key = told["predicate"], told["predicate"]["packer"]["key"]
    run.need("schema", claim["schema"] == "fedmodel.bundle/1", f"{what}: its schema")
    encoded = kind.encode()
    message = b" %d %s %d %s" % (len(encoded), encoded, len(payload), payload)
    signature = base64.b64decode(by["sig"], validate=True).hex()
    good = by["keyid"] == fingerprint(key) and signed(key, "DSSEv1", message, signature, end=b"")
    run.need("bundle", good, f"{what}: its packer's signature")
    return {one["name"]: one["digest"]["sha256"] for one in told["subject"]}, claim


def ledgers_in(parts: dict[str, bytes]) -> set[str]:
    """Sites whose ledgers are here."""
    return {name[7:-6] for name in parts if name.startswith("ledger/") and name.endswith(".jsonl")}


def took_part(manifest: Entry, parts: dict[str, bytes]) -> set[str]:
    """Sites that took part in a private run, as far as it is known."""
    job, config = manifest["job"], manifest["config"]
    if job["privacy"]["mechanism"] == "none":
        return set()
    summary = json.loads(parts.get("summary.json", b"{}"))
    told = summary["privacy"]["sites"] if summary else {}
    sites = set(config["sites"]) if isinstance(config.get("sites"), list) else set(told)
    if not summary and not isinstance(config.get("sites"), list):
        here = ledgers_in(parts) | {n.split("/")[1] for n in parts if n.startswith("sites/")}
        sites = here if len(here) == job["federation"]["sites"] else set()
    excluded = (config.get("federation") or {}).get("exclude") or []
    return sites - set(excluded) - {name for name, one in told.items() if one["refused"]}


def check(run: Run, parts: dict[str, bytes], packer: str | None) -> None:
    """Holds what the packer, and each site that handed in, has signed against the parts."""
    listed, claim = statement(run, parts[STATEMENT], "the bundle")
    run.left_out = set(claim["left_out"])
    here = {name: sha256(text) for name, text in parts.items() if name != STATEMENT}
    told = {name: digest for name, digest in listed.items() if name not in run.left_out}
    run.need("bundle", here == told, "parts that its packer hasn't signed for")
    run.need("bundle", run.left_out <= listed.keys(), "what was left out isn't listed")
    manifest = json.loads(parts["manifest.json"])
    names = (manifest["run"], manifest["job_sha256"])
    run.need("bundle", (claim["run"], claim["job_sha256"]) == names, "of another run or job")
    lacking = took_part(manifest, parts) - ledgers_in(parts)
    run.need(
        "bundle", claim["lacking"] == sorted(lacking), "other ledgers are lacking than it says"
    )
    rosters = [json.loads(text) for name, text in parts.items() if name.startswith("rosters/")]
    known = {("coordinator", roster["coordinator"]) for roster in rosters}
    known |= {("site", one["key"]) for roster in rosters for one in roster["members"]}
    by = claim["packer"]
    vouched = by["role"] == "other" or (by["role"], by["key"]) in known
    named = packer is None or fingerprint(by["key"]) == packer.replace("-", "")
    run.need("bundle", vouched and named, "its packer is another")
    for site in claim["handed_in"]:
        listed, own = statement(run, parts[f"handed-in/{site}.dsse.json"], site)
        mine = {n: d for n, d in here.items() if n == f"ledger/{site}.jsonl"}
        mine |= {n: d for n, d in here.items() if n.startswith(f"sites/{site}/")}
        same = mine and mine.items() <= listed.items() and own["packer"]["role"] == "site"
        keys = {one["key"] for r in rosters for one in r["members"] if one["name"] == site}
        same = same and own["packer"]["key"] in keys
        same = same and (own["run"], own["job_sha256"]) == names
        run.need("bundle", same, f"{site} hasn't handed that in")
