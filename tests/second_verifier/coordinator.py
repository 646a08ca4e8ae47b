"""What the coordinator's ledger says, and the sites' beside it."""

from collections import Counter, defaultdict

from tests.second_verifier.formats import Entry, canonical, is_entry, part, sha256, signed
from tests.second_verifier.run import Book, Run

MANIFEST = "attempt bits cohort colluders count job keys model roster round session signature "
MANIFEST += "survivors threshold version"
SHOWN = "entries:n member:n root:H"
LISTED = {"failed": "kind:t member:n", "given": SHOWN, "told": SHOWN}


class Told:
    """What has been read of the coordinator's ledger, as far as it goes."""

    def __init__(self, run: Run, book: Book):
        self.run, self.book = run, book
        self.done, self.model, self.started = -1, "", False
        self.models: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.roster: Entry = {}
        self.start: Entry = {}
        self.joining: Entry = {}
        self.asking: Entry | None = None
        self.attempt: Entry | None = None
        self.unmask: Entry | None = None
        self.rounds: list[Entry] = []
        self.attempts: list[Entry] = []
        self.unmasks: dict[int, Entry] = {}
        self.results: dict[int, Entry] = {}
        self.evaluation: Entry | None = None
        self.end: Entry | None = None
        self.nodes: dict[int, dict[str, int]] = {}
        self.asked: dict[int, int] = {}

    def need(self, family: str, holds: object, entry: Entry, what: str) -> None:
        self.run.need(family, holds, f"the coordinator's entry {entry['seq']}: {what}")

    def read(self) -> None:
        """Entry after entry."""
        for entry in self.book.entries:
            for key, fields in LISTED.items():
                if isinstance(entry.get(key), list):
                    update = " update:H" if entry["schema"][-1] > "1" and key != "failed" else ""
                    right = all(is_entry(one, fields + update) for one in entry[key])
                    self.need("schema", right, entry, f"the form of {key}")
            self.need(
                "completeness", not self.end or entry["type"] == "start", entry, "after the end"
            )
            kind = entry["type"]
            if kind not in ("run", "torn"):
                self.need("completeness", self.started or kind == "start", entry, "before a start")
                getattr(self, "on_" + kind)(entry)
        complete = self.end is not None and self.end["round"] == self.run.summary.get("rounds")
        self.run.need("completeness", complete or not self.run.summary, "the run's end isn't told")

    def on_start(self, entry: Entry) -> None:
        run, again = self.run, self.started
        whole = canonical(entry["job"]) == canonical(run.job) and entry["job_sha256"] == run.digest
        self.need("job", whole, entry, "another job")
        self.roster = run.rosters.get(entry["roster"], run.roster)
        self.names = {n + 1: one["name"] for n, one in enumerate(self.roster["members"])}
        numbered = {str(number): name for number, name in self.names.items()}
        self.need("roster", entry["members"] == numbered, entry, "sites aren't numbered so")
        if not again:
            self.done, self.models[entry["round"]] = entry["round"], entry["model"]
        goes_on = entry["round"] in (self.done, self.done - 1)
        self.need("completeness", goes_on, entry, "goes on from another round")
        self.need("model", self.models[entry["round"]] == entry["model"], entry, "other parameters")
        self.done, self.model = entry["round"], entry["model"]
        self.started, self.start, self.joining, self.end = True, entry, {}, None

    def on_joining(self, entry: Entry) -> None:
        members = set(entry["nodes"].values()) | {one["member"] for one in entry["failed"]}
        self.need("completeness", members <= self.names.keys(), entry, "no such sites")
        self.joining = entry

    def on_round(self, entry: Entry) -> None:
        pending = self.asking is not None and self.asking["seq"] > self.start["seq"]
        self.need("completeness", not pending, entry, "what came of the one before isn't told")
        train = entry["kind"] == "train"
        self.need("completeness", entry["round"] == self.done + train, entry, "rounds out of order")
        mine = set(entry["members"]) <= set(self.joining["nodes"].values())
        self.need("completeness", mine, entry, "asks who hasn't joined")
        self.need("model", entry["model"] == self.model, entry, "other parameters")
        self.asking, self.attempt, self.unmask = entry, None, None
        self.rounds.append(entry)

    def on_attempt(self, entry: Entry) -> None:
        run, told, asking = self.run, entry["manifest"], self.asking or {}
        last = self.attempt["attempt"] if self.attempt else 0
        order = entry["attempt"] == last + 1 and entry["round"] == asking["round"]
        self.need("completeness", order, entry, "attempts out of order")
        wanted = {key: run.sums[key] for key in ("survivors", "colluders", "threshold", "bits")}
        wanted |= {"session": self.joining["joining"], "job": run.digest}
        wanted |= {"roster": self.start["roster"], "model": asking["model"]}
        wanted |= {key: entry[key] for key in ("round", "attempt")} | {
            "version": "fedmodel.secagg/2"
        }
        agreed = all(told[key] == value for key, value in wanted.items())
        agreed = (
            agreed
            and told.keys() == set(MANIFEST.split())
            and told["attempt"] <= run.sums["attempts"]
        )
        cohort, keys = told["cohort"], told["keys"]
        agreed = agreed and cohort == sorted(set(cohort)) and set(cohort) <= set(asking["members"])
        self.need("secure sums", agreed and len(keys) == len(cohort), entry, "its manifest")
        message = part({key: value for key, value in told.items() if key != "signature"})
        context = "fedmodel.secagg/2 manifest"
        named = sha256(context.encode() + b"\0" + message) == entry["digest"]
        by = signed(self.roster["coordinator"], context, message, told["signature"])
        self.need("secure sums", named and by, entry, "its manifest's name or signature")
        self.attempt = entry
        self.attempts.append(entry)

    def on_unmask(self, entry: Entry) -> None:
        run, attempt = self.run, self.attempt or {}
        takers, survivors = set(entry["takers"]), set(entry["survivors"])
        same = all(entry[key] == attempt[key] for key in ("attempt", "digest", "round"))
        sets = survivors <= takers <= set(attempt["manifest"]["cohort"])
        vectors = {int(number): vector for number, vector in entry["vectors"].items()}
        sets = sets and vectors.keys() == survivors and len(set(vectors.values())) == len(vectors)
        self.need("secure sums", same and sets, entry, "not a set of this attempt")
        enough = len(survivors) >= run.sums["survivors"]
        self.need("secure sums", enough, entry, "fewer than the job wants")
        over = {"manifest": entry["digest"]}
        message = part(over | {key: entry[key] for key in ("survivors", "takers")})
        for number, signature in entry["consents"].items():
            key = self.roster["members"][int(number) - 1]["key"]
            by = signed(key, "fedmodel.secagg/2 consent", message, signature)
            self.need("secure sums", by and int(number) in survivors, entry, "a consent")
        enough = len(entry["consents"]) >= run.sums["threshold"]
        self.need("secure sums", enough, entry, "too few have consented")
        once = entry["round"] not in self.unmasks
        self.need("secure sums", once, entry, "a round is unmasked twice")
        self.unmasks[entry["round"]] = self.unmask = entry

    def on_result(self, entry: Entry) -> None:
        asking = self.asking or {}
        again = self.results.get(entry["round"])
        given, failed = self.members(entry, asking["members"])
        order = entry["round"] in (asking["round"], self.done + 1) and asking["kind"] == "train"
        order = order and entry["round"] == self.done + 1
        self.need("completeness", order, entry, "of a round that wasn't asked for")
        few = len(given) + len(failed) + entry["absent"] > len(asking["members"])
        self.need("completeness", not few, entry, "counts more than were asked")
        model = self.model if not entry["mean"] else entry["model"]
        self.need("model", entry["model"] == model, entry, "another model without a mean")
        if self.run.sums and entry["mean"]:
            inside = set((self.unmask or {})["survivors"])
            counted = set(given) <= inside and len(given) + entry["absent"] == len(inside)
            mine = self.unmasks[entry["round"]] is self.unmask
            self.need("secure sums", counted and mine, entry, "not who was in the sum")
        if not self.run.sums:
            self.need("completeness", not entry["absent"], entry, "absent without secure sums")
        self.need("completeness", given or not entry["mean"] or entry["absent"], entry, "of nobody")
        if again and again["finished"] and self.run.private:
            same = again["model"] == entry["model"]
            self.need("model", same, entry, "finished once more, to other parameters")
        self.results[entry["round"]], self.asking = entry, None
        self.nodes[entry["round"]] = self.joining["nodes"]
        self.asked[entry["round"]] = len(asking["members"])
        if entry["finished"]:
            self.done, self.model = entry["round"], entry["model"]
            self.models[self.done] = self.model

    def on_evaluation(self, entry: Entry) -> None:
        asking = self.asking or {}
        self.members(entry, asking["members"])
        same = [asking["kind"], asking["round"], asking["model"]]
        order = same == ["evaluate", entry["round"], entry["model"]]
        self.need("completeness", order, entry, "of what wasn't asked for")
        self.evaluation, self.asking = entry, None

    def on_end(self, entry: Entry) -> None:
        told = [one["member"] for one in entry["told"]]
        once = len(set(told)) == len(told) and set(told) <= self.names.keys()
        self.need("completeness", once, entry, "no such sites, or one twice")
        self.need("completeness", not (self.run.summary and entry["failed"]), entry, "it failed")
        self.need("model", entry["model"] == self.model, entry, "another model")
        order = entry["round"] == self.done and self.asking is None
        self.need("completeness", order, entry, "what came of a round isn't told")
        self.end = entry

    def members(self, entry: Entry, asked: list[int]) -> tuple[list[int], list[int]]:
        """Who gave, and who failed: of those asked, each once."""
        given = [one["member"] for one in entry["given"]]
        failed = [one["member"] for one in entry["failed"]]
        once = len({*given, *failed}) == len(given) + len(failed)
        self.need(
            "completeness", once and {*given, *failed} <= set(asked), entry, "who wasn't asked"
        )
        return given, failed


def cross(told: Told, name: str, book: Book) -> None:
    """What the coordinator says of a site against that site's ledger, and the other way round."""
    member = {site: number for number, site in told.names.items()}[name]
    mine = [entry for entry in book.entries if entry.get("run") == told.run.name]
    _asked_for(told, name, member, mine)
    outcomes = [one for one in mine if one["type"] == "outcome" and one["result"] == "given"]
    newest = any(one["schema"] == "fedmodel.ledger/4" for one in mine)
    for line in [*told.results.values(), *filter(None, [told.evaluation, told.end])]:
        for one in line.get("given", line.get("told", [])):
            if one["member"] == member and (told.run.private or one["entries"]):
                _given(told.run, name, book, line, one)
                if newest and "given" in line and "update" in one:
                    gave = {o["update"] for o in outcomes if _what(o) == _what(line)}
                    same = one["update"] in gave
                    told.run.need("completeness", same, f"{name}: didn't give what it got")
    masked = {(one["manifest"], one["update"]) for one in outcomes}
    for unmask in told.unmasks.values():
        vector = unmask["vectors"].get(str(member))
        if newest and vector:
            same = (unmask["digest"], vector) in masked
            told.run.need("secure sums", same, f"{name}: masked another vector than was summed")
    for number, unmask in told.unmasks.items():
        counted = told.results.get(number, {"given": [], "mean": ""})
        for one in counted["given"] if counted["mean"] else []:
            same = one.get("update", vector_of(unmask, one)) == vector_of(unmask, one)
            told.run.need("secure sums", same, f"round {number} counts another vector")


def vector_of(unmask: Entry, given: Entry) -> str:
    """The SHA-256 of a site's masked vector in a sum."""
    return str(unmask["vectors"].get(str(given["member"]), ""))


def _what(entry: Entry) -> tuple[str, int]:
    """What something is of: kind and round, as sites' ledgers have them."""
    kind = entry.get("kind", "evaluate" if entry["type"] == "evaluation" else "train")
    return kind, entry["round"] if kind == "train" else 0


def _asked_for(told: Told, name: str, member: int, mine: list[Entry]) -> None:
    """A site's steps are those that it was asked for, by what it was shown; and no more."""
    run, shown = told.run, 0
    asked: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in told.rounds:
        if member in entry["members"]:
            asked[_what(entry)].append(entry)
    drawn: Counter[tuple[str, int]] = Counter()
    for entry in mine:
        where, steps = f"{name} entry {entry['seq']}", entry["type"] in ("spend", "repeat")
        if steps:
            drawn[_what(entry)] += 1
            same = entry.get("model") in {None, *(one["model"] for one in asked[_what(entry)])}
            run.need("model", same, f"{where}: starts from other parameters than were asked for")
        if "coordinator_entries" in entry:
            size = entry["coordinator_entries"]
            extends = size >= shown and entry["coordinator_root"] == told.book.root(size)
            run.need("tree heads", extends, f"{where}: was shown another ledger")
            shown = size
            known = not steps or any(one["seq"] < size for one in asked[_what(entry)])
            run.need("completeness", known, f"{where}: not asked for in what it was shown")
    for (kind, number), taken in drawn.items():
        times = len(asked[kind, number])
        if run.sums and kind == "train":
            opened = [one for one in told.attempts if one["round"] == number]
            times = sum(member in one["manifest"]["cohort"] for one in opened)
        run.need("completeness", taken <= times, f"{name}: round {number} wasn't asked for")


def _given(run: Run, name: str, book: Book, line: Entry, one: Entry) -> None:
    where = f"the coordinator's entry {line['seq']}, of {name}"
    with run.reading("completeness", where):
        extends = one["root"] == book.root(one["entries"])
        run.need("completeness", extends, f"{where}: the site's ledger doesn't begin so")
        if line["type"] != "end":
            kind, number = _what(line)
            spends = [e for e in book.spends(run.name, kind) if e["round"] == number]
            paid = any(entry["seq"] < one["entries"] for entry in spends)
            run.need("completeness", paid, f"{where}: it hadn't paid for that")
