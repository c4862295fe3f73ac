"""What a reference server is told when it starts."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from loadtest.contract import DOCUMENTED, LimitName
from loadtest.credentials import LOCAL_KEY
from loadtest.errors import InputError
from loadtest.limiters import LimiterSpec
from loadtest.units import Limit

RetryAfter = Literal["none", "seconds", "date"]
RateHeaders = Literal["none", "x-ratelimit", "ietf"]
Draws = Literal["all", "valid"]
PendingTime = Literal["elapsed", "zero", "omitted"]
Unknown = Literal["reject", "ignore"]
FaultClock = Literal["ready", "epoch"]


class Recode(NamedTuple):
    """How an error is answered instead of as usual.

    Attributes:
        status: HTTP status, or None for the usual one.
        code: the ``code`` of the body, or None for the usual one.
    """

    status: int | None
    code: str | None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One reference server. What the documentation does not say is a setting here: see ``docs/contract.md``.

    Attributes:
        host: loopback address to listen on.
        port: TCP port; 0 takes a free one.
        keys: the API keys that are accepted; never shown.
        endpoint: the only ``x-wf-endpoint`` that exists, or None where any does.
        limits: the limit of each limit name.
        limit_all: the limit of all requests together, whatever their limit name; for the scopes that have one.
        limiter: by which algorithm and over what the limits are counted.
        draws: which requests draw on a limit: all that carry a valid key and reach a route, or only those that
            would have been carried out.
        retry_after: in what form a 429 carries ``Retry-After``.
        retry_after_factor: what the honest ``Retry-After`` is multiplied by.
        rate_headers: which headers tell of a limit's state in every answer that drew on one.
        workers: jobs that execute at the same time.
        threads: plain (not async) workflow functions that execute at the same time.
        queue: jobs that may wait for a worker; a submit beyond that is answered with ``queue_full``.
        retention: seconds that a finished job can be retrieved.
        run_timeout: seconds that a synchronous run may execute.
        workflows: modules or files whose workflows are served beside the built-in ones.
        data: directory in which jobs are kept on disk, or None to keep them in memory.
        recodes: errors by their usual ``code`` that are answered otherwise.
        pending_execution_time: what ``executionTime`` a pending job has.
        unknown_parameters: what becomes of parameters that a workflow doesn't have.
        faults: how it is to misbehave, each as ``--fault`` takes it (see ``loadtest.faults``).
        fault_seed: of the draws of which requests they hit.
        fault_clock: what the start of a fault counts from: the server being ready, or the epoch of the load, which
            the control endpoint is told.
        control_port: where the control endpoint listens, 0 for a free port; None for no such endpoint.
        max_body: largest request body in bytes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(LOCAL_KEY,), repr=False)
    endpoint: str | None = None
    limits: Mapping[LimitName, Limit] = field(default_factory=lambda: MappingProxyType(DOCUMENTED))
    limit_all: Limit | None = None
    limiter: LimiterSpec = field(default_factory=LimiterSpec)
    draws: Draws = "all"
    retry_after: RetryAfter = "none"
    retry_after_factor: float = 1.0
    rate_headers: RateHeaders = "none"
    workers: int = 64
    threads: int = 64
    queue: int = 10_000
    retention: float = 600.0
    run_timeout: float = 60.0
    workflows: tuple[str, ...] = ()
    data: Path | None = None
    recodes: Mapping[str, Recode] = field(default_factory=lambda: MappingProxyType({}))
    pending_execution_time: PendingTime = "elapsed"
    unknown_parameters: Unknown = "reject"
    faults: tuple[str, ...] = ()
    fault_seed: int = 1
    fault_clock: FaultClock = "ready"
    control_port: int | None = None
    max_body: int = 64 * 1024


def check_loopback(host: str, option: str = "--host") -> str:
    """Return ``host`` if it is a loopback address or ``localhost``.

    Raises:
        InputError: if it is another address or name: the server has no protection that other machines should meet.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(f"{option} {host}: the reference server listens on loopback only", "Use 127.0.0.1 or ::1.")
    return host
