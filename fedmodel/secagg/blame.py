"""Blame: who is proved wrong in secure sums, who accuses whom, and who is left out next.

A site is *proved* wrong by what it has itself sent: a signature, a size, a form, a commitment or an
envelope to the coordinator. Between two sites it can only be known that one of them is: a share
that its holder can't open may have been sealed wrongly, or be called so wrongly. Such a *dispute*
leaves both out of the round's next attempts. As at most ``colluders`` sites lie, whoever has
disputes with more than that many is the one that is wrong, and is left out alone.

Where answers don't come under their site's signature, whoever carries them can spoil them. Then
that is no proof, and no more than the round's other attempts are without the site: proved is what
it has itself signed and committed to.

Nobody is left out where too few would be left for a sum.
"""

from collections.abc import Iterable, Mapping

__all__ = ["Blame"]


class Blame:
    """What one coordinator has found out about the sites of a run.

    Args:
        colluders: so many sites may lie.
    """

    def __init__(self, colluders: int) -> None:
        self._most = max(1, colluders)  # one dispute alone never settles who is wrong
        self._proved: dict[int, str] = {}
        self._disputes: dict[tuple[int, int], str] = {}  # accuser, accused → why
        self._now: set[tuple[int, int]] = set()  # those of this round
        self._done: set[int] = set()
        self._said: set[int] = set()
        self._signed = True
        self._spoilt: dict[int, str] = {}  # of this round

    @property
    def proved(self) -> Mapping[int, str]:
        """Who is proved wrong, and in what."""
        return self._proved

    @property
    def disputes(self) -> Mapping[tuple[int, int], str]:
        """Accuser and accused → why, of all rounds."""
        return self._disputes

    def begin_round(self, *, signed: bool = True) -> None:
        """Begin a round: who is only in dispute takes part again.

        Args:
            signed: whether each answer comes under its site's signature.
        """
        self._now = set()
        self._done = set()
        self._signed, self._spoilt = signed, {}
        if not signed:
            self._disputes = {}

    def spoilt(self, member: int, why: str) -> None:
        """Note that what has come from a site is wrong, by nothing that it must have signed."""
        if self._signed:
            self.prove(member, why)
        else:
            told = f"{why} (by the site, or by what carries its answers)"
            self._spoilt.setdefault(member, told)

    def prove(self, member: int, why: str) -> None:
        """Note that a site is proved wrong; what was found first stays."""
        self._proved.setdefault(member, why)

    def dispute(self, accuser: int, accused: int, why: str) -> None:
        """Note that one of two sites must be wrong."""
        if accuser != accused:
            self._disputes.setdefault((accuser, accused), why)
            self._now.add((accuser, accused))

    def agreed(self, members: Iterable[int]) -> None:
        """Note who can't take part in another attempt of the round, by no fault of theirs."""
        self._done |= set(members)

    def wrong(self) -> dict[int, str]:
        """Return who is wrong, and why that is known."""
        found = dict(self._proved)
        for member in sorted({n for pair in self._disputes for n in pair} - found.keys()):
            pairs = {p: why for p, why in self._disputes.items() if member in p}
            others = {n for pair in pairs for n in pair} - {member} - self._proved.keys()
            if len(others) > self._most:
                found[member] = (
                    f"{len(others)} sites are in dispute with it, more than may collude: "
                    f"{next(iter(pairs.values()))}"
                )
        return found

    def news(self) -> dict[int, str]:
        """Return of those that are wrong whom this hasn't returned before."""
        found = {member: why for member, why in self.wrong().items() if member not in self._said}
        self._said |= found.keys()
        return found

    def disputed(self) -> dict[int, str]:
        """Return who is in a dispute of this round that isn't settled, and which.

        Those among them whose answers somebody has spoilt: they, or who carries them.
        """
        wrong = self.wrong()
        found = {n: why for n, why in sorted(self._spoilt.items()) if n not in wrong}
        for pair in sorted(self._now):
            if not wrong.keys() & set(pair):
                for member in pair:
                    found.setdefault(member, self._disputes[pair])
        return found

    def cohort(self, invited: Iterable[int], least: int) -> tuple[int, ...]:
        """Return whom to invite: all but those to be left out, so far as enough are left.

        Args:
            invited: the round's sites.
            least: so many must be left. Who is wrong is left out before those in dispute; of a
                dispute in which both can't be, the accuser, without whom it can't come up.
        """
        left = [n for n in invited if n not in self._done]
        groups: list[tuple[int, ...]] = [(member,) for member in [*self.wrong(), *self._spoilt]]
        disputed = self.disputed()
        for accuser, accused in sorted(self._now):
            if accuser in disputed and accused in disputed:
                groups += [(accuser, accused), (accuser,)]
        for group in groups:
            rest = [n for n in left if n not in group]
            if len(rest) >= least:
                left = rest
        return tuple(left)
