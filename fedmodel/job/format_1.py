"""Jobs of ``fedmodel.job/1``: read for ever, never made anew.

There the hash of the starting weights stood among the model's fields, what only machines care for
among those of training and privacy, and the numbers of masked sums beside the mode. A job that is
read so is today's, under another name: the hash of its run is the one of its own time.
"""

from collections.abc import Mapping
from typing import Any

from fedmodel.errors import ConfigError

__all__ = ["FORMAT", "todays"]

FORMAT = "fedmodel.job/1"
_SUMS = ("colluders", "survivors", "threshold", "attempts", "bits", "range", "overflow")


def todays(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a complete job of format 1 as one of today's.

    Raises:
        ConfigError: when it isn't one.
    """
    try:
        model, train, privacy = (dict(mapping[part]) for part in ("model", "train", "privacy"))
        secagg = dict(mapping["secagg"])
        for part, names in (
            (train, ("physical_batch", "gradient_checkpointing")),
            (privacy, ("engine",)),
        ):
            for name in names:
                part.pop(name)
        if privacy["rate"] is None:  # of a job without privacy
            privacy["rate"] = 1.0
        sums = None
        if secagg["mode"] == "on":
            sums = {name: secagg[name] for name in _SUMS}
            sums["max_weight"] = 1 if secagg["max_weight"] is None else secagg["max_weight"]
        return {
            **mapping,
            "format": "fedmodel.job/2",
            "weights": model.pop("digest"),
            "model": model,
            "train": train,
            "privacy": privacy,
            "secagg": {"mode": secagg["mode"], "sums": sums},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not a job of format {FORMAT}: {error!s:.80} is missing") from error
