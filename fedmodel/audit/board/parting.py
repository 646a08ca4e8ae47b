"""What left the building: kinds of messages, by what the job asks for."""

from fedmodel.audit.board.asked import Answer, answered
from fedmodel.audit.board.facts import Facts

__all__ = ["left_the_building", "parted"]

_UPDATES = {
    "off": "in each round, what training changed of the model's numbers, readable by the "
    "coordinator",
    "seal": (
        "in each round, what training changed of the model's numbers, encrypted to the coordinator"
    ),
    "on": (
        "in each round, what training changed of the model's numbers, masked: the coordinator "
        "could open sums of several sites only"
    ),
}


def parted(facts: Facts) -> list[str]:
    """Return the kinds of messages that leave a site in such a run, in plain words."""
    job = facts.job
    private = job.privacy.private
    noise = ""
    if private:
        noise = ", each site's share of the noise on it" if job.privacy.shared else ", noise on it"
    found = [f"{_UPDATES[job.secagg.mode]}{noise}"]
    if not private:
        found.append("its number of rows and its training loss" + _in_sum(facts))
    if private and job.federation.test == "held-out" and job.privacy.evaluation == "noised":
        found.append("after the last round, a few counts of right and wrong answers, with noise")
    if private:
        found.append(
            "with each answer, the signed state of its ledger: how many entries, and a hash"
        )
    found.append("whether it took part, and if not, the kind of the reason")
    return found


def _in_sum(facts: Facts) -> str:
    return " (in the sum only)" if facts.job.secagg.mode == "on" else ""


def left_the_building(facts: Facts) -> Answer:
    """Return the answer to what left the building."""
    summary = facts.records.summary.value
    lines = [f"{line[0].upper()}{line[1:]}." for line in parted(facts)]
    lines.append("No row, no text, no identifier; no log and no error message with a row in it.")
    if summary is not None and summary.traffic is not None:
        traffic = summary.traffic
        lines.append(
            f"In all {traffic.bytes_up:,} bytes went from the sites to the coordinator, and "
            f"{traffic.bytes_down:,} back, by the coordinator's count."
        )
    lines.append(
        "That is what the program sends for such a job. That a site's machine sent nothing else, "
        "no record of the run can show; its firewall's log can."
    )
    return answered(4, *lines, evidence=("job-hash", "job-named"))
