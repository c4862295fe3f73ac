"""Base URLs: read strictly, and resolved here only, so that what is connected to is an address that was checked."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from loadtest.errors import InputError

_URL_SAFE: Final = re.compile(r"[\x21-\x7e]+")
"""What a request line and a Host header can carry. urlsplit drops some of the rest silently."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class UnresolvedError(InputError):
    """A host name that has no address."""


Server = tuple[str, str, int]
"""Scheme, host in lower case, port: two URLs with the same three mean the same server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A base URL that may be loaded, resolved to numeric addresses."""

    url: str
    scheme: str
    address: str
    host: str
    """Value of the Host header: with the port, where the URL has one."""
    server_name: str
    port: int
    prefix: str
    """Path before ``/v1``, without a slash at its end."""
    loopback: bool = True
    """Whether every address of the host is of this machine's loopback."""
    addresses: tuple[str, ...] = ()
    """All numeric addresses of the host, ``address`` first."""


def server_of(url: str) -> Server:
    """The server that a base URL means.

    Raises:
        InputError: if it is no http(s) URL, or carries a user name, a query or a fragment.
    """
    return _server(_split(url))


def resolve(url: str) -> Target:
    """Read a base URL and resolve its host.

    Raises:
        InputError: as ``server_of``, or if the host cannot be resolved.
    """
    parts = _split(url)
    scheme, host, port = _server(parts)
    addresses = _addresses(host, port)
    loopback = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    address = addresses[0]
    if loopback:
        # 127.0.0.1 first: a server that was started by hand more often listens there than on ::1.
        address = "127.0.0.1" if "127.0.0.1" in addresses else min(addresses, key=len)
    return Target(
        url=url.rstrip("/"),
        scheme=scheme,
        address=address,
        host=parts.netloc,
        server_name=host,
        port=port,
        prefix=parts.path.rstrip("/"),
        loopback=loopback,
        addresses=tuple(dict.fromkeys([address, *addresses])),
    )


def _split(url: str) -> SplitResult:
    if "@" in url:
        # Before anything that would show the URL.
        raise InputError(
            "the target's URL carries a user name or password", "Leave it out: keys come from WORKFLOW_API_KEYS."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is not a URL: {error}", "Write it as http://127.0.0.1:8000.") from None
    is_base = parts.scheme in _DEFAULT_PORTS and parts.hostname and not {"?", "#", "\\"} & set(url)
    if not is_base or not _URL_SAFE.fullmatch(url) or port == 0:
        raise InputError(f"{url!r} is not a base URL", "Write it as http://127.0.0.1:8000.")
    return parts


def _server(parts: SplitResult) -> Server:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise UnresolvedError(f"the host {host!r} cannot be resolved: {error}", "Check its spelling.") from None
    if not found:
        raise UnresolvedError(f"the host {host!r} has no address", "Check its spelling.")
    return found
