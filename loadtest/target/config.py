"""What a reference server is told when it starts."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from loadtest.credentials import LOCAL_KEY
from loadtest.errors import InputError
from loadtest.limits import DOCUMENTED, Limit, LimitName

RetryAfter = Literal["none", "seconds"]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One reference server.

    Attributes:
        host: loopback address to listen on.
        port: TCP port; 0 takes a free one.
        keys: the API keys that are accepted; never shown.
        endpoint: the only ``x-wf-endpoint`` that exists, or None where any does.
        limits: the limit of each limit name, per API key.
        algorithm: how limits are enforced, a name from ``limiters.ALGORITHMS``.
        retry_after: whether a 429 carries ``Retry-After`` (whole seconds, rounded up).
        workers: jobs that execute at the same time.
        queue: jobs that may wait for a worker; a submit beyond that is answered with 503.
        retention: seconds that a finished job can be retrieved.
        max_body: largest request body in bytes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(LOCAL_KEY,), repr=False)
    endpoint: str | None = None
    limits: Mapping[LimitName, Limit] = field(default_factory=lambda: MappingProxyType(DOCUMENTED))
    algorithm: str = "fixed-window"
    retry_after: RetryAfter = "none"
    workers: int = 64
    queue: int = 10_000
    retention: float = 600.0
    max_body: int = 64 * 1024


def check_loopback(host: str) -> str:
    """Return ``host`` if it is a loopback address or ``localhost``.

    Raises:
        InputError: if it is another address or name: the server has no protection that other machines should meet.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(f"--host {host}: the reference server listens on loopback only", "Use 127.0.0.1 or ::1.")
    return host
