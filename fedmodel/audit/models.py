"""Model: whether its files are those that the records name."""

from fedmodel.audit import exports, parameters
from fedmodel.audit.evidence import KINDS
from fedmodel.audit.parameters import MODEL as FILE
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested

__all__ = ["MODEL"]


def _checkpoint(records: Records) -> Outcome:
    evidence, summary = records.evidence, records.summary.value
    names = evidence.names("model")
    rounds = {name: KINDS["model"].pattern.fullmatch(name) for name in names if name != FILE}
    if FILE in evidence.left_out:
        return not_tested("the bundle was packed without the model")
    if FILE not in names:
        if summary is not None:
            return failed("the run has a summary, and no model", "summary.json")
        return not_tested("there is no model: the run hasn't come to its end")
    if not rounds or summary is None:
        return not_tested("there is no checkpoint" if summary else "there is no summary")
    last = max(rounds, key=lambda name: int(match["round"] if (match := rounds[name]) else 0))
    match = rounds[last]
    if match is None or int(match["round"]) != summary.rounds:
        return not_tested("the checkpoint of the last round isn't here", last)
    if evidence.sha256("model", last) != evidence.sha256("model", FILE):
        return failed(f"it isn't what {last} has, which the last round came to", FILE)
    return PASSED


MODEL = Family(
    name="model",
    rules=(
        Rule(
            name="model-checkpoint",
            says="The model is, byte for byte, that of the last round's checkpoint. Neither is "
            "signed.",
            run=_checkpoint,
        ),
        Rule(
            name="model-rounds",
            says="The parameters that each round starts from are those that the one before came "
            "to, by their SHA-256 in the coordinator's ledger; without a mean they stay the same.",
            coordinator=parameters.digests,
        ),
        Rule(
            name="model-named",
            says="The parameters in the model's file, and in each checkpoint, are those that the "
            "coordinator's ledger names after that round.",
            run=parameters.named,
            both=True,
        ),
        Rule(
            name="export-files",
            says="Each file of the exported folder (`export=`) is, byte for byte, as its "
            "`fedmodel.json` says, none is missing and no other is there. Nobody has signed that "
            "file.",
            run=exports.files,
        ),
        Rule(
            name="export-named",
            says="It was exported of this run and job, and of the parameters that the "
            "coordinator's ledger (else the model's file) has last.",
            run=exports.named,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster", "tree heads", "completeness", "job"),
)
