"""The verb ``bundle``: a run's evidence in one file, for a third party."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmodel import config
from fedmodel._escape import escaped
from fedmodel._text import listed
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.merging import handed_in, merged
from fedmodel.audit.bundles.packing import pack
from fedmodel.audit.bundles.statement import Claim, Packer, Signed
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Records
from fedmodel.errors import ConfigError
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.names import grouped
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.runs.folder import run_path

__all__ = ["main", "say"]

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        run: a run's name, or its folder.
        to: file to write.
        hand_ins: bundles that the sites have handed in.
        weights: whether the model's files are in it, too.
        home: folder of the party that packs.
        signer: key file of whoever packs without being one.
        name: of whoever that is.
        passphrase: where the one is read that the key is sealed under.
    """

    run: str | None = None
    to: str | None = None
    hand_ins: tuple[str, ...] = ()
    weights: bool = False
    home: str | None = None
    signer: str | None = None
    name: str | None = None
    passphrase: str | None = None

    def __post_init__(self) -> None:
        if not self.run:
            raise ConfigError("bundle needs run=<a run's name, or its folder>")
        if not self.to:
            raise ConfigError("bundle needs to=<a file to write, such as run.zip>")
        if self.home is not None and self.signer is not None:
            raise ConfigError("one packs it: give home=, or as=, not both")
        if (self.signer is None) is not (self.name is None):
            raise ConfigError('as=<file of your key> and name="YOUR NAME" go together')


def main(
    mappings: Sequence[dict[str, Any]],
    *,
    given: Sequence[Sequence[str]] = (),
    labels: object = None,
) -> int:
    """Pack a run's evidence.

    Args:
        mappings: the composed configuration.
        given: unused.
        labels: unused; a sweep makes no sense here.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a missing or wrong value, or a file that can't be written.
        EvidenceError: for what can't be packed: no run, or a hand-in that isn't of it.
        LedgerError: for a key that can't be read.
        IdentityError: for one that doesn't open.
    """
    words = {"as": "signer", "with": "hand_ins"}  # words of Python's
    ask = config.build(Ask, {words.get(key, key): value for key, value in mappings[0].items()})
    folder, to = run_path(ask.run), Path(str(ask.to)).expanduser()
    evidence = FolderEvidence(folder)
    records = read_records(evidence)
    run, job = records.run, records.manifest.job_sha256
    found = [handed_in(Path(each).expanduser(), run, job) for each in ask.hand_ins]
    parts = merged(evidence, found, model=ask.weights)
    left_out = (
        {} if ask.weights else {n: evidence.sha256("model", n) for n in evidence.names("model")}
    )
    packer, signer = _packer(ask, folder)
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
    job = records.job.value
    if job is None or not job.privacy.private:
        return ()
    took_part = {str(name) for name in records.account.participants()}
    return tuple(sorted(name for name in took_part if f"ledger/{name}.jsonl" not in parts))


def _packer(ask: Ask, folder: Path) -> tuple[Packer, SigningKey]:
    passphrase = read_passphrase(ask.passphrase)
    if ask.signer is not None:
        path = Path(ask.signer).expanduser()
        if not path.exists():
            raise ConfigError(
                f"as={ask.signer}: there is no such file; make your key: fedmodel site key "
                f'as={ask.signer} name="YOUR NAME"'
            )
        signer = SigningKey(kept_secret(path, "key", passphrase=passphrase))
        return Packer(key=signer.public.hex(), role="other", name=str(ask.name)), signer
    home = folder / "coordinator" if ask.home is None else Path(ask.home).expanduser()
    if not (home / "party.json").exists() and (home / "key").exists():
        # A simulation's coordinator has keys, and nobody to ask for a certificate.
        signer = SigningKey(kept_secret(home / "key", "key", passphrase=passphrase))
        return Packer(key=signer.public.hex(), role="coordinator", name="coordinator"), signer
    if not (home / "party.json").exists():
        raise ConfigError(
            f"{home} is no party's folder; say who packs it: home=<the coordinator's folder>, or "
            'as=<file of your key> name="YOUR NAME"'
        )
    party = PartyHome(home)
    owner = party.read().owner
    signer = SigningKey(party.secret("key", passphrase))
    return Packer(key=signer.public.hex(), role=owner.role, name=owner.name), signer
