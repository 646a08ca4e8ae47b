"""The verb ``bundle``: a run's evidence in one file, for a third party."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmodel import config
from fedmodel._escape import escaped
from fedmodel._text import listed
from fedmodel.audit import collector
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.merging import handed_in, merged
from fedmodel.audit.bundles.packing import pack
from fedmodel.audit.bundles.signing import Who, named, signer_of
from fedmodel.audit.bundles.statement import Claim, Signed
from fedmodel.audit.evidence import FolderEvidence, site_of
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.errors import ConfigError
from fedmodel.identity.names import grouped
from fedmodel.runs.folder import run_path

__all__ = ["main", "say"]

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Who):
    """What is asked.

    Args:
        run: a run's name, or its folder.
        to: file to write.
        hand_ins: bundles that the sites have handed in.
        weights: whether the model's files are in it, too.
    """

    run: str | None = None
    to: str | None = None
    hand_ins: tuple[str, ...] = ()
    weights: bool = False

    def __post_init__(self) -> None:
        if not self.run:
            raise ConfigError("bundle needs run=<a run's name, or its folder>")
        if not self.to:
            raise ConfigError("bundle needs to=<a file to write, such as run.zip>")
        Who.__post_init__(self)


@collector.paused(verb=True)
def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Pack a run's evidence.

    Args:
        mapping: the composed configuration.
        given: unused.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a missing or wrong value, or a file that can't be written.
        EvidenceError: for what can't be packed: no run, or a hand-in that isn't of it.
        LedgerError: for a key that can't be read.
        IdentityError: for one that doesn't open.
    """
    ask = config.build(Ask, named(mapping))
    folder, to = run_path(ask.run), Path(str(ask.to)).expanduser()
    evidence = FolderEvidence(folder)
    records = read_records(evidence)
    run, job = records.run, records.manifest.job_sha256
    found = [handed_in(Path(each).expanduser(), run, job) for each in ask.hand_ins]
    parts = merged(evidence, found, model=ask.weights)
    left_out = (
        {} if ask.weights else {n: evidence.sha256("model", n) for n in evidence.names("model")}
    )
    packer, signer = signer_of(ask, folder)
    claim = Claim(
        run=run,
        job_sha256=job,
        packer=packer,
        handed_in=tuple(sorted(each.site for each in found)),
        lacking=_lacking(records, parts),
        left_out=tuple(sorted(left_out)),
    )
    say(to, pack(to, claim, parts, signer, left_out))
    BundleEvidence(to)  # what was written can be read
    return 0


def say(to: Path, signed: Signed) -> None:
    """Print what was packed, and what isn't in it."""
    claim = signed.claim
    count = len(signed.parts) - len(claim.left_out)
    print(escaped(f"{to} has {count} files of run {claim.run}, signed by {claim.packer.name!r}"))
    print(escaped(f"fingerprint of the key: {grouped(claim.packer.fingerprint)}"))
    if claim.packer.role == "site":
        print("the roster has that key. Whoever packs the run's bundle takes the file along:")
        print("fedmodel bundle run=… with=[…] to=…")
    else:
        print("read it out to whoever verifies it: fedmodel verify bundle=… packer=…")
    if claim.handed_in:
        print(escaped(f"handed in by: {listed(claim.handed_in, _MOST_NAMED)}"))
    if claim.lacking:
        lacking = listed(claim.lacking, _MOST_NAMED)
        print(
            escaped(f"ledgers that it lacks: {lacking}; each makes its own: fedmodel site hand-in")
        )
    if claim.left_out:
        print("the model isn't in it, only its digest; weights=true takes it along")
    if any(name.startswith("ledger/") for name in signed.parts):
        print(
            "a ledger has every run of its dataset, what each cost, and how many rows there were: "
            "give it to those who may know that"
        )


def _lacking(records: Records, parts: Mapping[str, object]) -> tuple[str, ...]:
    """Return whose ledgers a bundle lacks, as whoever verifies it will find."""
    here = [site for name in parts if (site := site_of("ledger", name)) is not None]
    # Who took part may show by who has handed something in.
    sites = {**dict.fromkeys(here, SiteRecords("")), **records.sites}
    return replace(records, sites=sites).absent(here)
