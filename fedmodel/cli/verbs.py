"""The table of verbs: each with the principal who runs it."""

__all__ = ["FLAGS", "LISTS", "OPTIONS", "POSITIONS", "SENTENCES", "TEXTS", "VERBS"]

# verb → module:function, and what it does. The module is imported only when the verb runs.
VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("simulations.run:main", "run several sites on this machine → a run folder"),
    "export": (
        "fedmodel.export:main",
        "write a run's model as a folder that others load",
    ),
    "budget": ("fedmodel.budget:main", "what sites have spent, hold and have left"),
    "provision": (
        "fedmodel.provision:main",
        "keys, certificates and the signed roster of a consortium",
    ),
    "site": (
        "clients.desk.verb:main",
        "a hospital's desk: offered jobs, and its word on each",
    ),
}
# `--what-if job=PATH` reads better than what_if=PATH, and is the same.
OPTIONS: dict[tuple[str, str], str] = {("budget", "--what-if"): "what_if"}
# `--json` is the same as format=json.
FLAGS: dict[tuple[str, str], str] = {("site", "--json"): "format=json"}
# `fedmodel site show JOB` is the same as do=show job=JOB.
POSITIONS: dict[str, tuple[str, ...]] = {"site": ("do", "job")}
# Keys whose value is a sentence: commas, brackets and quotes stand in it for themselves.
SENTENCES: dict[str, frozenset[str]] = {
    "simulate": frozenset(["purpose"]),
    "export": frozenset(["card.data", "card.license", "card.authors"]),
    "budget": frozenset(),
    "provision": frozenset(["name", "why", "revoke"]),
    "site": frozenset(["job", "why", "name"]),
}
# Keys whose value is a sentence, a name or a path: taken as typed, whatever YAML would make of it.
TEXTS: dict[str, frozenset[str]] = {
    "simulate": frozenset(
        [
            "run",
            "state",
            "purpose",
            "budget.dataset",
            *("policy.begins", "policy.ends"),
            *("model.path", "model.revision"),
            *(
                f"data.{name}"
                for name in (
                    *("train", "test", "name", "revision", "train_split", "test_split"),
                    *("text", "label", "label_separator", "site", "patient"),
                    *("separator", "encoding", "sheet"),
                )
            ),
        ]
    ),
    "export": frozenset(["run", "to"]) | SENTENCES["export"],
    "budget": frozenset(["state", "run", "site", "dataset", "what_if", "release", "format"]),
    "provision": frozenset(
        [
            *("home", "tls", "passphrase", "roster", "certificate", "request", "confirm"),
        ]
    )
    | SENTENCES["provision"],
    "site": frozenset(
        ["job", "state", "site", "dataset", "expires", "why", "as", "name", "passphrase"]
    ),
}
# Keys whose value is a list of such texts.
LISTS: dict[str, frozenset[str]] = {
    "simulate": frozenset(
        [
            "approvers",
            "data.labels",
            "data.train_only",
            "federation.exclude",
            "model.labels",
            *("policy.bases", "policy.code"),
            *("train.frozen", "train.lora.target_modules"),
        ]
    ),
    "export": frozenset(),
    "budget": frozenset(),
    "provision": frozenset(),
    "site": frozenset(),
}
