"""Connection to a target: its checked address, additional headers and TLS certificates.

Base URLs are parsed strictly. Only this module resolves names, so every connection goes to a checked address.
"""

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
from loadtest.processes import is_loopback
from loadtest.program import DEFAULT_PORT, serve_command
from loadtest.record.run_info import REFUSED, TlsInfo

TARGETS_FILE: Final = Path("targets.toml")
_CONNECT_TIMEOUT: Final = 5.0
"""The check that a target accepts connections times out after this many seconds."""
_URL_SAFE: Final = re.compile(r"[\x21-\x7e]+")
"""Characters allowed in a request line and a Host header. urlsplit drops some other characters silently."""
_NETLOC: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(:\d*)?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class UnresolvedError(InputError):
    """The host name cannot be resolved."""


Server = tuple[str, str, int]
"""Scheme, host in lower case, and port. URLs in which all three are equal belong to the same server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed base URL, with the numeric addresses of its host."""

    url: str
    scheme: str
    address: str
    host: str
    """Value of the Host header, with the port if the URL has one."""
    server_name: str
    port: int
    prefix: str
    """Path before ``/v1``, without a trailing slash."""
    loopback: bool = True
    """Whether every address of the host is a loopback address."""
    addresses: tuple[str, ...] = ()
    """All numeric addresses of the host, ``address`` first."""


def server_of(url: str) -> Server:
    """Return the server of a base URL.

    Raises ``InputError`` if ``url`` is not an http(s) URL, or contains a user name, a query or a fragment.
    """
    return _server(_split(url))


def resolve(url: str) -> Target:
    """Parse a base URL and resolve its host.

    Raises ``InputError`` if ``url`` is not a base URL, or its host cannot be resolved.
    """
    parts = _split(url)
    scheme, host, port = _server(parts)
    addresses = _addresses(host, port)
    loopback = all(map(is_loopback, addresses))
    address = addresses[0]
    if loopback:
        # 127.0.0.1 is preferred, because manually started servers listen there more often than on ::1.
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
    """Check that a base URL may be loaded. Every process that sends load calls this.

    Unless an entry allows the run (``listed``), the host must be loopback.

    Raises:
        InputError: if ``resolve`` raises it, or the host is neither loopback nor allowed by an entry.
    """
    target = resolve(url)
    if not target.loopback and not listed:
        raise InputError(
            f"{target.server_name!r} is not a loopback address, and without an entry only this machine may be loaded",
            f"Add an entry to {TARGETS_FILE} (see docs/own-api.md), or use http://127.0.0.1:PORT.",
        )
    return target


def refused(target: Target) -> TargetError:
    """Return the error of a target that refuses connections."""
    if not target.loopback:
        remedy = f"Check that it runs, and check its URL in {TARGETS_FILE}."
    elif target.port == DEFAULT_PORT:
        remedy = f"Start the reference API (`{serve_command()}`) or choose another target with --host."
    else:
        remedy = f"Start the server at {target.host}, or choose another target with --host."
    return TargetError(f"{target.url} {REFUSED}", remedy)


def check_reachable(target: Target) -> None:
    """Check that a target accepts connections. Raises ``TargetError`` if it does not."""
    try:
        socket.create_connection((target.address, target.port), timeout=_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        raise refused(target) from None
    except OSError as error:
        raise TargetError(
            f"no connection to {target.url}: {error.strerror or error}", "Check its URL, or omit --host."
        ) from None


def _split(url: str) -> SplitResult:
    if "@" in url:
        # This is checked first, because the other messages show the URL.
        raise WrongValueError(
            "the target's URL contains a user name or password", "Remove it: keys come from WORKFLOW_API_KEYS."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongValueError(f"{url!r} is not a URL: {error}", "Use a form such as http://127.0.0.1:8000.") from None
    is_base = parts.scheme in _DEFAULT_PORTS and parts.hostname and not {"?", "#", "\\"} & set(url)
    if not is_base or not _URL_SAFE.fullmatch(url) or not _NETLOC.fullmatch(parts.netloc) or port == 0:
        raise WrongValueError(f"{url!r} is not a base URL", "Use a form such as http://127.0.0.1:8000.")
    return parts


def _server(parts: SplitResult) -> Server:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UnresolvedError(f"the host {host!r} cannot be resolved: {why}", "Check its spelling.") from None


OURS: Final = frozenset({
    "accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te",
    "traceparent", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-api-key", "x-wf-endpoint",
})  # fmt: skip
"""Headers that the client sends itself, or that would change the meaning of a request."""
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_VARIABLE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SECRET: Final = re.compile(r"auth|cookie|key|pass|secret|session|signature|token")


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Check an entry's headers, and return them with lower-case names.

    Raises ``ValueError`` if a header cannot be sent, is set by the client, or may be a literal secret.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        low = name.lower()
        if low in OURS:
            raise ValueError(f"{low} is sent by the client itself")
        if low in checked or _NAME.fullmatch(low) is None:
            raise ValueError(f"{name!r} is not a header name, or is duplicated")
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
    """Return the headers to send. ``$NAME`` is replaced with the environment variable NAME.

    Raises:
        InputError: if a variable is not set, or its value is not allowed in a header. The message hides the value.
    """
    values = {}
    for name, written in headers.items():
        variable = written[1:]
        value = environ.get(variable, "").strip() if written.startswith("$") else written
        if _VALUE.fullmatch(value) is None:
            raise InputError(
                f"the header {name} is taken from {variable}, which is not set or cannot be sent in a header",
                f"Set {variable} in the environment of every process that sends load.",
            )
        values[name] = value
    return values


_PEM_FILE: Final = "Give a readable PEM file (see docs/own-api.md)."


def tls_context(info: TlsInfo | None) -> ssl.SSLContext:
    """Return an SSL context that verifies the server's name and certificate.

    Without ``info``, the context trusts the system's certificates and has no client certificate.

    Raises:
        InputError: if a file cannot be used.
    """
    if info is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=info.ca)
    except (OSError, ValueError) as error:
        raise InputError(f"ca: {info.ca} holds no certificates ({_why(error)})", _PEM_FILE) from None
    if info.certificate is not None:
        try:
            context.load_cert_chain(info.certificate, info.key, password=_nobody_to_ask)
        except (OSError, ValueError) as error:
            files = info.certificate if info.key is None else f"{info.certificate} and {info.key}"
            words = f"client_certificate: no certificate with its key in {files} ({_why(error)})"
            raise InputError(words, _PEM_FILE) from None
    return context


def _nobody_to_ask() -> str:
    """Reject an encrypted key, because workers and scheduled jobs cannot type its password."""
    raise InputError(
        "client_key: the key is encrypted with a password", "Decrypt it: openssl pkey -in LOCKED -out KEY."
    )


def _why(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return error.strerror or type(error).__name__
