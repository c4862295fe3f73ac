"""Which hosts may be loaded: those of this machine's loopback, and nothing else yet."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from loadtest.errors import InputError

_URL_SAFE: Final = re.compile(r"[\x21-\x7e]+")
"""What a request line and a Host header can carry. urlsplit drops some of the rest silently."""


@dataclass(frozen=True, slots=True)
class Target:
    """A base URL that may be loaded, resolved to one numeric loopback address."""

    url: str
    scheme: str
    address: str
    host: str
    """As the Host header wants it: with the port, where it was given."""
    server_name: str
    port: int
    prefix: str
    """Path before ``/v1``, without a slash at its end."""


def allow(url: str) -> Target:
    """Check that a base URL is one that may be loaded.

    Names are resolved once and here: what is connected to later is the address that was checked.

    Raises:
        InputError: if it is no http(s) URL, carries a user name or a query, or is not loopback.
    """
    if "@" in url:
        # Before anything that would show the URL.
        raise InputError(
            "the target's URL carries a user name or password", "Leave it out: keys come from WORKFLOW_API_KEYS."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is no URL: {error}", "Write it as http://127.0.0.1:8000.") from None
    is_base = parts.scheme in {"http", "https"} and parts.hostname and not {"?", "#", "\\"} & set(url)
    if not is_base or not _URL_SAFE.fullmatch(url) or port == 0:
        raise InputError(f"{url!r} is no base URL", "Write it as http://127.0.0.1:8000.")
    port = port or (443 if parts.scheme == "https" else 80)
    return Target(
        url=url.rstrip("/"),
        scheme=parts.scheme,
        address=_loopback(parts.hostname, port),
        host=parts.netloc,
        server_name=parts.hostname,
        port=port,
        prefix=parts.path.rstrip("/"),
    )


def _loopback(host: str, port: int) -> str:
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise InputError(f"the host {host!r} cannot be resolved: {error}", "Check its spelling.") from None
    addresses = [str(address) for address in found]
    if not addresses or not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise InputError(
            f"{host!r} is not a loopback address, and only this machine may be loaded",
            "Leave out --host to load the embedded target, or give http://127.0.0.1:PORT.",
        )
    # 127.0.0.1 first: a server that was started by hand more often listens there than on ::1.
    return min(addresses, key=len) if "127.0.0.1" not in addresses else "127.0.0.1"
