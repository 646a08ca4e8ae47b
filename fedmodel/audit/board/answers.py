"""Answers to the questions of a board, from a run's records."""

import math
from collections.abc import Sequence

from fedmodel._text import listed, show_epsilon
from fedmodel.audit.board.asked import Answer, Terms, answered, unanswered
from fedmodel.audit.board.facts import Cost, Facts, SiteFacts
from fedmodel.audit.board.kept import checked, kept, tuned
from fedmodel.audit.board.odds import gaussian_mu, right_guesses
from fedmodel.audit.board.parting import left_the_building
from fedmodel.audit.board.recommendation import HARDLY, Recommendation
from fedmodel.audit.bundles.statement import Packer
from fedmodel.audit.verify import Findings

__all__ = ["LIMITS", "answers", "odds", "spending", "told_unit"]

_MOST = 8
_EXACT = 20  # from which on a factor is told without decimals
_UNITS = {
    "record": "one row (a document or note)",
    "patient": "one patient, with all of that patient's rows at a site",
    "site": "one whole site, with all of its rows",
}
LIMITS: tuple[str, ...] = (
    "Whether the code was run. A record says what a party has written. Whether it then clipped, "
    "sampled and added noise as it wrote, none of its own records can show.",
    "What all who remember have forgotten. A ledger's owner can write another one and sign it. "
    "That shows where somebody else remembers a newer state; a folder that is brought back "
    "whole, with all that remembers, looks like a run that hasn't gone further.",
    "Who conspires. A site and the coordinator together can leave a round out of all that they "
    "write.",
    "Side channels: how long something took, how floating point rounds, what else runs on a "
    "machine.",
    "What a model says. These are checks of records: nobody has questioned the model for them.",
    "People at several sites, and rows that were copied or edited: each site protects its own rows "
    "by itself, and losses add up.",
)


def answers(
    findings: Findings, facts: Facts, advice: Recommendation, terms: Terms, signer: Packer | None
) -> tuple[Answer, ...]:
    """Return the answers to all questions, in order.

    Args:
        findings: of the checks.
        facts: of the run.
        advice: what to do, by these.
        terms: under which the model is to be released.
        signer: who signs the report; ``None``: nobody does.
    """
    return (
        _whose(facts),
        _strength(facts),
        _from_whom(facts),
        left_the_building(facts),
        _spent(facts),
        kept(findings),
        _attacked(),
        _extracted(),
        _worst(facts),
        _price(facts),
        tuned(facts),
        checked(facts, signer),
        answered(13, *LIMITS),
        _terms(facts, terms),
        answered(15, f"{advice.advice.capitalize()}: {advice.reason}.", evidence=("all checks",)),
    )


def told_unit(facts: Facts) -> str:
    """Return whose presence is hidden, in words."""
    return _UNITS[facts.job.privacy.unit]


def odds(facts: Facts) -> str | None:
    """Return how strong the promise is, in plain odds; ``None`` where there is none to tell."""
    privacy, worst = facts.job.privacy, facts.worst
    if not privacy.private or worst is None:
        return None
    share = 100 * right_guesses(worst, privacy.delta)
    shown = f"{share:.0f}" if share < 99 else f"{share:.3f}".rstrip("0").rstrip(".")
    weak = ""
    if share >= 90:
        weak = (
            " That is a bound for the worst case, and on its own it is weak: it doesn't say that "
            "anybody can do so, and doesn't exclude it."
        )
    return (
        "Think of somebody who knows everything else, and is to tell whether "
        f"{told_unit(facts)} was in the data. By a coin that somebody is right 50 times in 100; "
        f"with all that left the sites, at most {shown} times in 100.{weak}"
    )


def _factor(epsilon: float) -> str:
    """Return e^ε for people."""
    if epsilon > HARDLY:
        return f"more than {math.exp(HARDLY):,.0f}"
    value = math.exp(epsilon)
    return f"{value:,.0f}" if value >= _EXACT else f"{value:.2f}"


def _whose(facts: Facts) -> Answer:
    privacy = facts.job.privacy
    if not privacy.private:
        return answered(1, "Nobody's. No differential privacy was promised.", evidence=("the job",))
    differ = (
        "is added or removed" if privacy.adjacency == "add-remove" else "is exchanged for another"
    )
    lines = [
        f"{told_unit(facts).capitalize()}: where one {differ}, whatever leaves the sites is at "
        f"most {_factor(privacy.epsilon)} times as likely as it was, but for δ = "
        f"{privacy.delta:g}.",
    ]
    if privacy.unit == "record":
        lines.append(
            "Somebody with several rows is protected less: k rows cost up to k times ε, "
            "and more than k times δ."
        )
    if privacy.unit != "site":
        worst = facts.worst or 0.0
        ks = ", ".join(f"{k} sites: ε ≤ {k * worst:.3g}" for k in (2, 3)) if worst else ""
        lines.append(
            "Somebody treated at several sites is protected by each alone, and the losses add up"
            + (f" (by the worst site's figure, {ks}; δ likewise)." if ks else ".")
        )
    return answered(1, *lines, evidence=("job-hash", "plan-unit"))


def _strength(facts: Facts) -> Answer:
    privacy, worst = facts.job.privacy, facts.worst
    plain = odds(facts)
    if plain is None or worst is None:
        why = "no ε is known here" if privacy.private else "no differential privacy was promised"
        return unanswered(2, f"{why}.")
    mu = gaussian_mu(worst, privacy.delta)
    exact = (
        f"ε = {show_epsilon(worst)} at δ = {privacy.delta:g} at the worst site, of "
        f"ε = {privacy.epsilon:g} promised. At this δ a Gaussian mechanism with μ = {mu:.3g} is as "
        "strong."
    )
    return answered(2, plain, exact, evidence=("epsilon-bounds", "epsilon-kept", "plan-epsilon"))


def _from_whom(facts: Facts) -> Answer:
    job, summary = facts.job, facts.records.summary.value
    if not job.privacy.private:
        return answered(
            3,
            "From nobody who gets the model. " + _HIDING[job.secagg.mode],
            evidence=("the job",),
        )
    lines = ["From everybody who has the trained model, and from the other sites."]
    if job.privacy.shared:
        lines = [
            "The sites share the noise, so it depends on who works together, and on how many sites "
            "add theirs. A site that doesn't add its share weakens the promise to the others, and "
            "nobody can see that it doesn't."
        ]
        told = {} if summary is None else summary.privacy.adversaries
        equals = "≤" if summary is not None and summary.privacy.basis == "plan" else "="
        lines += [
            f"Against {name}: ε {equals} {show_epsilon(value)}." for name, value in told.items()
        ]
    else:
        lines.append(
            "From the coordinator, too, even one that lies: each site adds all of its noise "
            "itself, before anything leaves it."
        )
    lines.append(_HIDING[job.secagg.mode])
    return answered(3, *lines, evidence=("epsilon-adversaries", "sums-agreed", "sums-consents"))


_HIDING = {
    "off": (
        "The coordinator sees each site's update by itself; who listens on the way doesn't, where "
        "the connection is encrypted."
    ),
    "seal": (
        "Each site's update is encrypted to the coordinator, who reads it; relays and backups "
        "don't."
    ),
    "on": (
        "The coordinator sees sums of updates only, over one set of sites in each round that "
        "enough of them have signed for; a coordinator that lies can make a round fail."
    ),
}


def _spent(facts: Facts) -> Answer:
    lines = spending(facts.sites)
    if not lines:
        return unanswered(
            5,
            "no site's ledger is here, and only a site's own ledger tells what was spent on its "
            "rows in other runs. Ask each site for it.",
            evidence=("ledger-present",),
        )
    return answered(5, *lines, evidence=("epsilon-total", "caps-kept"))


def spending(sites: Sequence[SiteFacts]) -> list[str]:
    """Return what was spent before and now, and what is left; sites that are alike in one line."""
    alike: dict[Cost, list[str]] = {}
    for site in sites:
        if site.cost is not None:
            alike.setdefault(site.cost, []).append(site.name)
    lines = []
    for cost, names in list(alike.items())[:_MOST]:
        before = "unknown" if cost.before is None else show_epsilon(cost.before)
        after = "unknown" if cost.after is None else show_epsilon(cost.after)
        cap = "no cap is known here, so nothing says how much may follow"
        if cost.uncapped:
            cap = "their ledgers name no cap, so nothing says how much may follow"
        if cost.cap is not None:
            cap = f"the site's cap is ε = {cost.cap:g}"
            if cost.left is not None:
                cap += f", {cost.left:.3f} above what is spent and reserved"
        others = ""
        if cost.others:
            others = f" Other runs on these rows: {listed(cost.others, _MOST)}."
        lines.append(
            f"{listed(names, _MOST)}: before this run ε = {before}, now {after} in all; {cap}."
            f"{others}"
        )
    if len(alike) > _MOST:
        lines.append(f"And {len(alike) - _MOST} more kinds of sites: see the table of sites.")
    return lines


def _attacked() -> Answer:
    return unanswered(
        7,
        "nobody has attacked the model for this report. It is about records: that they don't "
        "contradict one another says nothing about what an attack on the model would find.",
    )


def _extracted() -> Answer:
    return unanswered(
        8,
        "the model was not questioned for this report: no identifier was planted before training, "
        "and no text was asked for after it.",
    )


def _worst(facts: Facts) -> Answer:
    known = [site for site in facts.sites if site.epsilon is not None and not site.refused]
    if not facts.job.privacy.private or not known:
        return unanswered(9, "no ε of any site is known here; nothing else tells of it.")
    largest = max(site.epsilon or 0.0 for site in known)
    names = [site.name for site in known if site.epsilon == largest]
    alike = len(known) > 1 and len(names) == len(known)
    who, at = listed(names, _MOST), show_epsilon(largest)
    lines = [f"By ε all are alike: {who}, at {at} each." if alike else f"By ε: {who}, at {at}."]
    lines.append(
        "Who is served worst (rare classes, small sites, outliers) isn't in these records: per "
        "class and per site the model's answers weren't counted under privacy."
    )
    return answered(9, *lines, evidence=("epsilon-worst",))


def _price(facts: Facts) -> Answer:
    summary = facts.records.summary.value
    if summary is None:
        return unanswered(10, "the run hasn't ended, so no accuracy is told.")
    lines = []
    majority = summary.final.get("majority")
    if (released := summary.released) is not None and released.accuracy is not None:
        error = released.standard_error or 0.0
        low, high = (max(0.0, min(1.0, released.accuracy + s * 1.96 * error)) for s in (-1, 1))
        lines.append(
            f"With privacy, as {released.sites} sites released it with noise: "
            f"{100 * released.accuracy:.1f} % right, {100 * low:.0f} to {100 * high:.0f} % by "
            "its noise alone (95 %)."
        )
    elif "accuracy" in summary.final and summary.test == "public":
        lines.append(f"On public test rows: {100 * summary.final['accuracy']:.1f} % right.")
    if majority is not None and lines:
        lines.append(f"Always saying the commonest class would be right in {100 * majority:.1f} %.")
    if not lines:
        return unanswered(10, "no accuracy was released, and none was measured on public rows.")
    lines.append(
        "What it would be without privacy isn't in these records, nor how it differs between "
        "groups. No check covers an accuracy: no ledger has it."
    )
    return answered(10, *lines, evidence=("summary.json",))


def _terms(facts: Facts, terms: Terms) -> Answer:
    lines = [
        f"It holds for the model of job {facts.job.sha256[:16]}… and of no other; training it "
        "further on the same rows, or releasing more about them, costs more ε.",
    ]
    if terms.recipients is not None:
        lines.append(f"Who may receive it: {terms.recipients}.")
    if terms.until is not None:
        lines.append(f"Until: {terms.until}; then it is to be looked at anew.")
    if terms.contact is not None:
        lines.append(f"Who answers questions: {terms.contact}.")
    if terms.whole:
        return answered(14, *lines, evidence=("the auditor's word",))
    return unanswered(
        14,
        "nobody has said who may receive the model, or until when (recipients=…, until=…): no "
        "record of a run has it.",
        *lines,
    )
