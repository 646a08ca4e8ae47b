"""Notes of a summary: what a reader of its figures should know of the promise."""

from fedmodel.accounting.planning import plan_of
from fedmodel.job import Job
from fedmodel.runs import Hiding

__all__ = ["notes"]

_USELESS = 1.0  # noise over signal, from where the mean says more about the noise


def notes(
    job: Job, noise_to_signal: float | None, hidden: Hiding | None = None, *, skipped: int = 0
) -> tuple[str, ...]:
    """Return what a reader of the summary should know of this run's promise.

    Args:
        job: complete.
        noise_to_signal: as in the summary.
        hidden: how updates were hidden, as in the summary.
        skipped: finished rounds that left the model as it was.
    """
    found = []
    if skipped:
        found.append(
            f"{skipped} of the rounds left the model as it was: too few updates came, or their sum "
            "was lost."
        )
    if job.secagg.on and job.privacy.private and not job.privacy.shared:
        found.append(
            "Secure sums hide each site's update from the coordinator. They add nothing to ε: each "
            f"site keeps its own promise ({job.train.steps} local step(s) in a sum), as without "
            "them. The two protections aren't to be multiplied."
        )
    if job.secagg.on and not job.privacy.private:
        found.append(
            "Secure sums hide each site's update from the coordinator. The sum itself, and the "
            "model, may still reveal rows: nothing is promised about those without privacy=…"
        )
    if job.privacy.mechanism == "distributed":
        found.append(
            f"ε is that of DP-SGD on all sites' rows together. It counts on the noise of "
            f"{plan_of(job).honest} sites in every sum, of at least "
            f"{job.secagg.masked.survivors} survivors: {job.secagg.masked.colluders} may work with "
            "the coordinator, and each site knows its own."
        )
    if noise_to_signal is not None:
        useless = noise_to_signal > _USELESS
        found.append(
            f"In a mean update the noise has {noise_to_signal:.2g} times the norm of the largest "
            "signal"
            + (
                ": of little use. Hiding whole sites takes thousands of them; to hide rows or "
                "patients use privacy=distributed."
                if useless
                else "."
            )
        )
    if hidden and _coarse(hidden):
        found.append(
            f"A coordinate of the last mean update was {hidden.update:.2g} in the root mean "
            f"square, and sites rounded theirs to multiples of {hidden.step:.2g}: smaller changes "
            "may be lost. Use more secagg.bits, or a smaller secagg.range."
        )
    return tuple(found)


def _coarse(hidden: Hiding) -> bool:
    update, step = hidden.update, hidden.step
    return update is not None and step is not None and update < step
