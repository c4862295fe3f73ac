"""Figures of a run, read from its ``metrics.json`` without the analysis and without pandas.

``throttled_rate`` and ``error_rate`` are shares from 0 to 1. ``offered_rate`` is per second.
"""

from pathlib import Path
from typing import Final, TypeVar

import msgspec

from loadtest.errors import InputError, RecordError
from loadtest.program import mention

_T = TypeVar("_T")
FILE_NAME: Final = "metrics.json"


class _Times(msgspec.Struct, frozen=True):
    p50: float | None = None
    p95: float | None = None


class _Operations(msgspec.Struct, frozen=True):
    offered_rate: float | None = None


class _Requests(msgspec.Struct, frozen=True):
    sent: int = 0
    throttled_rate: float | None = None


class StageMetrics(msgspec.Struct, frozen=True):
    """Figures of one stage. ``statuses`` counts requests by status."""

    operations: _Operations = _Operations()
    throttled_rate: float | None = None
    error_rate: float | None = None
    requests_per_operation: float | None = None
    response_time_ms: _Times = _Times()
    execution_time_ms: _Times = _Times()
    statuses: dict[str, int] = {}


class _TrafficMetrics(msgspec.Struct, frozen=True):
    stages: dict[str, StageMetrics] = {}


class _LimitUse(msgspec.Struct, frozen=True):
    limit: str
    sent: int
    throttled: int


class InferredLimiter(msgspec.Struct, frozen=True):
    """A limiter that explains the 429s of a limit. ``window_s`` is None for a concurrency limit."""

    limiter: str
    count: int
    window_s: float | None = None
    burst: int | None = None
    count_rejected: bool = False
    phase_s: float = 0.0
    round_down: bool = False


class _Inferred(msgspec.Struct, frozen=True):
    named: tuple[InferredLimiter, ...] = ()


class _StatedWaits(msgspec.Struct, frozen=True):
    throttled: int = 0
    seconds: int = 0
    dates: int = 0


class LimitFacts(msgspec.Struct, frozen=True):
    """Facts about the 429s of a limit."""

    inferred: _Inferred | None = None
    retry_after: _StatedWaits | None = None


class _Throttling(msgspec.Struct, frozen=True):
    limits: dict[str, LimitFacts] = {}


class JudgedThreshold(msgspec.Struct, frozen=True):
    """A threshold of the scenario with its judgement."""

    require: str
    judgement: str
    traffic: str | None = None
    operation: str | None = None


class _Check(msgspec.Struct, frozen=True):
    name: str
    ok: bool


class _Overall(msgspec.Struct, frozen=True):
    requests: _Requests = _Requests()


class RequestPhase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request of a slow operation. Times are in ms since the operation's intended start."""

    kind: str
    start_ms: float
    first_byte_ms: float | None
    end_ms: float | None
    """The request's end (see ``Sample.end``). None if unknown."""
    outcome: str
    status: int | None


class SlowOperation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the slowest operations.

    ``intended_s`` is in s since the epoch. ``attempts`` counts the attempts of the operation's first request.
    ``request_id`` is the operation's trace id.
    """

    traffic: str
    stage: str
    arrival: int
    intended_s: float
    response_ms: float
    start_lag_ms: float | None
    outcome: str
    reason: str | None
    execution_ms: float | None
    attempts: int
    request_id: str | None
    phases: list[RequestPhase]


class Figures(msgspec.Struct, frozen=True):
    """Figures of a run."""

    verdict: str = "no report"
    reasons: tuple[str, ...] = ()
    validity: tuple[_Check, ...] = ()
    thresholds: tuple[JudgedThreshold, ...] = ()
    limits: tuple[_LimitUse, ...] = ()
    throttling: _Throttling = _Throttling()
    overall: _Overall = _Overall()
    traffic: dict[str, _TrafficMetrics] = {}


class _Slowest(msgspec.Struct):
    slowest: dict[str, list[SlowOperation]] = {}


def read_figures(directory: Path) -> Figures:
    """Read a run's ``metrics.json``. Raise ``InputError`` if it is missing, ``RecordError`` if it cannot be read."""
    return _read(directory, Figures)


def read_slowest(directory: Path) -> dict[str, list[SlowOperation]]:
    """Read the slowest operations of each traffic entry. Raise the same errors as ``read_figures``."""
    return _read(directory, _Slowest).slowest


def _read(directory: Path, kind: type[_T]) -> _T:
    path = directory / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise InputError(f"{path} is missing", f"Run {mention('report', directory)} to create it.") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RecordError(f"{path} cannot be read", f"Run {mention('report', directory)} to create it again.") from None
