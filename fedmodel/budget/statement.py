"""A statement of account: what a ledger adds up to, and what a job would add."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedmodel.errors import BudgetError, PrivacyError
from fedmodel.job import Unit
from fedmodel.ledger import Book, Request, Reservation
from fedmodel.ledger.caps import Caps, Charge, total

__all__ = ["RunLine", "Statement", "Sum", "WhatIf", "cost_of", "statement", "what_first", "what_if"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """ε of some charges together.

    Args:
        unit: whom it is about.
        adjacency: of neighbouring datasets.
        delta: δ it holds at.
        spent: ε of what is spent.
        reserved: ε of that and of what is reserved, together.
        cap: on the latter; ``None`` without one.
        left: cap less ``reserved``. A job of a larger ε may still fit in, for composed they cost
            less than their sum: ask what it would cost.
    """

    unit: Unit
    adjacency: str
    delta: float
    spent: float
    reserved: float
    cap: float | None
    left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run of one job.

    Args:
        run: its name.
        job: SHA-256 of the job.
        state: ``open``, ``released`` (given back) or ``aborted``.
        steps: taken, the evaluation's among them.
        evaluations: so many of them.
        sum: of the run.
    """

    run: str
    job: str
    state: str
    steps: int
    evaluations: int
    sum: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one ledger says.

    Args:
        site: whose.
        dataset: of what.
        ledger: its name to others.
        rows: how many there were at the last join; ``None`` where that isn't written.
        added: since the join before; ``None`` where it isn't known.
        removed: likewise.
        runs: one line for each run of each job.
        totals: over all runs, one for each unit that one can be told for.
    """

    site: str
    dataset: str
    ledger: str
    rows: int | None
    added: int | None
    removed: int | None
    runs: tuple[RunLine, ...]
    totals: tuple[Sum, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a job would do to a ledger.

    Args:
        site: whose.
        dataset: of what.
        unit: whom the ε are about.
        before: ε that is spent and reserved now; ``None`` where none can be told.
        after: ε with the job; ``None`` likewise.
        cap: on it; ``None`` without one.
        refusal: why the site would refuse the job; ``None`` when it wouldn't.
        alone: ε of the job by itself; ``None`` where none can be told.
        spent: ε of what is spent, without what is reserved; ``None`` likewise.
        delta: δ that all of them are at; ``None`` where nothing is charged.
    """

    site: str
    dataset: str
    unit: Unit
    before: float | None
    after: float | None
    cap: float | None
    refusal: str | None
    alone: float | None = None
    spent: float | None = None
    delta: float | None = None


def statement(book: Book, caps: Caps) -> Statement:
    """Return what a ledger adds up to.

    Args:
        book: of the ledger; it has a beginning.
        caps: to hold the totals against.
    """
    if book.opened is None:
        raise ValueError("a statement is of a ledger that has begun")
    spent, held = book.charges()
    totals = [
        _sum(spent, held, unit, caps.delta, caps.epsilon if unit == caps.unit else None)
        for unit in _units([*spent, *held])
    ]
    pairs = dict.fromkeys((r.entry.run, r.entry.job) for r in book.of())
    found = book.dataset
    return Statement(
        site=book.opened.site,
        dataset=book.opened.dataset,
        ledger=book.opened.ledger,
        rows=found.rows if found else None,
        added=found.added if found else None,
        removed=found.removed if found else None,
        runs=tuple(_line(book.of(run, job), caps) for run, job in pairs),
        totals=tuple(totals),
    )


def what_if(book: Book, terms: Request | None, caps: Caps) -> WhatIf:
    """Return what a job would do to a ledger.

    Args:
        book: of the ledger; it has a beginning.
        terms: of the job; ``None`` for one without privacy, which spends nothing.
        caps: to hold it against.
    """
    if book.opened is None:
        raise ValueError("a statement is of a ledger that has begun")
    new = [] if terms is None else terms.charges()
    cost = _held_against(*book.charges(), new, caps)
    return replace(cost, site=book.opened.site, dataset=book.opened.dataset)


def what_first(site: str, dataset: str, terms: Request, caps: Caps) -> WhatIf:
    """Return what a job would do to a dataset on which nothing was ever spent.

    Args:
        site: whose it is.
        dataset: its name.
        terms: of the job.
        caps: to hold it against.
    """
    return replace(_held_against([], [], terms.charges(), caps), site=site, dataset=dataset)


def _held_against(
    spent: Sequence[Charge], held: Sequence[Charge], new: Sequence[Charge], caps: Caps
) -> WhatIf:
    """Return what a job would do to a ledger, and whether the caps would refuse it."""
    refusal = None
    try:
        caps.check(spent=spent, held=held, new=new)
    except BudgetError as error:
        refusal = str(error)
    return replace(cost_of(spent, held, new, caps), refusal=refusal)


def cost_of(
    spent: Sequence[Charge], held: Sequence[Charge], new: Sequence[Charge], caps: Caps
) -> WhatIf:
    """Return what a job would do to a ledger, by its charges; of a site and dataset without name.

    Args:
        spent: all that is spent on the dataset.
        held: all that is reserved on it and not spent yet.
        new: what the job asks for.
        caps: to hold it against. Whether they would refuse it isn't asked.
    """
    whole = [*spent, *held, *new]
    delta = caps.delta or min((c.delta for c in whole), default=None)
    return WhatIf(
        site="",
        dataset="",
        unit=caps.unit,
        before=_epsilon([*spent, *held], caps, delta),
        after=_epsilon(whole, caps, delta),
        cap=caps.epsilon,
        refusal=None,
        alone=_epsilon(new, caps, delta),
        spent=_epsilon(spent, caps, delta),
        delta=delta,
    )


def _epsilon(charges: Sequence[Charge], caps: Caps, delta: float | None) -> float | None:
    """Return ε of charges at the δ of a whole they are part of."""
    try:
        return total(charges, caps.unit, delta).epsilon
    except PrivacyError:
        return None


def _units(charges: Sequence[Charge]) -> list[Unit]:
    """Return the units that a total over charges can be told for."""
    protected = {c.unit for c in charges}
    if not protected or "record" in protected:
        return ["record"]
    return ["record", "patient"] if "patient" in protected else ["record", "patient", "site"]


def _line(reservations: Sequence[Reservation], caps: Caps) -> RunLine:
    """Return the line of a run and job; going on after a failure makes another reservation."""
    last = reservations[-1]
    unit: Unit = last.entry.unit
    end = last.end
    spent = [r.charge(spend) for r in reservations for spend in r.done()]
    held = [last.charge(spend) for spend in last.held()]
    return RunLine(
        run=last.entry.run,
        job=last.entry.job,
        state="open" if end is None else "aborted" if end.type == "abort" else "released",
        steps=sum(c.spend.steps for c in spent),
        evaluations=sum(c.spend.steps for c in spent if c.spend.kind == "evaluate"),
        sum=_sum(spent, held, unit, float(last.entry.delta), caps.run_epsilon),
    )


def _sum(
    spent: Sequence[Charge],
    held: Sequence[Charge],
    unit: Unit,
    delta: float | None,
    cap: float | None,
) -> Sum:
    both = [*spent, *held]
    whole = total(both, unit, delta)
    basis = whole.basis
    # On the same basis, so that the two can be compared.
    part = total(spent, unit, basis.delta) if held else whole
    return Sum(
        unit=unit,
        adjacency=basis.adjacency,
        delta=basis.delta,
        spent=part.epsilon,
        reserved=whole.epsilon,
        cap=cap,
        left=None if cap is None else cap - whole.epsilon,
    )
