"""The bundle: who has packed it, whether it is as it was packed, and who stands by which part."""

from collections.abc import Iterator, Sequence

from fedmodel._text import listed
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.statement import Claim, Packer
from fedmodel.audit.evidence import OF_A_SITE, site_of
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested, passed
from fedmodel.errors import ProtocolError
from fedmodel.identity.names import grouped, same_fingerprint

__all__ = ["BUNDLE"]

_NO_BUNDLE = "the evidence isn't a bundle"
_MOST = 10


def _bundle(records: Records) -> BundleEvidence | None:
    return records.evidence if isinstance(records.evidence, BundleEvidence) else None


def _who(packer: Packer) -> str:
    return f"{packer.name!r} ({packer.role}), of fingerprint {grouped(packer.fingerprint)}"


def _signed(records: Records) -> Outcome:
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    packer = bundle.signed.claim.packer
    if bundle.signed.envelope.keyid != packer.fingerprint:
        return failed("it names another key's fingerprint than that of its packer's key")
    try:
        bundle.signed.check()
    except ProtocolError as error:
        return failed(str(error))
    return passed(f"by {_who(packer)}")


def _parts(records: Records) -> Outcome:
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    if changed := bundle.changed:
        return failed("it has another SHA-256 than its packer has signed", changed[0])
    return passed(f"{len(bundle.signed.parts)} files")


def _run(records: Records) -> Outcome:
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    claim = bundle.signed.claim
    if (claim.run, claim.job_sha256) != (records.run, records.manifest.job_sha256):
        return failed(
            f"it says that it is of run {claim.run!r:.80}, job {claim.job_sha256[:16]}…, and the "
            "manifest in it is another's"
        )
    return PASSED


def _lacking(records: Records) -> Outcome:
    """Hold whose ledgers aren't in it, by its packer's word, against whose aren't."""
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    if records.job.value is None:
        return not_tested("there is no job that can be read")
    told = bundle.signed.claim.lacking
    found = records.absent(site.name for site, _ in records.with_ledgers())
    if told == found:
        return passed(f"{len(found)} lacking, and named" if found else "none is lacking")
    return failed(
        f"its packer says that it lacks {_ledgers_of(told)}, and it lacks {_ledgers_of(found)}: a "
        "ledger was taken out or put in before it was signed"
    )


def _ledgers_of(sites: Sequence[str]) -> str:
    return f"the ledgers of {listed(sites, _MOST)}" if sites else "no ledger"


def _packer(records: Records) -> Outcome:
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    packer, wanted = bundle.signed.claim.packer, bundle.packer
    if wanted is not None:
        if same_fingerprint(wanted, packer.fingerprint):
            return passed("its key is the one that you gave")
        return failed(f"{_who(packer)} has packed it, and you gave {wanted:.80}")
    if packer.role == "other":
        return not_tested(
            f"nobody here vouches for the key of {_who(packer)}; if it was read out to you, give "
            "it by packer="
        )
    roster = records.roster.value
    known = [*records.rosters.values(), *([] if roster is None else [roster])]
    if not known:
        return not_tested("there is no roster that would know its key; give it by packer=")
    if any(packer.key == each.coordinator for each in known) and packer.role == "coordinator":
        return passed("a roster has its key as the coordinator's")
    sites = {(member.name, member.key) for each in known for member in each.members}
    if packer.role == "site" and (packer.name, packer.key) in sites:
        return passed("a roster has its key as that site's")
    return failed(f"{_who(packer)} has packed it, and no roster here has that key in that role")


def _handed_in(records: Records, site: SiteRecords) -> Outcome:
    if (bundle := _bundle(records)) is None:
        return not_tested(_NO_BUNDLE)
    signed = bundle.handed.get(site.name)
    if signed is None:
        return not_tested("its parts are here by the packer's word: it has signed no statement")
    if (why := _another(records, site, signed.claim)) is not None:
        return failed(why)
    try:
        signed.check()
    except ProtocolError as error:
        return failed(f"its statement: {error}")
    for name, digest in signed.parts.items():
        if bundle.digest(name) != digest:
            return failed("it isn't as the site has handed it in", name)
    for name in _of_site(bundle, site.name):
        if name not in signed.parts:
            return failed("the site hasn't handed that in", name)
    return passed(f"signed by the site, {len(signed.parts)} files")


def _of_site(bundle: BundleEvidence, site: str) -> Iterator[str]:
    for kind in OF_A_SITE:
        yield from (name for name in bundle.names(kind) if site_of(kind, name) == site)


def _another(records: Records, site: SiteRecords, claim: Claim) -> str | None:
    """Return why a statement isn't this site's of this run."""
    if (claim.packer.role, claim.packer.name) != ("site", site.name):
        return f"the statement under its name is that of {_who(claim.packer)}"
    if (claim.run, claim.job_sha256) != (records.run, records.manifest.job_sha256):
        return f"its statement is of another run or job, {claim.run!r:.80}"
    opened = None if site.ledger is None else site.ledger.opened
    if opened is not None and opened.key != claim.packer.key:
        return "its statement is signed by another key than its ledger is under"
    if records.keys.get(site.name, claim.packer.key) != claim.packer.key:
        return "its statement is signed by another key than the roster has for it"
    return None


BUNDLE = Family(
    name="bundle",
    rules=(
        Rule(
            name="bundle-signed",
            says="The bundle's statement is signed by the key of the packer whom it names. Only in "
            "a bundle, as are the next five.",
            run=_signed,
        ),
        Rule(
            name="bundle-parts",
            says="Each part is, byte for byte, the one that was signed for.",
            run=_parts,
        ),
        Rule(
            name="bundle-run",
            says="The bundle is of the run and the job that its manifest names.",
            run=_run,
        ),
        Rule(
            name="bundle-packer",
            says="The packer's key is the one that you give (`packer=`), or one that a roster has "
            "in the packer's role.",
            run=_packer,
        ),
        Rule(
            name="bundle-lacking",
            says="The ledgers that it lacks, of sites that took part in a private run, are those "
            "that its packer names.",
            run=_lacking,
        ),
        Rule(
            name="bundle-handed-in",
            says="What is here of a site is what the site itself has handed in, under a statement "
            "signed by its key.",
            site=_handed_in,
        ),
    ),
)
