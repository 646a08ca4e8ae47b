"""What is told (metrics, summary, model) against what the ledgers say."""

import json
from pathlib import Path

from tests.second_verifier.coordinator import Told
from tests.second_verifier.formats import close, epsilon, is_entry, is_of, sha256, steps_of, total
from tests.second_verifier.run import Run


def completeness(run: Run, told: Told | None) -> None:
    """Rounds, updates and publications are those that were asked for and paid."""
    numbers, summary = [line["round"] for line in run.metrics], run.summary
    run.need("completeness", numbers == list(range(1, len(numbers) + 1)), "metrics.jsonl: rounds")
    rounds = run.job["train"]["rounds"]
    if summary:
        ended = summary["rounds"] == len(numbers) <= rounds
        ended = ended and (len(numbers) == rounds or summary["stopped"] is not None)
        run.need("completeness", ended, "summary.json: rounds that aren't in metrics.jsonl")
    for line in run.metrics:
        failures, number = line.get("failures", {}), line["round"]
        counts = 0 <= line["updates"] <= line["asked"] - len(failures)
        run.need("schema", counts, f"metrics.jsonl: round {number}")
        if run.private and run.whole:
            paid = sum(
                any(entry["round"] == number for entry in book.spends(run.name, "train"))
                for book in run.books.values()
            )
            run.need("completeness", paid >= line["updates"], f"round {number} isn't paid for")
    released = summary.get("released") or {"sites": 0, "failures": {}}
    published = [len(book.spends(run.name, "evaluate")) for book in run.books.values()]
    if run.private and run.whole:
        run.need("completeness", sum(published) >= released["sites"], "counts that nobody paid for")
    run.need("completeness", all(n < 2 for n in published), "counts were paid for twice")
    if told is None:
        return
    run.need("completeness", sorted(told.results) == numbers, "rounds of the coordinator's ledger")
    for line in run.metrics:
        entry, nodes = told.results[line["round"]], told.nodes[line["round"]]
        failed = {one["member"] for one in entry["failed"]}
        same = {nodes[node] for node in line.get("failures", {})} == failed
        same = same and ("lost" in line or line["asked"] == told.asked[line["round"]])
        if entry["mean"]:
            same = same and line["updates"] == len(entry["given"]) + entry["absent"]
        run.need("completeness", same, f"metrics.jsonl: round {line['round']} of another ledger")
    sites = len(told.evaluation["given"]) if told.evaluation else 0
    run.need("completeness", not summary or sites == released["sites"], "counts that weren't told")


def summary(run: Run) -> None:
    """The summary's promise, sums, heads and ε."""
    said = run.summary
    if not said:
        return
    run.need("schema", said["schema"] == "fedmodel.summary/1", "summary.json: its schema")
    run.need("job", said["job_sha256"] == run.digest, "summary.json: another job")
    sums = {"mode": run.job["secagg"]["mode"]}
    if run.sums:
        sums |= {key: run.sums[key] for key in ("survivors", "colluders", "threshold", "bits")}
        sums["honest"] = run.sums["survivors"] - run.sums["colluders"]
    same = {key: said["secagg"].get(key) for key in sums} == sums
    run.need("secure sums", same, "summary.json: secagg")
    for line in run.metrics:
        few = run.sums and 0 < line["updates"] < run.sums["survivors"]
        run.need("secure sums", not few, f"metrics.jsonl: too few in round {line['round']}")
    privacy, job = said["privacy"], run.job["privacy"]
    if not run.private:
        none = not privacy or privacy["mechanism"] == "none"
        run.need("plan", none, "summary.json: privacy")
        return
    right = is_of(privacy["adversaries"], "o")
    for site in privacy["sites"].values():
        more = " rounds:n" + " ledger:o" * ("ledger" in site)
        more = more if privacy.get("basis") == "plan" else " epsilon_total:R"
        right = right and is_entry(site, "epsilon:r refused:T steps:n" + more)
    run.need("schema", right, "summary.json: the form of privacy")
    for key in ("mechanism", "unit", "adjacency", "delta"):
        run.need("plan", privacy[key] == job[key], f"summary.json: {key}")
    run.need("epsilon", set(privacy["sites"]) <= set(run.keys), "summary.json: sites")
    for name in privacy["sites"]:
        with run.reading("epsilon", f"summary.json: {name}"):
            _site(run, name, privacy.get("basis") == "plan")
    for name, book in run.books.items():
        known = name in privacy["sites"] or not book.spends(run.name)
        run.need("completeness", known, f"summary.json: nothing of {name}")
    worst = max(site["epsilon"] for site in privacy["sites"].values())
    run.need("epsilon", privacy["epsilon"] == worst, "summary.json: ε isn't the worst site's")
    if run.job["privacy"]["mechanism"] in ("distributed", "site") and run.whole:
        _adversaries(run)


def _site(run: Run, name: str, by_plan: bool) -> None:
    site, job, book = run.summary["privacy"]["sites"][name], run.job["privacy"], run.books.get(name)
    if "ledger" in site:
        heads = {(head["size"], head["root"], head["time"]) for head in run.told_heads}
        told = tuple(site["ledger"][key] for key in ("entries", "root", "time"))
        run.need("tree heads", told in heads, f"{name}: a head that isn't in heads.json")
    spends = book.spends(run.name) if book else []
    run.need("schema", book or by_plan or not site["steps"], f"{name}: no ledger")
    if book or not by_plan:
        steps = sum(entry["steps"] for entry in spends if entry["kind"] == "train")
        run.need("completeness", steps == site["steps"], f"{name}: other steps than its ledger's")
    cost = epsilon(steps_of(spends), job["delta"], job["adjacency"])
    if by_plan:
        run.need("epsilon", site["epsilon"] >= cost * 0.999, f"{name}: {cost} by its ledger")
        least = job["epsilon"] if site["steps"] else 0
        run.need("epsilon", site["epsilon"] >= least, f"{name}: less than the job's")
    elif book:
        run.need("epsilon", close(site["epsilon"], cost), f"{name}: {cost} by its ledger")
    run.need("epsilon", cost <= job["epsilon"] * 1.001, f"{name}: {cost} is above the job's")
    if book and "epsilon_total" in site:
        all_ = total(book.spends(), job["unit"])
        same = all_ == site["epsilon_total"] if all_ is None else close(site["epsilon_total"], all_)
        run.need("epsilon", same, f"{name}: {all_} in all")


def _adversaries(run: Run) -> None:
    told, job = run.summary["privacy"]["adversaries"], run.job["privacy"]
    by_plan = run.summary["privacy"].get("basis") == "plan"
    known = {"released model": 0, "coordinator": 0, "another site": 1}
    colluders = run.sums["colluders"]
    known[f"coordinator + {colluders} site{'s' * (colluders != 1)}"] = colluders
    if by_plan and not told:
        return
    run.need("epsilon", told.keys() == known.keys(), "summary.json: other adversaries")
    for who, shares in known.items():
        worst = 0.0
        for book in run.books.values():
            held = [e for e in book.entries if e["type"] == "reserve" and e["run"] == run.name]
            taken = held[0]["parts"] if by_plan and held else book.spends(run.name)
            cost = epsilon(steps_of(taken, shares), job["delta"], job["adjacency"])
            worst = max(worst, cost)
        run.need("epsilon", close(told[who], worst), f"{who}: {worst} by the ledgers")


def model(run: Run, told: Told | None) -> None:
    """The files of parameters are those that the coordinator's ledger names."""
    rounds = {
        int(path.parent.name.removeprefix("round-")): path
        for path in sorted(run.folder.glob("checkpoints/round-*/model.safetensors"))
    }
    final = run.folder / "model" / "trained.safetensors"
    if run.summary and not run.left_out:
        rounds_ = run.summary["rounds"]
        same = rounds_ in rounds and run.read(final) == run.read(rounds[rounds_])
        run.need("model", same, "the model isn't the last checkpoint's")
    for number, path in rounds.items():
        named = digest(run, path)
        run.need("model", told is None or told.models[number] == named, f"round {number}'s model")


def digest(run: Run, path: Path) -> str:
    """SHA-256 of all tensors, in the order of their names."""
    data = run.read(path)
    size = int.from_bytes(data[:8], "little")
    header, at = json.loads(data[8 : 8 + size]), 0
    header.pop("__metadata__", None)
    for name in sorted(header):
        entries, (begin, end) = 4, header[name]["data_offsets"]
        for length in header[name]["shape"]:
            entries *= length
        whole = header[name]["dtype"] == "F32" and (begin, end) == (at, at + entries)
        run.need("model", whole, f"{path.name}: {name}")
        at = end
    run.need("model", len(data) == 8 + size + at, f"{path.name}: its length")
    return sha256(data[8 + size :])
