"""Making a connection, and the word for each way in which that fails."""

import socket
import ssl
from dataclasses import dataclass, field
from typing import Final

from loadtest.load.link import DeadlineError, Link
from loadtest.load.resolving import Names

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_CERTIFICATE_WORDS: Final = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    62: "certificate_wrong_name",
    64: "certificate_wrong_name",
}


@dataclass(slots=True)
class Address:
    """Where to connect to.

    Attributes:
        host: a numeric address.
        port: of TCP.
        tls: the context that all connections share; None for plain HTTP.
        server_name: what the server's certificate has to prove.
        names: the server's addresses; by default ``host`` alone.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    names: Names = field(default=None)  # type: ignore[assignment] # set below

    def __post_init__(self) -> None:
        if self.names is None:
            self.names = Names((self.host,))


class ConnectError(Exception):
    """A connection could not be made.

    Attributes:
        word: why.
        timed_out: whether it took too long.
    """

    def __init__(self, word: str, *, timed_out: bool = False) -> None:
        super().__init__(word)
        self.word = word
        self.timed_out = timed_out


def connect(address: Address, deadline: int) -> Link:
    """Connect to one of a server's addresses: to the next one where one cannot be reached.

    Args:
        address: the server.
        deadline: monotonic ns.

    Raises:
        ConnectError: if none can be reached in time, or TLS fails with the one that was.
    """
    failure = ConnectError("address_not_allowed")
    for host in address.names.order():
        link = Link(socket.AF_INET6 if ":" in host else socket.AF_INET)
        reached = False
        try:
            link.connect(host, address.port, deadline)
            reached = True
            if address.tls is not None:
                link.secure(address.tls, address.server_name, deadline)
        except BaseException as error:
            link.close()
            address.names.failed(host)
            if not isinstance(error, DeadlineError | OSError):
                raise
            failure = _failure(error)
            if reached or isinstance(error, DeadlineError):
                break
        else:
            address.names.connected(host)
            return link
    raise failure from None


def tls_word(error: ssl.SSLError) -> str:
    """The word for an error of TLS, while connecting or later (TLS 1.3 servers refuse a client's certificate late)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_WORDS.get(error.verify_code, "certificate_untrusted")
    reason = error.reason or ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return "client_certificate_refused"
    return "tls_failed"


def _failure(error: BaseException) -> ConnectError:
    if isinstance(error, DeadlineError | TimeoutError):
        return ConnectError("connect_timeout", timed_out=True)
    if isinstance(error, ConnectionRefusedError):
        return ConnectError("connection_refused")
    if isinstance(error, ssl.SSLError):
        return ConnectError(tls_word(error))
    return ConnectError("connect_failed")
