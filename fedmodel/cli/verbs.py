"""The table of verbs: each with the principal who runs it."""

__all__ = [
    "FILES",
    "FLAGS",
    "LISTS",
    "OPTIONS",
    "POSITIONS",
    "SENTENCES",
    "SWEEPS",
    "TEXTS",
    "VERBS",
]

# verb → module:function, and what it does. The module is imported only when the verb runs.
VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("simulations.run:main", "run several sites on this machine → a run folder"),
    "serve": ("server.serve:main", "coordinate a run of sites over the network → a run folder"),
    "join": ("clients.join:main", "take part in runs, as a hospital, over the network"),
    "export": (
        "fedmodel.export:main",
        "write a run's model as a folder that others load",
    ),
    "budget": ("fedmodel.budget:main", "what sites have spent, hold and have left"),
    "verify": (
        "fedmodel.audit.verb:main",
        "hold a run's records against one another and its promise, offline",
    ),
    "report": (
        "fedmodel.audit.board.verb:main",
        "write what a run's records say, for those who decide on its model",
    ),
    "bundle": (
        "fedmodel.audit.bundles.verb:main",
        "pack a run's evidence into one signed file, for a third party",
    ),
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
FLAGS: dict[tuple[str, str], str] = {
    (verb, "--json"): "format=json" for verb in ("serve", "join", "site", "verify")
}
# Verbs whose several values for a key make several jobs (-m).
SWEEPS = frozenset(["simulate"])
# A key of a verb that names a YAML file of its keys.
FILES: dict[str, str] = {"serve": "job"}
# `fedmodel site show JOB` is the same as do=show job=JOB.
POSITIONS: dict[str, tuple[str, ...]] = {"site": ("do", "job")}
# Keys whose value is a sentence: commas, brackets and quotes stand in it for themselves.
SENTENCES: dict[str, frozenset[str]] = {
    "simulate": frozenset(["purpose"]),
    "serve": frozenset(["purpose"]),
    "join": frozenset(),
    "export": frozenset(["card.data", "card.license", "card.authors"]),
    "budget": frozenset(),
    "verify": frozenset(),
    "report": frozenset(["recipients", "contact", "name"]),
    "bundle": frozenset(["name"]),
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
    "serve": frozenset(
        [
            *("job", "home", "roster", "passphrase", "listen", "run", "purpose"),
            *("model.path", "model.revision"),
            *(
                f"data.{name}"
                for name in (
                    *("test", "name", "revision", "split", "text", "label", "label_separator"),
                    *("separator", "encoding", "sheet"),
                )
            ),
        ]
    ),
    "join": frozenset(["site", "address", "passphrase"]),
    "export": frozenset(["run", "to"]) | SENTENCES["export"],
    "budget": frozenset(["state", "run", "site", "dataset", "what_if", "release", "format"]),
    "bundle": frozenset(["run", "to", "home", "as", "name", "passphrase"]),
    "verify": frozenset(
        ["run", "bundle", "report", "packer", "signer", "roster", "consortium", "export"]
    ),
    "report": frozenset(
        [
            *("run", "bundle", "packer", "roster", "consortium", "export", "to", "until"),
            *("home", "as", "passphrase"),
        ]
    )
    | SENTENCES["report"],
    "provision": frozenset(
        [
            *("home", "tls", "passphrase", "roster", "certificate", "request", "confirm"),
        ]
    )
    | SENTENCES["provision"],
    "site": frozenset(
        ["job", "state", "site", "dataset", "expires", "why", "as", "name", "passphrase", "to"]
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
    "serve": frozenset(
        [
            "data.labels",
            "federation.exclude",
            "model.labels",
            *("train.frozen", "train.lora.target_modules"),
        ]
    ),
    "join": frozenset(),
    "export": frozenset(),
    "budget": frozenset(),
    "verify": frozenset(),
    "report": frozenset(),
    "bundle": frozenset(["with"]),
    "provision": frozenset(),
    "site": frozenset(),
}
