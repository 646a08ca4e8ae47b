"""Tamperings with how often a site has spent, told honestly by everybody."""

from typing import Any

from fedmodel.accounting.claims import claim
from fedmodel.accounting.spends import Spend
from tests.fedmodel.audit.forged import Forged

__all__ = ["beyond_its_epsilon", "is_spend", "summary_of"]


def is_spend(entry: dict[str, Any]) -> bool:
    return bool(entry["type"] == "spend" and entry["kind"] == "train")


def summary_of(forged: Forged, site: str, **changes: Any) -> None:
    forged.edit("summary.json", lambda told: told["privacy"]["sites"][site].update(changes))


def asked_again(forged: Forged, round_: int, times: int) -> None:
    """Let the coordinator have asked for a round more often before it was finished."""
    entries = forged.coordinator.entries()
    (at,) = (
        n for n, e in enumerate(entries) if (e.get("kind"), e.get("round")) == ("train", round_)
    )
    asked, result = entries[at : at + 2]
    nothing = {**result, "given": [], "mean": "", "model": asked["model"], "finished": False}
    forged.coordinator.write([*entries[:at], *[asked, nothing] * times, *entries[at:]])


def beyond_its_epsilon(forged: Forged) -> None:
    """Attempts for which nothing was given up, told honestly: the job's promise is broken."""
    entries = forged.entries()
    (at,) = (n for n, e in enumerate(entries) if is_spend(e) and e["round"] == 2)
    more = [{**entries[at], "attempt": n, "nonce": f"{n:032}"} for n in range(2, 5)]
    entries[at + 1 : at + 1] = more
    forged.write("site-1", entries)
    asked_again(forged, 2, 3)
    spends = [
        Spend(float(e["rate"]), float(e["noise_multiplier"]), e["steps"])
        for e in entries
        if e["type"] == "spend"
    ]
    cost = claim(spends, 1e-4).epsilon
    summary_of(forged, "site-1", steps=5, epsilon=cost, epsilon_total=cost)
    forged.edit("summary.json", lambda told: told["privacy"].update(epsilon=cost))
