"""The coordinator's own ledger as a run fills it: nodes become numbers in the roster.

Without a roster a coordinator has no key that others know, and keeps no ledger.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version

from fedmodel import config
from fedmodel._paths import source_digest
from fedmodel.accounting.spends import Kind
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.job import Job
from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    CoordinatorEntry,
    EndEntry,
    EvaluationEntry,
    Failed,
    FailedKind,
    Given,
    JoiningEntry,
    ResultEntry,
    RoundEntry,
    StartEntry,
    UnmaskEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger, CoordinatorOwner
from fedmodel.mechanisms.counts import Counts
from fedmodel.runs import RunFolder
from fedmodel.runs.manifest import packages
from fedmodel.secagg.aggregator import Attempt
from fedmodel.update import vector_sha256
from fedmodel.wire import Failure
from server.collect import Collected
from server.ledger_memory import LedgerMemory
from server.witnesses import Witnesses

__all__ = ["OwnLedger"]


class OwnLedger:
    """What a coordinator writes down of a run, each thing before it is asked for or told.

    All its methods raise :class:`~fedmodel.errors.LedgerError` when that can't be written.

    Args:
        ledger: to write to; ``None``: nothing is kept.
        members: numbers of all sites in the roster.
        memory: of the sites' ledgers: where each stood when it last answered.
        folder: of the run, for the rosters that it is played by.

    Attributes:
        witnesses: what sites are shown of it.
    """

    def __init__(
        self,
        ledger: CoordinatorLedger | None = None,
        members: Iterable[int] = (),
        memory: LedgerMemory | None = None,
        folder: RunFolder | None = None,
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._members = frozenset(members)
        self._memory = memory or LedgerMemory()
        self._nodes: dict[int, int] = {}
        self.witnesses = Witnesses(ledger)

    @classmethod
    def of(cls, folder: RunFolder, keys: CoordinatorKeys, memory: LedgerMemory) -> "OwnLedger":
        """Return the ledger of a run, to go on with where it was begun.

        Args:
            folder: of the run.
            keys: of the coordinator, and the roster.
            memory: see the class.

        Raises:
            LedgerError: when it is there, and can't be read or isn't valid.
        """
        owner = CoordinatorOwner(signer=keys.signer, head=folder.own_head, run=folder.run)
        made = cls(CoordinatorLedger(folder.own_ledger, owner), keys.roster.keys, memory, folder)
        made._go_on()
        return made

    def _go_on(self) -> None:
        entries = () if self._ledger is None else self._ledger.entries()
        for entry in entries:
            if isinstance(entry, JoiningEntry):
                self._nodes = {int(node): member for node, member in entry.nodes.items()}

    @property
    def kept(self) -> bool:
        """Whether there is one."""
        return self._ledger is not None

    # -- what is noted ---------------------------------------------------------------------------

    def started(self, job: Job, keys: CoordinatorKeys, round_: int, model: str) -> None:
        """Note that the coordinator starts, and keep the roster that it goes by.

        Args:
            job: of the run.
            keys: with the roster.
            round_: the last that is finished.
            model: SHA-256 (hex) of the parameters that it goes on from.
        """
        roster = keys.roster
        if self._folder is not None:
            self._folder.keep_roster(roster.sha256, roster.to_json())
        self._note(
            StartEntry(
                job=config.to_mapping(job),
                job_sha256=job.sha256,
                roster=roster.sha256,
                members={str(n): roster.member(n).name for n in roster.keys},
                round=round_,
                model=model,
                code=f"fedmodel {version('fedmodel')} {source_digest()}",
                packages=packages(),
            )
        )

    def joined(
        self,
        joining: str,
        members: Mapping[int, int],
        joined: Mapping[int, Failure | None],
        excluded: Iterable[int],
    ) -> None:
        """Note who takes part from now on.

        Args:
            joining: names it.
            members: node → number in the roster of the site that has said to be there.
            joined: node → ``None`` where it has joined, or why not.
            excluded: nodes that the operator leaves out.
        """
        nodes = {node: members[node] for node, why in joined.items() if why is None}
        failures = {members[node]: why for node, why in joined.items() if why and node in members}
        out = {members[node] for node in excluded if node in members}
        absent = self._members - set(nodes.values()) - set(failures)
        self._nodes = nodes
        kinds: dict[int, FailedKind] = dict.fromkeys(absent, "away")
        kinds |= {member: _kind(why) for member, why in failures.items()}
        kinds |= dict.fromkeys(out, "excluded")
        self._note(
            JoiningEntry(
                joining=joining,
                nodes={str(node): member for node, member in sorted(nodes.items())},
                failed=tuple(Failed(member=n, kind=kinds[n]) for n in sorted(kinds)),
            )
        )

    def asks(self, kind: Kind, round_: int, model: str, nodes: Iterable[int]) -> None:
        """Note what sites are about to be asked for.

        Args:
            kind: to train, or to evaluate.
            round_: of the run.
            model: SHA-256 (hex) of the parameters that they start from.
            nodes: that are asked.
        """
        members = tuple(sorted(self._nodes[node] for node in nodes if node in self._nodes))
        self._note(RoundEntry(kind=kind, round=round_, model=model, members=members))

    def opens(self, attempt: Attempt) -> None:
        """Note that an attempt at a secure sum is about to be opened.

        Args:
            attempt: that has begun.
        """
        manifest = attempt.manifest
        self._note(
            AttemptEntry(
                round=manifest.round,
                attempt=manifest.attempt,
                manifest=config.to_mapping(manifest),
                digest=attempt.digest.hex(),
            )
        )

    def unmasks(self, attempt: Attempt) -> None:
        """Note that a sum is about to be unmasked.

        Args:
            attempt: of which the consents are closed.
        """
        manifest = attempt.manifest
        self._note(
            UnmaskEntry(
                round=manifest.round,
                attempt=manifest.attempt,
                digest=attempt.digest.hex(),
                takers=tuple(attempt.takers),
                survivors=tuple(attempt.survivors),
                vectors={str(n): each for n, each in attempt.vectors.items()},
                consents={str(n): each for n, each in attempt.consents.items()},
            )
        )

    def result(self, round_: int, got: Collected, model: str, *, stopped: bool) -> None:
        """Note what came of a finished round, before the new parameters are told to anybody.

        Args:
            round_: of the run.
            got: what came; without a mean the parameters are as they were.
            model: SHA-256 (hex) of the parameters now.
            stopped: whether no further round follows, before the job's last.
        """
        mean = got.mean
        self._note(
            ResultEntry(
                round=round_,
                given=() if mean is None else self._given(got.givers, got.sha256s),
                absent=0 if mean is None else got.absent,
                failed=self._failed(got.failures),
                mean="" if mean is None else vector_sha256(mean.vector),
                model=model,
                finished=True,
                stopped=stopped,
            )
        )

    def unfinished(self, round_: int, got: Collected, model: str) -> None:
        """Note what came of a round that too few gave an update in.

        Args:
            round_: of the run.
            got: what came.
            model: SHA-256 (hex) of the parameters, as they were.
        """
        self._note(
            ResultEntry(
                round=round_,
                given=(),
                absent=0,
                failed=self._failed(got.failures),
                mean="",
                model=model,
                finished=False,
                stopped=False,
            )
        )

    def evaluated(
        self,
        round_: int,
        model: str,
        counts: Mapping[int, Counts],
        failures: Mapping[int, Failure],
    ) -> None:
        """Note who has told how the last parameters do.

        Args:
            round_: the last one.
            model: SHA-256 (hex) of the parameters.
            counts: node → what it has told.
            failures: node → why it told nothing.
        """
        given = self._given(counts, {node: each.sha256 for node, each in counts.items()})
        failed = self._failed(failures)
        self._note(EvaluationEntry(round=round_, model=model, given=given, failed=failed))

    def ended(self, round_: int, model: str, told: Iterable[int], *, failed: bool) -> None:
        """Note that the run has ended.

        Args:
            round_: the last that is finished.
            model: SHA-256 (hex) of the last parameters.
            told: nodes that have heard of it.
            failed: whether it didn't come to its end.
        """
        self._note(EndEntry(failed=failed, round=round_, model=model, told=self._given(told)))

    # -- of nodes, members -----------------------------------------------------------------------

    def _note(self, entry: CoordinatorEntry) -> None:
        if self._ledger is not None:
            self._ledger.note(entry)
            self.witnesses.changed()

    def _given(
        self, nodes: Iterable[int], sha256s: Mapping[int, str] | None = None
    ) -> tuple[Given, ...]:
        found = []
        for node in nodes:
            if node in self._nodes:
                head = self._memory.head(node)
                size, root = (0, "") if head is None else (head.size, head.root)
                update = (sha256s or {}).get(node, "")
                member = self._nodes[node]
                found.append(Given(member=member, entries=size, root=root, update=update))
        return tuple(sorted(found, key=lambda given: given.member))

    def _failed(self, failures: Mapping[int, Failure]) -> tuple[Failed, ...]:
        kinds = {self._nodes[n]: _kind(why) for n, why in failures.items() if n in self._nodes}
        return tuple(Failed(member=n, kind=kinds[n]) for n in sorted(kinds))


def _kind(failure: Failure) -> FailedKind:
    if failure.budget:
        return "budget"
    if failure.wrong:
        return "wrong"
    if failure.away:
        return "away"
    return "refused" if failure.lasting or failure.unapproved else "failed"
