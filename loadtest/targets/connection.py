"""How to connect to a target: its checked address, the headers of its own, and the certificates of TLS.

Base URLs are read strictly, and resolved here only, so that what is connected to is an address that was checked.
"""

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from loadtest.errors import InputError, TargetError, WrongValueError
from loadtest.program import serve_command
from loadtest.record.run_info import REFUSED, TlsInfo

TARGETS_FILE: Final = Path("targets.toml")
_CONNECT_TIMEOUT: Final = 5.0
"""Seconds."""
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


def allow(url: str, *, listed: bool = False) -> Target:
    """Check, in the process that makes the load, that a base URL may be loaded.

    Names are resolved here and nowhere else, so every connection goes to a checked address, also where a name is looked
    up again during a run. Unless an entry allows the run (``listed``), the host must be loopback.

    Raises:
        InputError: if it is not a base URL, or its host is neither loopback nor allowed by an entry.
    """
    target = resolve(url)
    if not target.loopback and not listed:
        raise InputError(
            f"{target.server_name!r} is not a loopback address, and only this machine may be loaded without an entry",
            f"Add an entry to {TARGETS_FILE} (see docs/targets.md), or give http://127.0.0.1:PORT.",
        )
    return target


def refused(target: Target) -> TargetError:
    """The error of a target at whose address nothing listens."""
    remedy = (
        f"Start it (`{serve_command(target.port)}`) or name another with --host."
        if target.loopback
        else f"Check that it runs, and its URL in {TARGETS_FILE}."
    )
    return TargetError(f"{target.url} {REFUSED}", remedy)


def check_reachable(target: Target) -> None:
    """Check that something listens at a target.

    Raises:
        TargetError: if not.
    """
    try:
        socket.create_connection((target.address, target.port), timeout=_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        raise refused(target) from None
    except OSError as error:
        raise TargetError(
            f"nothing answers at {target.url}: {error.strerror or error}", "Check its URL, or leave out --host."
        ) from None


def _split(url: str) -> SplitResult:
    if "@" in url:
        # Before anything that would show the URL.
        raise WrongValueError(
            "the target's URL carries a user name or password", "Leave it out: keys come from WORKFLOW_API_KEYS."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongValueError(f"{url!r} is not a URL: {error}", "Write it as http://127.0.0.1:8000.") from None
    is_base = parts.scheme in _DEFAULT_PORTS and parts.hostname and not {"?", "#", "\\"} & set(url)
    if not is_base or not _URL_SAFE.fullmatch(url) or port == 0:
        raise WrongValueError(f"{url!r} is not a base URL", "Write it as http://127.0.0.1:8000.")
    return parts


def _server(parts: SplitResult) -> Server:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UnresolvedError(f"the host {host!r} cannot be resolved: {why}", "Check its spelling.") from None
    if not found:
        raise UnresolvedError(f"the host {host!r} has no address", "Check its spelling.")
    return found


OURS: Final = frozenset(
    {
        "accept",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-api-key",
        "x-wf-endpoint",
    }
)
"""The client sends these itself, or they would change what a request is."""
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_VARIABLE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SECRET: Final = re.compile(r"auth|cookie|key|pass|secret|session|signature|token")


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Check an entry's headers, and return them with their names in lower case.

    Raises:
        ValueError: if one cannot be sent, is the client's own, or may be a secret that is written out.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        low = name.lower()
        if low in OURS:
            raise ValueError(f"{low} is sent by the client itself")
        if low in checked or _NAME.fullmatch(low) is None:
            raise ValueError(f"{name!r} is not the name of a header, or is there twice")
        if value.startswith("$"):
            if _VARIABLE.fullmatch(value) is None:
                raise ValueError(f"{value!r} is not the name of a variable: write it as $NAME")
        elif _SECRET.search(low):
            raise ValueError(f"{low} may be a secret: write $NAME, and set NAME in the environment")
        elif _VALUE.fullmatch(value) is None:
            raise ValueError(f"{value!r} cannot be sent in a header")
        checked[low] = value
    return checked


def header_values(headers: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The headers to send: ``$NAME`` becomes the value of that environment variable.

    Raises:
        InputError: if a variable is not set, or no header can carry its value. The message does not show it.
    """
    values = {}
    for name, written in headers.items():
        variable = written[1:]
        value = environ.get(variable, "").strip() if written.startswith("$") else written
        if _VALUE.fullmatch(value) is None:
            raise InputError(
                f"the header {name} is taken from {variable}, which is not set or cannot be sent in a header",
                f"Set {variable} in the environment of every process that makes load.",
            )
        values[name] = value
    return values


_PEM_FILE: Final = "Give a PEM file that can be read from here (see docs/client.md)."


def tls_context(info: TlsInfo | None) -> ssl.SSLContext:
    """A context that checks the server's name and certificate. One serves all connections.

    Args:
        info: the certificates to trust and the client's own; None for the system's, and no client certificate.

    Raises:
        InputError: if a file is unusable.
    """
    if info is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=info.ca)
    except OSError as error:
        raise InputError(f"ca: {info.ca} holds no certificates ({_why(error)})", _PEM_FILE) from None
    if info.certificate is not None:
        try:
            context.load_cert_chain(info.certificate, info.key, password=_nobody_to_ask)
        except OSError as error:
            files = info.certificate if info.key is None else f"{info.certificate} and {info.key}"
            words = f"client_certificate: {files} hold no certificate with its key ({_why(error)})"
            raise InputError(words, _PEM_FILE) from None
    return context


def _nobody_to_ask() -> str:
    """Refuse a locked key: workers and scheduled jobs have nobody who could type its password."""
    raise InputError("client_key: the key is locked by a password", "Unlock it: openssl pkey -in LOCKED -out KEY.")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").lower().replace("_", " ")
    return error.strerror or type(error).__name__
