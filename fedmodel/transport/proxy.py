"""Proxies: which one a site's connection goes through, by its own file and by the environment.

gRPC's own reading of the environment isn't used: it knows no capitals, takes ``http_proxy`` for TLS
too, and dials direct without a word where it doesn't know a proxy's scheme. Here a proxy that can't
be used is an error, and what applies is told with its reason. A password never is.
"""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import quote, unquote, urlsplit

from fedmodel.errors import ConfigError

__all__ = ["NEVER", "Proxy", "Route", "check_own_proxy", "route_to", "split_address"]

NEVER = "none"
"""What a site's file says where its connection goes through no proxy, whatever is set."""

_VARIABLES = ("https_proxy", "all_proxy")
_NOT_OURS = "http_proxy"
_KEY = "coordinator.proxy"
_HOST = re.compile(r"[^\s/@?#\[\]]+")
_SUPPORTED = "http://[USER:PASSWORD@]HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy that takes ``CONNECT`` (RFC 9110, 9.3.6).

    Args:
        host: its name or IP address.
        port: where it listens.
        user: for Basic authentication (RFC 7617); ``None``: without.
        password: likewise.
    """

    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, where: str) -> "Proxy":
        """Return the proxy of a URL.

        Args:
            text: the URL; ``HOST:PORT`` is one of ``http``. Letters of user and password that mean
                something in a URL are percent-encoded (``p%40ss``).
            where: it stands, for messages.

        Raises:
            ConfigError: for one that isn't supported, or isn't a URL; without user and password.
        """
        shown = _without_login(text)
        bare = "://" not in text
        whole = f"http://{text}" if bare else text
        try:
            found = urlsplit(whole)
            host, port = found.hostname, found.port or (None if bare else 80)
        except ValueError:
            raise _unlike(where, shown) from None
        if found.scheme != "http":
            raise _unsupported(where, shown, found.scheme)
        rest = (found.path.strip("/"), found.query, found.fragment)
        # A word alone, such as off, is no host that somebody means.
        if not port or any(rest) or not re.fullmatch(r"[!-~]+", whole) or not _is_host(host or ""):
            raise _unlike(where, shown)
        user = None if found.username is None else unquote(found.username)
        if user is not None and ":" in user:
            raise ConfigError(
                f"{where}: the user of the proxy {shown} has a colon in its name, which Basic "
                "authentication (RFC 7617) has no room for; use another user"
            )
        return cls(host=host or "", port=port, user=user, password=unquote(found.password or ""))

    @property
    def at(self) -> str:
        """Its host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its URL with user and password: for gRPC, never for a message."""
        login = ""
        if self.user is not None:
            login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"
        return f"http://{login}{self.at}"

    @property
    def authorization(self) -> str | None:
        """What it is told of who asks, as a field's value; ``None``: nothing."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __str__(self) -> str:
        return f"http://{self.at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How an address is reached.

    Args:
        proxy: that the connection goes through; ``None``: none.
        why: where that is said, for the log.
    """

    proxy: Proxy | None
    why: str

    @property
    def url(self) -> str | None:
        """The proxy's URL with user and password: for gRPC, never for a message."""
        return None if self.proxy is None else self.proxy.url

    def __str__(self) -> str:
        how = "directly" if self.proxy is None else f"through the proxy {self.proxy}"
        return f"{how} ({self.why})"


def check_own_proxy(text: str) -> None:
    """Check what a site's file says of its proxy.

    Args:
        text: ``coordinator.proxy``: a URL or ``none``.

    Raises:
        ConfigError: when it can't be used.
    """
    if text.lower() != NEVER:
        Proxy.parse(text, _KEY)


def route_to(address: str, own: str | None, environment: Mapping[str, str] | None = None) -> Route:
    """Return how an address is reached.

    Args:
        address: host and port that are dialled.
        own: what the site's file says, ``coordinator.proxy``: a URL, ``none`` (never through a
            proxy), or ``None``: as the environment says.
        environment: ``https_proxy`` counts, else ``all_proxy``, unless ``no_proxy`` has the host;
            each also in capitals, of which the small one counts where both are there, also an empty
            one. ``None``: this process's.

    Raises:
        ConfigError: when the proxy that applies can't be used: it isn't passed by.
    """
    host, port = split_address(address)
    if own is not None:
        if own.lower() == NEVER:
            return Route(proxy=None, why=f"{_KEY} is {NEVER}")
        return Route(proxy=Proxy.parse(own, _KEY), why=_KEY)
    environment = os.environ if environment is None else environment
    for variable in _VARIABLES:
        name, text = _said(variable, environment)
        if not text:
            continue
        exempt, rules = _said("no_proxy", environment)
        for rule in re.split(r"[,\s]+", rules):
            if rule and _applies(rule.lower(), host, port):
                return Route(proxy=None, why=f"{exempt} has {rule:.80}, {name} isn't used")
        return Route(proxy=Proxy.parse(text, name), why=name)
    name, text = _said(_NOT_OURS, environment)
    why = f"{name} is for plain HTTP, and https_proxy isn't set" if text else "no proxy is set"
    return Route(proxy=None, why=why)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an IPv6 address stands there in brackets.

    Raises:
        ConfigError: when it isn't one.

    >>> split_address("fl.example.org:8443")
    ('fl.example.org', 8443)
    >>> split_address("[::1]:8443")
    ('::1', 8443)
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (
        _HOST.fullmatch(bare) and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16
    ):
        raise ConfigError(
            f"expected a host name and a port and nothing else, such as fl.example.org:8443, got "
            f"{address!r:.100}"
        )
    return bare, int(port)


def _said(variable: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return a variable's name as it is spelt, and its text; empty when there is none."""
    for name in (variable, variable.upper()):
        if name in environment:
            return name, environment[name].strip()
    return variable, ""


def _applies(rule: str, host: str, port: int) -> bool:
    """Return whether an entry of ``no_proxy`` names a host, a domain above it, or its network."""
    host = host.lower().rstrip(".")
    if rule == "*":
        return True
    try:
        return ip_address(host) in ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        rule = name
    rule = rule.strip("[]").removeprefix("*").strip(".")
    return bool(rule) and (host == rule or host.endswith(f".{rule}"))


def _without_login(text: str) -> str:
    """Return a URL as it may be shown: nothing before its last @ but the scheme."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    _, at, place = rest.rpartition("@")
    if not at and not re.fullmatch(r"[^:/?#]*(:\d*)?/?|\[[\da-fA-F:.]*\](:\d*)?/?", place):
        place = "…"  # it may be a login without its host
    return f"{scheme}{separator}{'…@' if at else ''}{place}"[:120]


def _is_host(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"[\w.-]+", text, re.ASCII)) or ip_address(text).version == 6
    except ValueError:
        return False


def _unlike(where: str, shown: str) -> ConfigError:
    return ConfigError(
        f"{where} must be a proxy's URL such as http://proxy.example.org:3128, got {shown!r}; "
        f"expected {_SUPPORTED}, with what means something in a URL percent-encoded (@ is %40)"
    )


def _unsupported(where: str, shown: str, scheme: str) -> ConfigError:
    what = "that is reached by TLS" if scheme == "https" else f"of kind {scheme[:20]!r}"
    return ConfigError(
        f"{where} names a proxy {what} ({shown}), which isn't supported: only an HTTP proxy that "
        f"takes CONNECT is ({_SUPPORTED}; many take it at the same port). Nothing is dialled past "
        f"it; write the right one in site.yaml under {_KEY}, or {NEVER} to dial directly"
    )
