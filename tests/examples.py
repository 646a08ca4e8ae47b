"""Examples that Hypothesis tries: a fifth of them by the profile ``few``, all of them otherwise.

How long one takes is no matter: on a busy machine any may take long.
"""

from hypothesis import HealthCheck, settings

__all__ = ["examples", "register_few"]

settings.register_profile(
    "all", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("all")

ALL = settings().max_examples


def register_few() -> None:
    """Name the profile of ``make test`` and ``make quick``; ``make test-slow`` takes none."""
    settings.register_profile("few", settings(), max_examples=ALL // 5)


def examples(count: int) -> int:
    """Return how many examples of a test to try, of the number that it tries without a profile."""
    return max(1, count * settings().max_examples // ALL)
