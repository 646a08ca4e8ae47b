"""Examples that Hypothesis tries: a fifth by the profile ``few``, half by ``half``, or all of them.

How long one takes is no matter: on a busy machine any may take long.
"""

from hypothesis import HealthCheck, settings

__all__ = ["examples", "register_profiles"]

settings.register_profile(
    "all", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("all")

ALL = settings().max_examples


def register_profiles() -> None:
    """Name those of ``make test`` (and ``make quick``) and ``make test-slow``; all take none."""
    settings.register_profile("few", settings(), max_examples=ALL // 5)
    settings.register_profile("half", settings(), max_examples=ALL // 2)


def examples(count: int) -> int:
    """Return how many examples of a test to try, of the number that it tries without a profile."""
    return max(1, count * settings().max_examples // ALL)
