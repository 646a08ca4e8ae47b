"""A site's or a coordinator's part: its keys, its request, and what it takes over."""

from pathlib import Path

from fedmodel._hazmat import fingerprint
from fedmodel._text import listed
from fedmodel.errors import ConfigError, IdentityError, LedgerError, RefusedError
from fedmodel.identity.certificates import Purpose
from fedmodel.identity.handed import signed_roster_in, text_of
from fedmodel.identity.home import PartyHome
from fedmodel.identity.names import grouped, same_fingerprint
from fedmodel.identity.party import PartyFile
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.trust import TRUST, read_trust
from fedmodel.identity.validity import as_text
from fedmodel.provision import show
from fedmodel.provision.ask import Ask
from fedmodel.provision.site_file import SITE_FILE, write_site_file

__all__ = ["provision_party", "standing"]


def provision_party(ask: Ask) -> int:
    """Do what a site or a coordinator asks; return the exit code.

    Raises:
        FedmodelError: when something is missing, wrong or can't be relied on.
    """
    home = PartyHome(ask.folder)
    if not home.exists:
        _make(ask, home)
        return 0
    party = _same(ask, home)
    _write_rules(ask, home, party)
    if ask.renew is not None:
        _renew(ask, home)
        return 0
    if ask.roster is not None or ask.certificate is not None:
        _take(ask, home)
    standing(home, party)
    return 0


def _make(ask: Ask, home: PartyHome) -> None:
    role: Purpose = "coordinator" if ask.role == "coordinator" else "site"
    if ask.name is None:
        raise ConfigError(f"{ask.home} has no {role} yet; to make one, say name=<its name>")
    if role == "coordinator" and ask.tls is None:
        raise ConfigError("a coordinator needs tls=<the host name or IP address that sites dial>")
    if ask.roster or ask.certificate or ask.confirm or ask.renew:
        raise ConfigError(
            f"{ask.home} has no {role} yet; make it first, with home= and name= alone"
        )
    passphrase = read_passphrase(ask.passphrase, new=True)
    party = home.make(
        "coordinator" if role == "coordinator" else "site", ask.name, ask.tls, passphrase
    )
    show.say(f"the {role} {ask.name!r} has keys of its own now, in {home.folder}")
    _write_rules(ask, home, party)
    standing(home, party)


def _write_rules(ask: Ask, home: PartyHome, party: PartyFile) -> None:
    """Write the site's file, where there is none; what a site's people have written stays.

    Raises:
        LedgerError: when it can't be written.
    """
    if party.owner.role != "site":
        return
    path, preset = home.folder / SITE_FILE, ask.preset or "strict"
    try:
        written = write_site_file(home.folder, party.owner.name, preset)
    except OSError as error:
        raise LedgerError(f"can't write {path}: {error.strerror}") from error
    if written:
        show.say(f"what it brings and allows stands in {path}, to be filled in (preset={preset})")
    elif ask.preset is not None:
        raise ConfigError(
            f"{path} is there already and was left as it is; set its rules in it, or move it away"
        )


def _same(ask: Ask, home: PartyHome) -> PartyFile:
    """Return who is in the folder, if that is who is meant."""
    party = home.read()
    owner = party.owner
    for key, asked, there in (
        ("role", ask.role, owner.role),
        ("name", ask.name, owner.name),
        ("tls", ask.tls, owner.tls),
    ):
        if asked is not None and asked != there:
            raise ConfigError(
                f"{home.folder} has the {owner.role} {owner.name!r} ({key}={there}), not {key}="
                f"{asked}; nothing was changed. Another party needs another folder, home=PATH"
            )
    return party


def _renew(ask: Ask, home: PartyHome) -> None:
    passphrase = read_passphrase(ask.passphrase) if home.sealed else None
    request = home.renew(passphrase)
    show.say(f"a new TLS key for {request.owner.name!r} waits for its certificate.")
    show.say("Until that is taken over, the old one stays in use. The identity key has signed the")
    show.say("request, so the consortium needs no call to sign it.")
    show.fingerprint("the request", request.fingerprint)
    show.steps(
        "next:",
        [
            f"send {home.request_path} to the consortium (nothing in it is secret)",
            "take over the certificate: "
            + show.command(role=ask.role, home=home.folder, certificate="CERTIFICATE.pem"),
        ],
    )


def _take(ask: Ask, home: PartyHome) -> None:
    roster = None if ask.roster is None else signed_roster_in(ask.file("roster"))
    certificate = None if ask.certificate is None else text_of(ask.file("certificate"))
    first = read_trust(home.folder / TRUST) is None
    if roster is not None and (first or ask.confirm is not None):
        _confirm(ask, home, roster, first=first)
    before = home.roster()
    home.take(roster, certificate, confirmed=first)
    show.say(f"taken over in {home.folder}")
    if roster is not None and before is not None:
        for change in roster.changes_since(before):
            show.say(f"  since version {before.version}: {change}")


def _confirm(ask: Ask, home: PartyHome, roster: SignedRoster, *, first: bool) -> None:
    """Check that a person has heard the fingerprint of the consortium from itself.

    Raises:
        RefusedError: when nobody has.
        IdentityError: when what was heard is another one.
    """
    digits = fingerprint(bytes.fromhex(roster.consortium))
    show.say(f"{'the first' if first else 'a'} roster here. By its own word it is:")
    show.facts([("of the consortium", roster.name), ("lists", as_text_of(roster))])
    show.fingerprint("the consortium's key", digits)
    show.say()
    heard = ask.confirm or show.ask_at_terminal(
        "Phone the consortium, by a number that you had before, and type the fingerprint that you "
        "hear:"
    )
    if not heard:
        raise RefusedError(
            "nothing was taken over: whoever made this file could name himself so. Phone the "
            "consortium, by a number that you had before, have its fingerprint read to you, and "
            "repeat the command with confirm=FINGERPRINT"
        )
    if not same_fingerprint(heard, digits):
        home.log.add("refused", why="another fingerprint was confirmed", consortium=digits)
        raise IdentityError(
            f"the roster is signed by {grouped(digits)}, and you have heard another fingerprint; "
            "nothing was taken over. If you have typed it right, this isn't your consortium's file"
        )


def as_text_of(roster: SignedRoster) -> str:
    """Return whom a roster lists."""
    sites = f"{len(roster.members)} site{'s' * (len(roster.members) != 1)}"
    return f"{sites} and the coordinator {roster.coordinator_name!r} at {roster.coordinator_tls}"


def standing(home: PartyHome, party: PartyFile) -> None:
    """Print who a party is, what it has, and what it needs next."""
    owner, roster, certificate = party.owner, home.roster(), home.certificate()
    pairs = [
        (owner.role, owner.name),
        ("identity", grouped(party.identity)),
        ("name in TLS", owner.tls),
        ("private keys", _protection(sealed=home.sealed)),
    ]
    if roster is not None:
        pairs += [
            (
                "consortium",
                f"{roster.name}, {grouped(fingerprint(bytes.fromhex(roster.consortium)))}",
            ),
            ("roster", f"version {roster.version}: {as_text_of(roster)}"),
            ("sites", listed([member.name for member in roster.members], 20)),
            ("roster until", roster.expires),
        ]
    if certificate is not None:
        pairs.append(("certificate until", as_text(certificate.end)))
    show.facts(pairs)
    show.say(f"  {show.log_state(home.log)}")
    for warning in home.warnings():
        show.say(f"warning: {warning}")
    if certificate is None or home.request_path.parent != home.folder:
        _next(home, party, first=roster is None)
    elif any("certificate" in warning for warning in home.warnings()):
        renew = show.command(role=owner.role, home=home.folder, renew="tls")
        show.steps("next:", [f"ask for a new certificate: {renew}"])


def _protection(*, sealed: bool) -> str:
    if sealed:
        return "sealed under a passphrase (scrypt, AES-256-GCM), mode 0600"
    return "not encrypted; for this account alone (mode 0600)"


def _next(home: PartyHome, party: PartyFile, *, first: bool) -> None:
    request = home.request()
    show.fingerprint("the request, to be read out", request.fingerprint)
    keys: dict[str, str | Path] = {"role": party.owner.role, "home": home.folder}
    if first:
        keys["roster"] = "roster.json"
    keys["certificate"] = f"{party.owner.tls}.pem"
    if first:
        keys["confirm"] = "FINGERPRINT"
    steps = [f"send {home.request_path} to the consortium (nothing in it is secret)"]
    if first:
        steps.append("when it phones: read the fingerprint above to it, and note down its own")
    steps.append(f"take over what it hands out: {show.command(**keys)}")
    show.steps("next:", steps)
