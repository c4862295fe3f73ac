"""Validity: whether the generator did its work well enough for the service to be judged by it at all."""

from dataclasses import dataclass
from typing import Any, Final

from loadtest.analysis import crew
from loadtest.analysis.record import Record
from loadtest.ranks import rank
from loadtest.runfile import CpuSample, RunInfo

DISPATCH_LAG_MS: Final = 50.0
CPU_PERCENT: Final = 90.0
CPU_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its value beside its limit, as text with units, and a sentence about it."""

    name: str
    value: str
    limit: str
    ok: bool
    words: str


def check(record: Record, overall: dict[str, Any]) -> list[Check]:
    """Every check of a run's validity.

    Args:
        record: the record.
        overall: the overall cell of its metrics.
    """
    return [
        _sent(overall),
        _complete(record),
        _lost(record.info, overall),
        *_target(record.info),
        _dispatch_lag(record),
        _cpu(record.info.cpu),
    ]


def _sent(overall: dict[str, Any]) -> Check:
    sent = overall["operations"]["sent"]
    words = "load was offered" if sent else "nothing was sent, so there is nothing to judge"
    return Check("something sent", f"{sent} operations" if sent != 1 else "1 operation", "≥ 1", bool(sent), words)


def _complete(record: Record) -> Check:
    info, rows = record.info, record.rows
    written = "an unknown number" if info.samples is None else str(info.samples)
    ok = info.complete and rows == info.samples
    words = "the record is whole"
    if not info.complete:
        words = "the record is incomplete: the run was killed before it could close it"
    elif not ok:
        words = f"the record is incomplete: {written} samples were written and {rows} can be read"
    return Check("record complete", f"{rows} of {written} samples", "all", ok, words)


def _lost(info: RunInfo, overall: dict[str, Any]) -> Check:
    lost, gone = overall["operations"]["lost"], crew.lost(info)
    words = "every arrival got an outcome"
    if gone:
        words = f"{'; '.join(gone)}, and {lost} arrivals with it" if lost else "; ".join(gone)
    elif lost:
        words = f"{lost} arrivals got no outcome: what happened to them is unknown"
    return Check("nothing lost", f"{lost} arrivals", "0", not lost and not gone, words)


def _target(info: RunInfo) -> list[Check]:
    """Whether a target that we started lasted; nothing to check of another's."""
    if not info.target.embedded:
        return []
    words = "the embedded target died during the run" if info.target_died else "it served to the end"
    value = "died" if info.target_died else "alive"
    return [Check("embedded target", value, "alive", not info.target_died, words)]


def _dispatch_lag(record: Record) -> Check:
    lags = record.times.of["dispatch_lag_ms"].get(record.cells(record.stages()))
    limit = f"≤ {DISPATCH_LAG_MS:g} ms"
    if not lags.n:
        return Check("dispatch lag p99", "–", limit, True, "nothing was sent, so nothing was late")
    # The nearest rank whatever n is: a check of our own work must not pass for lack of evidence.
    p99 = float(lags.at([rank(lags.n, 0.99)])[0])
    ok = p99 <= DISPATCH_LAG_MS
    words = "requests left on time"
    if not ok:
        words = f"the generator was the bottleneck: it sent late by {p99:.0f} ms at the 99th percentile"
    return Check("dispatch lag p99", f"{p99:.2f} ms", limit, ok, words)


def _cpu(cpu: list[CpuSample]) -> Check:
    limit = f"no {CPU_SECONDS} s above {CPU_PERCENT:g} %"
    if not cpu:
        return Check("generator CPU", "–", limit, True, "no CPU of the generator was recorded")
    workers = {sample.worker for sample in cpu}
    longest = max(_longest_busy([s for s in cpu if s.worker == worker]) for worker in workers)
    ok = longest < CPU_SECONDS
    words = "the generator had CPU to spare"
    if not ok:
        words = f"the generator was the bottleneck: above {CPU_PERCENT:g} % CPU for {longest} s on end"
    return Check("generator CPU", f"peak {max(sample.percent for sample in cpu):.0f} %", limit, ok, words)


def _longest_busy(cpu: list[CpuSample]) -> int:
    """Most seconds on end above the limit, a sample covering one second."""
    longest = current = 0
    for sample in sorted(cpu, key=lambda sample: sample.t_s):
        current = current + 1 if sample.percent > CPU_PERCENT else 0
        longest = max(longest, current)
    return longest
