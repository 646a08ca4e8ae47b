"""Secure sums: what a run folder tells of them."""

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


def _untold(what: str) -> Outcome:
    return not_tested(f"{what} aren't among what is looked at yet")


def _manifests(records: Records) -> Outcome:
    return _unless_none(records, "the manifests of its sums")


def _consents(records: Records) -> Outcome:
    return _unless_none(records, "the sites' consents to its sums")


def _unless_none(records: Records, what: str) -> Outcome:
    job = records.job.value
    if job is None or job.secagg.sums is None:
        return not_tested(_NONE if job else "there is no job that can be read")
    return _untold(what)


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
            says="No sum that the coordinator counts is over fewer sites than the job wants.",
            run=_floors,
        ),
        Rule(
            name="sums-manifests",
            says="Each sum's manifest is the job's, and signed. Not made yet.",
            run=_manifests,
        ),
        Rule(
            name="sums-consents",
            says="Each sum was consented to by enough sites, over one set, once. Not made yet.",
            run=_consents,
        ),
    ),
    run_needs=("job",),
)
