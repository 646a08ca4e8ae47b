"""Adaptive clipping: the cost of a norm that follows a quantile of the units' norms."""

import math

from fedmodel.errors import ConfigError

__all__ = ["gradient_noise"]


def gradient_noise(noise_multiplier: float, clip_noise: float) -> float:
    """Return the noise multiplier for the sum where a noised count is paid from the same event.

    (z⁻² − (2b)⁻²)^(−1/2), b being ``clip_noise`` (Andrew et al. 2021, arXiv 1905.03871, Theorem
    1). Each unit adds a vector of norm at most C to the sum and, whether its norm is below C or
    not, +1/2 or −1/2 to the count: so to both, each over its noise, a vector of norm at most
    √(z_sum⁻² + (2b)⁻²) = 1/z. That is one Gaussian of multiplier z. Counting 1 and 0 instead of
    ±1/2 would double the count's share: a unit's presence would weigh up to 1.

    Exchanging a unit changes the pair by at most twice that norm, as it does the sum alone, so the
    formula is the same under both adjacencies.

    Args:
        noise_multiplier: z, of the event that is accounted.
        clip_noise: standard deviation of the noise on the count.

    Raises:
        ConfigError: unless the count's noise exceeds half the event's.
    """
    if not 2 * clip_noise > noise_multiplier:
        raise ConfigError(
            f"privacy.clip_noise={clip_noise:g} is too little for adaptive clipping here: the "
            "count of units alone would cost more than the whole step, whose noise multiplier is "
            f"{noise_multiplier:.4g}; raise privacy.clip_noise well above "
            f"{noise_multiplier / 2:.4g}, or raise privacy.epsilon"
        )
    return noise_multiplier / math.sqrt(1 - (noise_multiplier / (2 * clip_noise)) ** 2)
