"""Secure sums: what a run folder tells of them."""

from fedmodel.audit import transcripts
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested, passed

__all__ = ["SUMS"]

_NAMES = ("survivors", "colluders", "honest", "threshold", "bits")
_NONE = "the job has no secure sums"


def _agreed(records: Records) -> Outcome:
    job, summary = records.job.value, records.summary.value
    if job is None or summary is None:
        return not_tested("there is no summary that can be read" if job else "there is no job")
    told, sums = summary.secagg, job.secagg.sums
    if told.mode != job.secagg.mode:
        return failed(
            f"the summary says secagg={told.mode}, and the job {job.secagg.mode}", "summary.json"
        )
    for name in _NAMES if sums is not None else ():
        if (found := getattr(told, name)) != (expected := getattr(sums, name)):
            return failed(
                f"the summary says secagg.{name}={found}, and the job {expected}", "summary.json"
            )
    return PASSED


def _floors(records: Records) -> Outcome:
    job = records.job.value
    sums = None if job is None else job.secagg.sums
    if sums is None:
        return not_tested(_NONE if job else "there is no job that can be read")
    if records.metrics.value is None:
        return not_tested("there is no metrics.jsonl that can be read")
    for each in records.rounds:
        if 0 < each.updates < sums.survivors:
            return failed(
                f"the sum of round {each.number} is over {each.updates} sites, and the job wants "
                f"{sums.survivors} at least",
                f"metrics.jsonl, line {each.line}",
            )
    return passed(f"{sums.survivors} sites at least in every sum")


SUMS = Family(
    name="secure sums",
    rules=(
        Rule(
            name="sums-agreed",
            says="The summary tells of the job's way of hiding updates, and of its numbers.",
            run=_agreed,
        ),
        Rule(
            name="sums-floors",
            says="No sum that the coordinator counts, or has unmasked, is over fewer sites than "
            "the job wants.",
            run=_floors,
            coordinator=transcripts.floors,
        ),
        Rule(
            name="sums-manifests",
            says="Each attempt's manifest is the job's, of its round, its joining and its roster, "
            "has the SHA-256 that names it, and is signed by the coordinator.",
            coordinator=transcripts.manifests,
        ),
        Rule(
            name="sums-consents",
            says="Each sum that was unmasked is over sites that had taken part in its attempt, and "
            "enough of them have signed for that very set.",
            coordinator=transcripts.consents,
        ),
        Rule(
            name="sums-once",
            says="No round was unmasked twice.",
            coordinator=transcripts.once,
        ),
        Rule(
            name="sums-counted",
            says="Whose updates a round counts is who was in its sum.",
            coordinator=transcripts.counted,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster", "tree heads", "completeness", "job"),
    run_needs=("job",),
)
