"""What a site's ledger says: entry after entry, on which grounds, and by which plan."""

import math
from collections import Counter, defaultdict
from typing import Any

from tests.second_verifier.formats import (
    Entry,
    Steps,
    canonical,
    epsilon,
    sha256,
    signed,
    steps_of,
    total,
)
from tests.second_verifier.run import Book, Run

Held = Counter[tuple[str, str, str]]
ENDS = ("give-back", "release", "abort")


def _held(parts: list[Entry]) -> Held:
    held: Held = Counter()
    for one in parts:
        held[one["kind"], one["rate"], one["noise_multiplier"]] += one["steps"]
    return held


def entries(run: Run, name: str, book: Book) -> None:
    """Each entry means something after those before it."""
    held: dict[int, Held] = {}
    times: Counter[tuple[str, str, str, int]] = Counter()
    shared: set[tuple[str, str, int]] = set()
    outcomes: dict[int, set[str]] = defaultdict(set)
    for entry in book.entries:
        where, kind = f"{name} entry {entry['seq']}", entry["type"]
        named = entry.get("run") != run.name or entry["job"] == run.digest
        run.need("job", named, f"{where}: another job")
        if kind == "reserve":
            whose = [(book.entries[n]["run"], book.entries[n]["job"]) for n in held]
            once = (entry["run"], entry["job"]) not in whose
            run.need("chain", once, f"{where}: what its run and job hold hasn't ended")
            held[entry["seq"]] = _held(entry["parts"])
            _grounds(run, where, entry)
            _caps(run, where, book.entries[: entry["seq"] + 1], held)
        elif kind in ("spend", "repeat", *ENDS):
            of = book.entries[entry["reservation"]]
            same = ["run", "job"] + ["unit", "adjacency", "delta"] * (kind == "spend")
            mine = of["seq"] in held and all(of[key] == entry[key] for key in same)
            run.need("chain", mine, f"{where}: no open reservation of its own")
            by = entry.get("by", "site") in ("site", "operator")
            run.need("schema", by, f"{where}: by whom?")
            if not mine or kind in ENDS:
                held.pop(of["seq"], None)
                continue
            key = (entry["run"], entry["job"], entry.get("kind", "train"), entry["round"])
            times[key] += 1
            run.need("completeness", entry["attempt"] == times[key], f"{where}: its attempt")
            if kind == "spend":
                taken = _held([entry, *entry["given_up"]])
                run.need("chain", taken <= held[of["seq"]], f"{where}: steps that aren't held")
                held[of["seq"]] -= taken
                if entry.get("mechanism", {}).get("name") in ("distributed", "site"):
                    shared.add((entry["run"], entry["job"], entry["round"]))
            else:
                paid = (entry["run"], entry["job"], entry["round"]) in shared
                run.need("chain", paid, f"{where}: repeats what wasn't paid")
        elif kind == "outcome":
            of = book.entries[entry["of"]]
            run.need("chain", _follows(entry, of, outcomes[of["seq"]]), f"{where}: of what?")
            outcomes[of["seq"]].add(entry["manifest"])
            whole = [of.get("steps", 1), True] if entry["result"] == "given" else [0, False]
            told = [entry["steps"], bool(entry["update"])] == whole
            run.need("completeness", told, f"{where}: other steps than were charged")


def _follows(entry: Entry, of: Entry, before: set[str]) -> bool:
    same = all(of[key] == entry[key] for key in ("run", "job", "round", "attempt"))
    same = same and of.get("kind", "train") == entry["kind"] and of["seq"] < entry["seq"]
    once = not before if not entry["manifest"] else entry["manifest"] not in before | {""}
    return same and of["type"] in ("spend", "repeat") and once


def _grounds(run: Run, where: str, entry: Entry) -> None:
    """The job whole, and enough of the site's people's signatures."""
    grounds = entry.get("grounds")
    if grounds is None:
        return
    agreed = sha256(canonical(grounds["agreed"])) == entry["job"]
    run.need("job", agreed, f"{where}: the job agreed to isn't of its name")
    shared = run.job["privacy"]["mechanism"] == "site"
    divisor = 1 if shared else run.job["train"]["batch_size"]
    named = (grounds["divisor"], grounds["preflight"])
    mine = entry["run"] != run.name or named == (divisor, "none" if shared else "passed")
    run.need("plan", mine, f"{where}: another divisor or preflight than the job's")
    people = set()
    for one in grounds["approved"]:
        decision = one["decision"]
        message = canonical(decision)
        held = signed(one["key"], "fedmodel.decision/1", message, one["signature"])
        held = held and (decision["run"], decision["job"]) == (entry["run"], entry["job"])
        held = held and decision["verdict"] == "approved"
        held = held and decision["at"][:19] <= entry["time"][:19] <= decision["expires"][:19]
        run.need("caps", held, f"{where}: a decision that doesn't hold")
        people.add(one["key"])
    run.need("caps", len(people) >= grounds["needed"], f"{where}: too few had agreed")


def _caps(run: Run, where: str, before: list[Entry], held: dict[int, Held]) -> None:
    """What was spent and held is within the caps of the reservation, and of the manifest."""
    entry = before[-1]
    counted = [one for one in before if one["type"] == "spend"]
    for seq, parts in held.items():
        for (_, rate, noise), steps in parts.items():
            counted.append(before[seq] | {"rate": rate, "noise_multiplier": noise, "steps": steps})
    in_force = [(entry.get("grounds") or {}).get("caps")]
    in_force += [run.config.get("budget")] if entry["run"] == run.name else []
    for caps in filter(None, in_force):
        delta = float(caps["delta"]) if caps["delta"] is not None else None
        for key, of in (("epsilon", None), ("run_epsilon", entry["run"])):
            if caps[key] is None:
                continue
            cost = total([one for one in counted if of in (None, one["run"])], caps["unit"], delta)
            kept = cost is not None and cost <= float(caps[key]) * 1.001
            run.need("caps", kept, f"{where}: {cost} exceeds {key} {caps[key]}")


def plan(run: Run, name: str, book: Book) -> None:
    """What was reserved and spent is what the job's ε takes."""
    mine = [entry for entry in book.entries if entry.get("run") == run.name]
    reserves = [entry for entry in mine if entry["type"] == "reserve"]
    if not reserves:
        return
    privacy, train = run.job["privacy"], run.job["train"]
    noises = noise_of_rounds(run.job, reserves[0]["parts"])
    steps: Steps = Counter()
    for noise in noises.values():
        steps[privacy["rate"], noise] += train["steps"]
    if run.evaluates:
        steps[1.0, privacy["evaluation_noise"]] += 1
    cost = epsilon(steps, privacy["delta"], privacy["adjacency"])
    fits = privacy["epsilon"] * 0.998 <= cost <= privacy["epsilon"] * 1.001
    run.need("plan", fits, f"{name}: its noise costs {cost}, and the job's ε is another")
    for entry in reserves:
        told = [float(entry["epsilon"]), float(entry["delta"]), entry["unit"], entry["adjacency"]]
        asked = [privacy[key] for key in ("epsilon", "delta", "unit", "adjacency")]
        run.need("plan", told == asked, f"{name}: reserved for another promise")
        held = _rounded(steps_of(entry["parts"]))
        run.need("plan", held <= _rounded(steps), f"{name}: reserved what the plan doesn't have")
        alike = all(_mechanism(run, one) for one in entry["parts"])
        run.need("plan", alike, f"{name}: another mechanism is reserved")
    _spent_by_plan(run, name, mine, noises)


def _spent_by_plan(run: Run, name: str, mine: list[Entry], noises: dict[int, float]) -> None:
    privacy, most = run.job["privacy"], run.job["train"]["steps"]
    adapts, norm = privacy["clipping"] == "adaptive", privacy["clip"]
    before: list[Entry] = []
    for entry in mine:
        where = f"{name} entry {entry['seq']}"
        if entry["type"] == "outcome" and entry["clips"]:
            run.need("plan", adapts, f"{where}: norms that adapt")
            norm = float(entry["clips"][-1])
        if entry["type"] != "spend":
            continue
        if entry["kind"] == "train":
            told = not adapts or entry["schema"][-1] > "3" or entry["round"] == 1
            wanted = privacy["rate"], noises[entry["round"]], norm if told else float(entry["clip"])
            whole = entry["steps"] == most or (
                0 < entry["steps"] < most and _all(run, before, entry)
            )
        else:
            wanted = 1.0, privacy["evaluation_noise"], norm_of_counts(run)
            whole = run.evaluates and (entry["round"], entry["steps"]) == (0, 1)
        is_ = [float(entry[key]) for key in ("rate", "noise_multiplier", "clip")]
        same = all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(is_, wanted, strict=True))
        run.need("plan", same, f"{where}: another rate, noise or norm than {wanted}")
        run.need("plan", whole, f"{where}: not a round's steps")
        run.need("plan", _mechanism(run, entry), f"{where}: another mechanism")
        before.append(entry)


def _all(run: Run, before: list[Entry], entry: Entry) -> bool:
    """Whether one step more would have cost more than the job's ε."""
    privacy = run.job["privacy"]
    steps = steps_of([*before, entry | {"steps": entry["steps"] + 1}])
    if run.evaluates:
        steps[1.0, privacy["evaluation_noise"]] += 1
    return epsilon(steps, privacy["delta"], privacy["adjacency"]) > float(privacy["epsilon"])


def _rounded(steps: Steps) -> Counter[tuple[str, str]]:
    return Counter({(f"{rate:.9e}", f"{noise:.9e}"): n for (rate, noise), n in steps.items()})


def _mechanism(run: Run, one: Entry) -> bool:
    if "mechanism" not in one:
        return True
    name, sums = run.job["privacy"]["mechanism"], run.sums
    wanted: Entry = {"name": name, "honest": 1, "survivors": 1}
    if one["kind"] == "evaluate":
        wanted["name"] = "counts"
    elif name in ("distributed", "site"):
        wanted["survivors"] = sums["survivors"]
        wanted["honest"] = sums["survivors"] - max(sums["colluders"], 1)
    return bool(one["mechanism"] == wanted)


def noise_of_rounds(job: Entry, parts: list[Entry]) -> dict[int, float]:
    """The noise multiplier of each round, by that of the first among a reservation's."""
    reserved = [float(one["noise_multiplier"]) for one in parts if one["kind"] == "train"]
    ratios = ratios_of_rounds(job)
    return {r: min(reserved) / min(ratios.values()) * ratio for r, ratio in ratios.items()}


def ratios_of_rounds(job: Entry) -> dict[int, float]:
    """Each round's noise multiplier over that of the first."""
    decay, rounds = job["privacy"]["decay"], job["train"]["rounds"]
    opens = job["train"].get("start", "zero") == "means"
    if opens and rounds == 2:
        return {1: 1.0, 2: math.sqrt(12 / 88)}
    steps = max(rounds - 2, 1) if opens else rounds
    falls = [decay ** (s / max(steps - 1, 1)) for s in range(steps)]
    if not opens or rounds == 1:
        return {s + 1: noise for s, noise in enumerate(falls)}
    first = math.sqrt(6 / 60 * sum(noise**-2 for noise in falls))
    return {1: 1.0, 2: math.sqrt(6 / 34)} | {s + 3: first * noise for s, noise in enumerate(falls)}


def norm_of_counts(run: Run) -> float:
    """By how much one unit changes the counts of test rows."""
    model, privacy = run.job["model"], run.job["privacy"]
    many: Any = model["task"] == "multi-label-classification"
    rows = privacy["rows_per_patient"] if privacy["unit"] == "patient" else 1
    return float(rows * (math.sqrt(len(model["labels"]) + 1) if many else 1))
