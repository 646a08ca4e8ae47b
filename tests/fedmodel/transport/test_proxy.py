"""Which proxy applies, by the site's own word and the environment's; a useless one is named."""

from collections.abc import Mapping

import pytest

from clients.site_file import Link
from fedmodel.errors import ConfigError
from fedmodel.transport.proxy import Proxy, route_to

ADDRESS = "fl.example.org:8443"
ONE, TWO = "http://one.example:3128", "http://two.example:3128"


def test_nothing_is_set() -> None:
    route = route_to(ADDRESS, None, {})
    assert (route.proxy, str(route)) == (None, "directly (no proxy is set)")


@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({"https_proxy": ONE}, "https_proxy"),
        ({"HTTPS_PROXY": ONE}, "HTTPS_PROXY"),
        ({"all_proxy": ONE}, "all_proxy"),
        ({"ALL_PROXY": ONE}, "ALL_PROXY"),
        ({"https_proxy": ONE, "HTTPS_PROXY": TWO}, "https_proxy"),
        ({"HTTPS_PROXY": ONE, "all_proxy": TWO}, "HTTPS_PROXY"),
        ({"https_proxy": "", "ALL_PROXY": ONE}, "ALL_PROXY"),
        ({"https_proxy": ONE, "http_proxy": TWO}, "https_proxy"),
        ({"https_proxy": ONE, "grpc_proxy": TWO}, "https_proxy"),
    ],
    ids=lambda each: "+".join(each) if isinstance(each, dict) else "",
)
def test_the_environment_in_both_spellings(environment: Mapping[str, str], used: str) -> None:
    route = route_to(ADDRESS, None, environment)
    assert (route.url, route.why) == (ONE, used)


def test_an_empty_small_spelling_turns_the_large_one_off() -> None:
    assert route_to(ADDRESS, None, {"https_proxy": "", "HTTPS_PROXY": ONE}).proxy is None


def test_a_proxy_for_plain_http_isnt_used_and_that_is_told() -> None:
    route = route_to(ADDRESS, None, {"HTTP_PROXY": ONE})
    assert str(route) == "directly (HTTP_PROXY is for plain HTTP, and https_proxy isn't set)"


@pytest.mark.parametrize("never", ["none", "None", "NONE"])
def test_the_sites_own_word_counts_before_the_environment(never: str) -> None:
    environment = {"https_proxy": ONE, "no_proxy": "*"}
    assert route_to(ADDRESS, TWO, environment).url == TWO
    assert str(route_to(ADDRESS, never, environment)) == "directly (coordinator.proxy is none)"


@pytest.mark.parametrize(
    ("rules", "address", "direct"),
    [
        ("*", ADDRESS, True),
        ("example.org", ADDRESS, True),
        (".example.org", ADDRESS, True),
        ("*.example.org", ADDRESS, True),
        (".EXAMPLE.org.", "FL.Example.ORG:8443", True),
        ("fl.example.org", ADDRESS, True),
        ("fl.example.org", "fl.example.org.:8443", True),
        (" a.test ,\tfl.example.org ", ADDRESS, True),
        ("a.test fl.example.org", ADDRESS, True),
        ("fl.example.org:8443", ADDRESS, True),
        ("fl.example.org:443", ADDRESS, False),
        ("ample.org", ADDRESS, False),
        ("example.org.test", ADDRESS, False),
        ("x.fl.example.org", ADDRESS, False),
        ("", ADDRESS, False),
        (",.,", ADDRESS, False),
        ("10.0.0.0/8", "10.1.2.3:8443", True),
        ("10.0.0.0/8", "11.1.2.3:8443", False),
        ("10.0.0.0/8", ADDRESS, False),
        ("10.1.2.3", "10.1.2.3:8443", True),
        ("10.1.2.3:1", "10.1.2.3:8443", False),
        ("0.1.2.3", "10.0.1.2.3.example:8443", False),
        ("fd00::/8", "[fd00::1]:8443", True),
        ("[fd00::1]", "[fd00::1]:8443", True),
        ("[fd00::1]:8443", "[fd00::1]:8443", True),
        ("::1", "[fd00::1]:8443", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy(rules: str, address: str, direct: bool, name: str) -> None:
    route = route_to(address, None, {"HTTPS_PROXY": ONE, name: rules})
    assert (route.proxy is None) == direct
    assert (name in route.why) == direct


def test_a_login_is_percent_encoded_and_never_shown() -> None:
    proxy = Proxy.parse("http://dom%5cus%20er:p%40s%3As%2F@proxy.example:3128/", "https_proxy")
    assert (proxy.user, proxy.password) == ("dom\\us er", "p@s:s/")
    assert proxy.url == "http://dom%5Cus%20er:p%40s%3As%2F@proxy.example:3128"
    # RFC 7617, 2: the base64 of user, colon, password
    assert proxy.authorization == "Basic ZG9tXHVzIGVyOnBAczpzLw=="
    route = route_to(ADDRESS, proxy.url, {})
    assert "p@s" not in f"{proxy} {proxy!r} {route} {route!r}"
    assert str(route) == "through the proxy http://proxy.example:3128 (coordinator.proxy)"
    link = Link(address=ADDRESS, proxy=proxy.url)
    assert "proxy.example" not in repr(link)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("user:pw@proxy.example:3128", "http://user:pw@proxy.example:3128"),
        ("http://user@proxy.example:3128", "http://user:@proxy.example:3128"),
        ("HTTP://proxy.example", "http://proxy.example:80"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("http://us%C3%A9r:p%C3%A4@10.0.0.1:8080", "http://us%C3%A9r:p%C3%A4@10.0.0.1:8080"),
    ],
)
def test_spellings_of_a_proxy(text: str, url: str) -> None:
    assert Proxy.parse(text, "https_proxy").url == url


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://user:hunter2@proxy.example:3128", "https_proxy names a proxy that is reached by"),
        ("socks5://user:hunter2@proxy.example:1080", "of kind 'socks5'"),
        ("socks5h://proxy.example:1080", "of kind 'socks5h'"),
        ("socks4://proxy.example:1080", "isn't supported"),
        ("ftp://proxy.example:21", "only an HTTP proxy that takes CONNECT"),
        ("http://user:hunter2#x@proxy.example:3128", "percent-encoded"),
        ("http://user:hunter2/x@proxy.example:3128", "percent-encoded"),
        ("http://user:hunter2", "got 'http://…'"),
        ("user:hunter2", "got '…'"),
        ("http://us%3Aer:hunter2@proxy.example:3128", "a colon in its name"),
        ("http://proxy.example:99999", "must be a proxy's URL"),
        ("http://proxy.example:3128/path", "must be a proxy's URL"),
        ("http://proxy.example:3128?q", "must be a proxy's URL"),
        ("http://prox y.example:3128", "must be a proxy's URL"),
        ("http://:3128", "must be a proxy's URL"),
        ("off", "must be a proxy's URL"),
        ("proxy.example", "must be a proxy's URL"),
    ],
)
def test_a_proxy_that_cant_be_used_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        route_to(ADDRESS, None, {"https_proxy": text})
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"^coordinator\.proxy") as raised:
        Link(proxy=text)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        *("fl.example.org", ":8443", "fl.example.org:0", "[]:1", "a:99999", "a:٣", "a:-1"),
        *("https://fl.example.org:8443", "fl.example.org/x:8443", "me@fl.example.org:1", "a b:1"),
    ],
)
def test_what_isnt_an_address(address: str) -> None:
    with pytest.raises(ConfigError, match="expected a host name and a port"):
        route_to(address, None, {})
