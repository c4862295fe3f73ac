"""The TLS context of a target: one for all connections, whoever makes them."""

import ssl
from typing import Final

from loadtest.errors import InputError
from loadtest.runfile import TlsInfo

_FILE: Final = "Give a file in PEM that can be read from here (see docs/client.md)."


def tls_context(info: TlsInfo | None) -> ssl.SSLContext:
    """A context that holds a server to its name and to certificates that are trusted.

    Args:
        info: which certificates those are, and what the client proves itself with; None for the system's and nothing.

    Raises:
        InputError: if a file cannot be used.
    """
    if info is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=info.ca)
    except OSError as error:
        raise InputError(f"ca: {info.ca} holds no certificates ({_why(error)})", _FILE) from None
    if info.certificate is not None:
        try:
            context.load_cert_chain(info.certificate, info.key, password=_nobody_to_ask)
        except OSError as error:
            files = info.certificate if info.key is None else f"{info.certificate} and {info.key}"
            words = f"client_certificate: {files} hold no certificate and the key to it ({_why(error)})"
            raise InputError(words, _FILE) from None
    return context


def _nobody_to_ask() -> str:
    """A key that is locked: workers have no terminal, and a run in a scheduled job has nobody at it."""
    raise InputError("client_key: the key is locked by a password", "Unlock it: openssl pkey -in LOCKED -out KEY.")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").lower().replace("_", " ")
    return error.strerror or type(error).__name__
