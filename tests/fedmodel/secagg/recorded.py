"""A recorded round of secure sums: made from a seed, kept in ``tests/vectors``.

``python -m tests.fedmodel.secagg.recorded`` writes the vectors of today's protocol. Do that only
while no release has it: afterwards another protocol has another version, and other files.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from fedmodel import _hazmat
from fedmodel.secagg.fields import VERSION, label
from fedmodel.secagg.keys import commitment, pair_seed, recovery_key
from tests.fedmodel.secagg.conftest import World

__all__ = ["GOLDEN", "NUMBER", "VECTORS", "derivations", "transcript"]

VECTORS = Path(__file__).parents[2] / "vectors"
NUMBER = VERSION.rpartition("/")[2]
GOLDEN: dict[str, Any] = {
    "sites": 4, "survivors": 3, "threshold": 3, "bits": 20, "count": 7, "seed": "golden",
}  # fmt: skip


def transcript(world: World) -> dict[str, bytes]:
    """Return every message of a round in which site 4 drops out after it has shared."""
    found = {f"advert {n}": data for n, data in world.adverts.items()}
    vectors, attempt = world.vectors(), world.begin()
    for n, site in world.sites.items():
        found[f"open {n}"] = attempt.open_for(n)
        found[f"shares {n}"] = site.open(found[f"open {n}"])
        attempt.take_shares(n, found[f"shares {n}"])
    attempt.close_shares()
    for n, site in world.sites.items():
        found[f"deliver {n}"] = attempt.deliver_for(n)
        site.deliver(found[f"deliver {n}"])
        found[f"upload {n}"], packed = site.upload(world.writer(vectors[n]))
        found[f"vector {n}"] = packed.tobytes()
        if n != 4:
            attempt.take_upload(n, found[f"upload {n}"], packed)
    attempt.close_uploads()
    found["survivors"] = attempt.survivors_message()
    for n in attempt.survivors:
        found[f"consent {n}"] = world.sites[n].consent(found["survivors"])
        attempt.take_consent(n, found[f"consent {n}"])
    attempt.close_consents()
    for n in attempt.survivors:
        found[f"request {n}"] = attempt.request_for(n)
        found[f"reveal {n}"] = world.sites[n].reveal(found[f"request {n}"])
        attempt.take_reveal(n, found[f"reveal {n}"])
    found["sum"] = attempt.total().astype("<i8").tobytes()
    return found


def derivations() -> dict[str, str]:
    """Return what follows from a secret (00..1f) and an attempt (20..3f), of sites 2 and 300."""
    secret, attempt = bytes(range(32)), bytes(range(32, 64))
    return {
        "label": label("share", attempt, 2, 300).hex(),
        "pair_seed": pair_seed(secret, attempt, 300, 2).hex(),
        "recovery_key": recovery_key(secret, attempt, 2).hex(),
        "commitment_self": commitment("self", secret, attempt, 2),
        "commitment_recovery": commitment("recovery", secret, attempt, 2),
        "mask": _hazmat.mask_stream(secret).update(bytes(32)).hex(),
    }


def main() -> None:
    """Write the vectors of today's protocol."""
    world = World(**GOLDEN)
    found = transcript(world)
    total = world.ring_sum(world.vectors(), (1, 2, 3)).tolist()
    told = {name: data for name, data in found.items() if name != "sum"}
    binary = {name for name in told if name.startswith("vector")}
    kinds = {name.split()[0]: name for name in sorted(told, reverse=True) if name not in binary}
    about = (
        f"One round of {VERSION} with four sites, the fourth of which drops out after it has "
        "shared; secrets follow from the seed 'golden' of World in "
        "tests/fedmodel/secagg/conftest.py."
    )
    whole = {
        "about": about + " derivations: secret = 00..1f, attempt = 20..3f, sites 2 and 300.",
        "derivations": derivations(),
        "texts": {name: told[name].decode() for name in sorted(kinds.values())},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in found.items()},
        "vector_1": found["vector 1"].hex(),
        "sum": total,
    }
    spoken = {
        "about": about + " Every message in the order they were sent; vectors in hex.",
        "agreement": GOLDEN,
        "messages": [
            [name, f"hex:{data.hex()}" if name in binary else data.decode()]
            for name, data in told.items()
        ],
        "sum": total,
    }
    for name, made in (("secagg", whole), ("secagg_transcript", spoken)):
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (VECTORS / f"{name}_v{NUMBER}.json").write_text(text)


if __name__ == "__main__":
    main()
