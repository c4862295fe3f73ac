"""Which base URLs are of this machine, however they are spelt; and nothing else passes for one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import ExitCode, InputError
from loadtest.targets import allow


@pytest.mark.parametrize(
    ("url", "address", "port", "host", "prefix"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000", ""),
        ("http://127.0.0.1", "127.0.0.1", 80, "127.0.0.1", ""),
        ("https://127.0.0.1", "127.0.0.1", 443, "127.0.0.1", ""),
        ("http://127.0.0.1:8000/", "127.0.0.1", 8000, "127.0.0.1:8000", ""),
        ("http://127.0.0.1:8000/api/wf/", "127.0.0.1", 8000, "127.0.0.1:8000", "/api/wf"),
        ("http://127.9.8.7:1", "127.9.8.7", 1, "127.9.8.7:1", ""),
        ("http://[::1]:8000/x", "::1", 8000, "[::1]:8000", "/x"),
        ("HTTP://LOCALHOST:8000", "127.0.0.1", 8000, "LOCALHOST:8000", ""),
        # other spellings of 127.0.0.1, which the resolver turns into what is then connected to
        ("http://2130706433", "127.0.0.1", 80, "2130706433", ""),
        ("http://0x7f000001", "127.0.0.1", 80, "0x7f000001", ""),
        ("http://127.1", "127.0.0.1", 80, "127.1", ""),
    ],
)
def test_loopback_is_allowed(url: str, address: str, port: int, host: str, prefix: str) -> None:
    """The address that was checked is the one to connect to; the Host header is as it was written."""
    target = allow(url)
    assert (target.address, target.port, target.host, target.prefix) == (address, port, host, prefix)
    assert target.loopback


FOREIGN = [
    "http://10.0.0.1",
    "http://192.168.0.1:8000",
    "http://169.254.169.254",
    "http://[fe80::1]",
    "http://[2001:db8::1]",
    "http://0.0.0.0:8000",  # means this machine to some, but it is no loopback address
    "http://[::]:8000",
    "http://[::ffff:10.0.0.1]",
    "http://167772161",  # 10.0.0.1
    "http://0x0a000001",
    "http://128.1",
    "http://255.255.255.255",
]


@pytest.mark.parametrize("url", FOREIGN)
def test_what_is_not_loopback_is_refused(url: str) -> None:
    """Private, link-local, unspecified, mapped or oddly spelt: refused before anything is sent, exit code 2."""
    with pytest.raises(InputError, match="not a loopback address") as caught:
        allow(url)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is not a base URL"),
        ("127.0.0.1:8000", "is not a base URL"),
        ("//127.0.0.1:8000", "is not a base URL"),
        ("ftp://127.0.0.1", "is not a base URL"),
        ("file:///etc/hosts", "is not a base URL"),
        ("http://", "is not a base URL"),
        ("http:127.0.0.1", "is not a base URL"),
        ("http://127.0.0.1?", "is not a base URL"),
        ("http://127.0.0.1/?a=1", "is not a base URL"),
        ("http://127.0.0.1/#a", "is not a base URL"),
        ("http://127.0.0.1:0", "is not a base URL"),  # which would have become 80
        ("http://127.0.0.1\\.example.com", "is not a base URL"),
        ("http://127.0.0.1/a b", "is not a base URL"),
        ("http://127.0.0.1/\r\nx: y", "is not a base URL"),  # urlsplit would drop the line end silently
        ("http://127.0.0.1/\0", "is not a base URL"),
        (" http://127.0.0.1", "is not a base URL"),
        ("http://ⓛocalhost", "is not a base URL"),
        ("http://127.0.0.1:99999", "is not a URL"),
        ("http://127.0.0.1:x", "is not a URL"),
        ("http://127.0.0.1:-1", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://[::1]]", "is not a base URL"),
        ("http://nobody.invalid", "cannot be resolved"),
        ("http://127.0.0.1.invalid", "cannot be resolved"),
        ("http://127.0.0.1%2f.invalid", "cannot be resolved"),
        (f"http://{'a' * 300}.invalid", "cannot be resolved"),
    ],
)
def test_what_is_no_base_url_is_refused(url: str, words: str) -> None:
    """With the URL, and how one is written."""
    with pytest.raises(InputError, match=words):
        allow(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hidden@127.0.0.1",
        "http://hidden@10.0.0.1",
        "http://user:hidden@127.0.0.1:99999",
        "http://user:hidden@[::1",
        "ftp://user:hidden@127.0.0.1",
        "http:user:hidden@127.0.0.1",
        "http://127.0.0.1/user:hidden@example.com",
        "http://127.0.0.1\\@hidden.example.com",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    """A URL with a user name is refused for that alone, before a message that would repeat it."""
    with pytest.raises(InputError, match="contains a user name or password") as caught:
        allow(url)
    assert "hidden" not in str(caught.value)


urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0", "0.0.0.0", "127.0.0.1.", "10.1", "0177.1"])
    | st.integers(0, 2**32).map(str)
    | st.integers(0, 2**32 - 1).map(hex)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map("[{}]".format)
    # no letters, so that nothing is ever looked up
    | st.text("0123456789:[]%/\\@#?\t\n \0", max_size=12),
    st.sampled_from(["", ":", ":80", ":0", ":8000"]),
    st.sampled_from(["", "/", "/x", "//", "/../x"]),
)


@given(urls)
def test_nothing_but_loopback_ever_passes(url: str) -> None:
    """Whatever the spelling: an InputError, or an address that the standard library calls loopback."""
    try:
        target = allow(url)
    except InputError:
        return
    address = ipaddress.ip_address(target.address)
    assert address.is_loopback
    assert 1 <= target.port <= 65535
    assert "\n" not in target.host + target.prefix
