"""Masking and sharing beside Flower's SecAgg+, by its own functions in its client mod's order.

Its defaults: clipping at ±8, 2**22 steps, modulo 2**32. What it does in that stage besides
is left out: opening the others' shares, agreeing on keys with each, reading the parameters from
bytes. Shares are put together from all that it is given, as its workflow does.
"""

from collections.abc import Callable, Sequence
from functools import partial

from flwr.app import RecordDict
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from fedmodel import wire
from fedmodel.secagg import shamir
from fedmodel.seeds import Entropy
from fedmodel.update import Vector
from simulations.benchmarks.report import Figure
from simulations.benchmarks.secagg_masking import masking
from simulations.benchmarks.secagg_turns import alternating, median_cpu, power, ratio, update

__all__ = ["masked", "share_figures", "stage_figures"]

_CLIP, _TARGET, _MODULUS = 8.0, 1 << 22, 1 << 32


def masked(
    vector: Vector, own: bytes, add: Sequence[bytes], subtract: Sequence[bytes]
) -> list[bytes]:
    """Return a masked vector as it is sent, by the masking stage of Flower's client mod.

    Args:
        vector: the update.
        own: seed of the site's own mask.
        add: seeds of the masks in common with sites of lower number, which are added.
        subtract: the same, of those that are subtracted.
    """
    weighted = parameters_multiply([vector], 1.0)
    values = factor_combine(_TARGET, quantize(weighted, _CLIP, _TARGET))
    shapes = [array.shape for array in values]
    values = parameters_addition(values, pseudo_rand_gen(own, _MODULUS, shapes))
    for seeds, operation in ((add, parameters_addition), (subtract, parameters_subtraction)):
        for seed in seeds:
            values = operation(values, pseudo_rand_gen(seed, _MODULUS, shapes))
    return [ndarray_to_bytes(array) for array in parameters_mod(values, _MODULUS)]


def stage_figures(sites: int, count: int, turns: int, goal: float | None) -> list[Figure]:
    """Compare the masking stage, from an update to what is put into a message."""
    vector, entropy = update(count), Entropy()
    half = (sites - 1) // 2

    def flower() -> list[bytes]:
        seeds = [entropy.bytes(32) for _ in range(sites)]
        return masked(vector, seeds[0], seeds[1 : 1 + half], seeds[1 + half :])

    def ours() -> RecordDict:
        return wire.add_parcel(RecordDict(), "masked", masking(vector, sites))

    found = alternating({"Flower": flower, "fedmodel": ours}, turns)
    where = f"mask stage, n={sites}, {power(count)} parameters, CPU"
    value = ratio(found["Flower"], found["fedmodel"])
    return [
        *(Figure(name=f"{k}, {where}", value=median_cpu(v), unit="ms") for k, v in found.items()),
        Figure(
            name=f"Flower / fedmodel, {where}", value=value, unit="x", goal=goal, better="higher"
        ),
    ]


def share_figures(holders: int, threshold: int, turns: int) -> list[Figure]:
    """Compare sharing one 32-byte secret, and putting it together from all of its shares."""
    entropy = Entropy()
    secret, numbers = entropy.bytes(32), range(1, holders + 1)
    theirs = create_shares(secret, threshold, holders)
    ours = shamir.split(secret, threshold, numbers, entropy)

    def combine() -> bytes:
        shamir.coefficients.cache_clear()  # as for the first secret of a round
        return shamir.combine(ours, threshold)

    if not combine() == combine_shares(theirs) == secret:
        raise RuntimeError("the shares don't make the secret")
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "split": (
            partial(create_shares, secret, threshold, holders),
            partial(shamir.split, secret, threshold, numbers, entropy),
        ),
        "combine": (partial(combine_shares, theirs), combine),
    }
    out = []
    for what, (flower, own) in ways.items():
        found = alternating({"Flower": flower, "fedmodel": own}, turns)
        name = f"shares {threshold} of {holders}, {what}, CPU"
        value = ratio(found["Flower"], found["fedmodel"])
        out += [
            Figure(name=f"fedmodel, {name}", value=median_cpu(found["fedmodel"]), unit="ms"),
            Figure(name=f"Flower / fedmodel, {name}", value=value, unit="x", better="higher"),
        ]
    return out
