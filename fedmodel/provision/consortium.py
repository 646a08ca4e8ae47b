"""A consortium's part: whom it admits, renews and revokes, and the roster that follows."""

from datetime import datetime

from fedmodel._hazmat import fingerprint
from fedmodel.errors import ConfigError, FedmodelError, IdentityError, RefusedError
from fedmodel.identity.certificates import read_certificate
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import request_in
from fedmodel.identity.names import grouped, same_fingerprint
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.identity.register import Consortium, Party
from fedmodel.identity.request import PartyRequest
from fedmodel.identity.validity import as_text, as_time, ending, utc_now
from fedmodel.provision import show
from fedmodel.provision.ask import Ask

__all__ = ["admitted", "provision_consortium"]


def provision_consortium(ask: Ask) -> int:
    """Do what a consortium asks; return the exit code: 1 where a request waits for a call.

    Raises:
        FedmodelError: when something is missing, wrong or can't be relied on.
    """
    home = ConsortiumHome(ask.folder)
    if not home.exists:
        _make(ask, home)
        return 0
    passphrase = read_passphrase(ask.passphrase) if home.sealed else None
    with home.opened(passphrase) as found:
        if ask.name is not None and ask.name != found.register.name:
            raise ConfigError(
                f"{home.folder} has the consortium {found.register.name!r}; nothing was changed. "
                "Another one needs another folder, home=PATH"
            )
        if ask.request is not None:
            _sign(ask, home, found)
        elif ask.revoke is not None:
            _revoke(ask, home, found)
        elif ask.renew is not None:
            changed = found.issued(utc_now(), ask.days, anew=True)
            if changed is found:
                raise RefusedError("there is no roster to renew: it takes a coordinator and a site")
            _save(home, found, changed)
            _told(home, changed)
        else:
            _standing(ask, home, found)
    return 0


def _command(ask: Ask, **keys: str) -> str:
    """Return a command of this consortium to type."""
    if ask.passphrase is not None:
        keys["passphrase"] = ask.passphrase
    return show.command(role="consortium", home=ask.home, **keys)


def _make(ask: Ask, home: ConsortiumHome) -> None:
    if ask.name is None:
        raise ConfigError(f"{ask.home} has no consortium yet; to make one, say name=<its name>")
    if ask.request or ask.revoke or ask.renew:
        raise ConfigError(f"{ask.home} has no consortium yet; make it first, with name= alone")
    made = home.make(ask.name, read_passphrase(ask.passphrase, new=True))
    show.say(f"the consortium {ask.name!r} has keys and an authority now, in {home.folder}")
    _standing(ask, home, made)


# -- requests ------------------------------------------------------------------------------------


def _sign(ask: Ask, home: ConsortiumHome, found: Consortium) -> None:
    try:
        request = request_in(ask.file("request"))
        reason = found.unconfirmed(request)
    except FedmodelError as error:
        home.log.add("request-refused", file=str(ask.request), why=str(error))
        raise
    _show_request(request, reason)
    known = found.register.of_name(request.owner.name)
    if known is not None and known.request == request.fingerprint:
        show.say()
        show.say("it was signed before; nothing was changed")
        _told(home, found)
        return
    if reason is not None or ask.confirm is not None:
        show.fingerprint("this consortium, to be read to them", found.signer.fingerprint)
        _confirm(ask, home, request)
    changed = admitted(home, found, request, ask.days)
    _told(home, changed)
    steps = [f"send {home.certificate_path(request.owner.tls)} to who made the request"]
    if changed.register.roster != found.register.roster:
        steps.append(f"send {home.roster_path} to everybody on it")
    show.steps("next (none of it is secret):", steps)


def _show_request(request: PartyRequest, reason: str | None) -> None:
    owner = request.owner
    show.say(f"request of the {owner.role} {owner.name!r}")
    show.facts(
        [
            ("made", request.time),
            ("identity", grouped(request.identity)),
            ("name in TLS", owner.tls),
            ("a call", f"needed: {reason}" if reason else "not needed: its identity key signs it"),
        ]
    )
    show.fingerprint("the request", request.fingerprint)


def _confirm(ask: Ask, home: ConsortiumHome, request: PartyRequest) -> None:
    """Check that a person has heard the request's fingerprint from who made it.

    Raises:
        RefusedError: when nobody has.
        IdentityError: when what was heard is another one.
    """
    show.say()
    heard = ask.confirm or show.ask_at_terminal(
        "Phone its owner, by a number that you had before, and type the fingerprint that you hear:"
    )
    if not heard:
        home.log.add("request-shown", name=request.owner.name, request=request.fingerprint)
        again = _command(ask, request=str(ask.request), confirm="FINGERPRINT")
        raise RefusedError(
            "not signed: anybody can make such a file in that name. Phone its owner, by a number "
            "that you had before, have the fingerprint read to you, read yours, and type: " + again
        )
    if not same_fingerprint(heard, request.fingerprint):
        home.log.add(
            "request-refused",
            name=request.owner.name,
            request=request.fingerprint,
            why="another fingerprint was confirmed",
        )
        raise IdentityError(
            f"the request has the fingerprint {grouped(request.fingerprint)}, and you have heard "
            "another; nothing was signed. If you have typed it right, somebody has exchanged the "
            "file on its way"
        )


def admitted(
    home: ConsortiumHome, found: Consortium, request: PartyRequest, days: int
) -> Consortium:
    """Admit or renew a party, issue a roster, and write both; return the consortium after it.

    Args:
        home: opened.
        found: in it.
        request: whose fingerprint somebody has confirmed, where that is needed.
        days: that certificate and roster are good for.

    Raises:
        FedmodelError: when the request can't be granted, or nothing can be written.
    """
    now = utc_now()
    changed = found.admit(request, now, days).issued(now, days)
    party = changed.register.of_name(request.owner.name)
    if party is not None:
        home.log.add(
            "certificate-issued",
            role=party.owner.role,
            name=party.owner.name,
            tls=party.owner.tls,
            request=party.request,
            sha256=read_certificate(party.certificate).sha256,
        )
    _save(home, found, changed)
    return changed


def _save(home: ConsortiumHome, before: Consortium, after: Consortium) -> None:
    roster = after.register.signed_roster()
    if roster is not None and after.register.roster != before.register.roster:
        home.log.add("roster-issued", version=str(roster.version), roster=roster.sha256)
    home.save(after)


# -- revocation ----------------------------------------------------------------------------------


def _revoke(ask: Ask, home: ConsortiumHome, found: Consortium) -> None:
    name = str(ask.revoke)
    now = utc_now()
    changed = found.revoke(name).issued(now, ask.days)
    key = changed.register.revoked[-1].key
    home.log.add(
        "revoked", name=name, identity=fingerprint(bytes.fromhex(key)), why=ask.why or "not said"
    )
    _save(home, found, changed)
    show.say(f"{name!r} is revoked: its key is never on a roster again")
    _told(home, changed)
    if changed.register.roster is None:
        return  # there was none that anybody could go on trusting
    if changed.register.roster == found.register.roster:
        raise RefusedError(
            "no new roster could be issued, for that takes a coordinator and a site; admit one. "
            f"Until then whoever has the last roster goes on trusting {name!r}, until it expires"
        )
    show.steps(
        "next:",
        [
            f"send {home.roster_path} to everybody at once: whoever hasn't got it goes on trusting "
            f"{name!r} until the roster before expires"
        ],
    )


# -- what is said --------------------------------------------------------------------------------


def _standing(ask: Ask, home: ConsortiumHome, found: Consortium) -> None:
    register, now = found.register, utc_now()
    sealed = "sealed under a passphrase" if home.sealed else "not encrypted; for this account alone"
    show.facts(
        [
            ("consortium", register.name),
            ("private keys", f"{sealed} (mode 0600)"),
            ("admitted", f"{len(register.parties)}"),
            ("revoked", ", ".join(each.name for each in register.revoked) or "nobody"),
        ]
    )
    for party in register.parties:
        show.say(f"    {_party(party)}")
    show.say(f"  {show.log_state(home.log)}")
    show.fingerprint("the consortium, to read out to everybody", found.signer.fingerprint)
    _told(home, found)
    for warning in _warnings(found, now):
        show.say(f"warning: {warning}")
    if not register.complete:
        show.steps(
            "next:",
            [f"look at a request that somebody has sent: {_command(ask, request='request.json')}"],
        )


def _party(party: Party) -> str:
    end = as_text(read_certificate(party.certificate).end)
    return f"{party.owner.role} {party.owner.name!r} ({party.owner.tls}), certificate until {end}"


def _warnings(found: Consortium, now: datetime) -> list[str]:
    roster = found.register.signed_roster()
    end = read_certificate(found.register.authority).end
    told = [ending("the authority, without which nothing can be certified,", end, now)]
    for party in found.register.parties:
        end = read_certificate(party.certificate).end
        told.append(ending(f"the certificate of {party.owner.name!r}", end, now))
    if roster is not None:
        end = as_time(roster.expires)
        told.append(ending(f"version {roster.version} of the roster (renew=roster)", end, now))
        gone = {each.key for each in found.register.revoked}
        for member in roster.members:
            if member.key in gone:
                told.append(f"the roster still lists {member.name!r}, who is revoked")
        if roster.coordinator in gone:
            told.append(f"the roster still lists {roster.coordinator_name!r}, who is revoked")
    return [each for each in told if each]


def _told(home: ConsortiumHome, found: Consortium) -> None:
    """Say which roster there is."""
    roster = found.register.signed_roster()
    show.say()
    if roster is None:
        roles = {each.owner.role for each in found.register.parties}
        missing = [f"a {role}" for role in ("coordinator", "site") if role not in roles]
        show.say(f"there is no roster yet; it takes {' and '.join(missing)}")
        return
    show.say(
        f"roster: version {roster.version}, {len(roster.members)} site"
        f"{'s' * (len(roster.members) != 1)}, until {roster.expires}: {home.roster_path}"
    )
