"""Validity: whether the generator did its work well enough for the service to be judged by it at all.

The source is the generator and worker processes' own reports.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from loadtest.analysis.arrivals import Evenness
from loadtest.analysis.results import OverallFigures, Result
from loadtest.analysis.run_record import Record
from loadtest.record.generator_limits import (
    CPU_LIMIT,
    CPU_PERCENT,
    CPU_SECONDS,
    DISPATCH_LAG_MS,
    LAG_LIMIT,
    USERS_LIMIT,
    WAITED_SHARE,
    excess_pauses,
    longest_busy,
    pauses_limit,
)
from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo, PoolInfo, RunInfo, WorkerInfo
from loadtest.stats.order_statistics import rank


def describe_worker(worker: WorkerInfo) -> str:
    """One worker: where it ran, and when it came and went, if that was in the middle of the run."""
    parts = [f"worker {worker.worker} on {worker.host}"]
    if worker.joined_s > 0:
        parts.append(f"joined at {worker.joined_s:.1f} s")
    if worker.returned:
        parts.append(
            "was lost and came back" if worker.returned == 1 else f"was lost {worker.returned} times and came back"
        )
    if worker.left_s is not None:
        parts.append(f"{'was lost' if worker.end == 'lost' else 'left'} at {worker.left_s:.1f} s")
    if not worker.shared_clock:
        parts.append(f"clock {worker.offset_ms:+.1f} ± {worker.uncertainty_ms:.1f} ms from the master's, taken out")
    return ", ".join(parts)


def was_lost(worker: WorkerInfo) -> bool:
    """Whether it was assumed lost at any time."""
    return worker.end == "lost" or worker.returned > 0


def all_workers(info: RunInfo) -> str:
    """All workers of a run; empty where there were none."""
    return "; ".join(describe_worker(worker) for worker in info.worker_processes)


def lost_workers(info: RunInfo) -> list[str]:
    """Describe each worker that was lost, even temporarily."""
    return [describe_worker(worker) for worker in info.worker_processes if was_lost(worker)]


class Generator(GeneratorInfo, kw_only=True, forbid_unknown_fields=True):
    """One generator process: its own account, and its CPU by the second.

    Attributes:
        cpu_mean: of the process; 100 is one core. None where none is known.
        cpu_peak: likewise, in its busiest second.
        machine_mean: of the machine that it is on; 100 is all of its cores.
        machine_peak: likewise, in its busiest second.
    """

    cpu_mean: float | None
    cpu_peak: float | None
    machine_mean: float | None
    machine_peak: float | None


def generators(info: RunInfo) -> list[Generator]:
    """Return each reporting process, by index; none if the run was killed."""
    found = []
    for own in sorted(info.generators, key=lambda one: one.worker):
        seconds: list[CpuSample] = [second for second in info.cpu if second.worker == own.worker]
        percents = [second.percent for second in seconds]
        machine = [second.machine for second in seconds if second.machine is not None]
        found.append(
            Generator(
                **msgspec.structs.asdict(own),
                cpu_mean=_mean(percents),
                cpu_peak=max(percents, default=None),
                machine_mean=_mean(machine),
                machine_peak=max(machine, default=None),
            )
        )
    return found


def _mean(percents: list[float]) -> float | None:
    return sum(percents) / len(percents) if percents else None


UNEVENNESS: Final = 0.5
"""By how much sd ÷ mean of the sends in 100 ms may be above the schedule's."""

OF_GENERATOR: Final = (
    "dispatch lag p99", "generator CPU", "event loop", "garbage collection", "users", "evenness",
)  # fmt: skip
"""Checks that fail where the generator was the bottleneck, the most telling first."""


class ValidityCheck(Result, frozen=True):
    """One check: its value beside its limit, as text with units, and a sentence about it.

    Attributes:
        ok: whether nothing speaks against the run; of a check that could not be made nothing does.
        judged: whether it could be made.
    """

    name: str
    value: str
    limit: str
    ok: bool
    words: str
    judged: bool = True


def check(record: Record, overall: OverallFigures, evenness: Mapping[str, Evenness]) -> list[ValidityCheck]:
    """Return all validity checks that the record's version allows."""
    info = record.info
    return [
        _sent(overall),
        _complete(record),
        _consistent(record),
        _lost(info, overall),
        *_target(info),
        *_workers(info),
        _dispatch_lag(record),
        _evenness(evenness),
        _cpu(info.cpu),
        *_own(info),
    ]


def _not_judged(name: str, limit: str, why: str) -> ValidityCheck:
    return ValidityCheck(name=name, value="not judged", limit=limit, ok=True, words=why, judged=False)


def _sent(overall: OverallFigures) -> ValidityCheck:
    sent = overall.operations.sent
    words = "load was offered" if sent else "nothing was sent, so there is nothing to judge"
    return ValidityCheck(
        "something sent", f"{sent:,} operations" if sent != 1 else "1 operation", "≥ 1", bool(sent), words
    )


def _complete(record: Record) -> ValidityCheck:
    info, rows = record.info, record.rows
    written = "an unknown number" if info.samples is None else f"{info.samples:,}"
    ok = info.complete and rows == info.samples
    words = "the record is whole"
    if not info.complete:
        words = "the record is incomplete: the run was killed before it could close it"
    elif not ok:
        words = f"the record is incomplete: {written} samples were written and {rows:,} can be read"
    return ValidityCheck("record complete", f"{rows:,} of {written} samples", "all", ok, words)


def _consistent(record: Record) -> ValidityCheck:
    found, of_run = record.consistency.result(), list(record.consistency.of_run())
    rows = sum(one.count for one in found)
    words = "no row contradicts another, the plan or itself"
    if wrong := [*([f"it has {'; '.join(one.words for one in found)}"] if found else []), *of_run]:
        words = f"the record cannot be true: {'; '.join(wrong)}"
    return ValidityCheck(
        "record consistent", "1 row" if rows == 1 else f"{rows:,} rows", "0 rows wrong", not wrong, words
    )


def _lost(info: RunInfo, overall: OverallFigures) -> ValidityCheck:
    lost = overall.operations.lost
    words = "every arrival has an outcome"
    if lost:
        gone = lost_workers(info)
        words = f"{lost} arrival{'s' if lost > 1 else ''} got no outcome: what happened is unknown"
        words += f" ({'; '.join(gone)})" if gone else ""
    return ValidityCheck("nothing lost", f"{lost:,} arrivals", "0", not lost, words)


def _target(info: RunInfo) -> list[ValidityCheck]:
    """Whether a target that we started lasted; nothing to check of another's."""
    if not info.target.embedded:
        return []
    words = "the embedded target died during the run" if info.target_died else "it served to the end"
    value = "died" if info.target_died else "alive"
    return [ValidityCheck("embedded target", value, "alive", not info.target_died, words)]


def _dispatch_lag(record: Record) -> ValidityCheck:
    lags = record.time("dispatch_lag_ms", record.stages())
    if not lags.n:
        return _not_judged("dispatch lag p99", LAG_LIMIT, "nothing was sent, so nothing was late")
    # The nearest rank whatever n is: a check of our own work must not pass for lack of evidence.
    p99 = float(lags.at([rank(lags.n, 0.99)])[0])
    ok = p99 <= DISPATCH_LAG_MS
    words = "requests left on time"
    if not ok:
        words = (
            f"the generator was the bottleneck: it sent late by {p99:.0f} ms at the 99th percentile; "
            "give it a calmer machine or more processes, or offer less"
        )
    return ValidityCheck("dispatch lag p99", f"{p99:.2f} ms", LAG_LIMIT, ok, words)


def _cpu(cpu: list[CpuSample]) -> ValidityCheck:
    if not cpu:
        return _not_judged("generator CPU", CPU_LIMIT, "no CPU of the generator was recorded")
    longest = longest_busy(cpu)
    ok = longest < CPU_SECONDS
    words = "the generator had CPU to spare"
    if not ok:
        words = (
            f"the generator was the bottleneck: above {CPU_PERCENT:g} % CPU for {longest} s on end; "
            "use more processes, or offer less"
        )
    return ValidityCheck("generator CPU", f"peak {max(sample.percent for sample in cpu):.0f} %", CPU_LIMIT, ok, words)


def _workers(info: RunInfo) -> list[ValidityCheck]:
    """Whether every worker process lasted; nothing to check where there was none."""
    if not info.worker_processes:
        return []
    lost = [
        f"worker {worker.worker} "
        + (f"at {worker.left_s or 0:.1f} s died or was cut off" if worker.end == "lost" else "was cut off for a while")
        for worker in info.worker_processes
        if was_lost(worker)
    ]
    words = "every worker stayed, or left as it should"
    if lost:
        words = f"{', '.join(lost)}: what it had in flight is unknown; see its log, and run again"
    return [ValidityCheck("workers", f"{len(lost)} of {len(info.worker_processes)} lost", "0", not lost, words)]


def _evenness(evenness: Mapping[str, Evenness]) -> ValidityCheck:
    limit = f"spread ≤ the schedule's + {UNEVENNESS:g}"
    known = [
        (one.bins_sent - one.bins_intended, one.bins_sent, one.bins_intended, name)
        for name, one in evenness.items()
        if one.bins_sent is not None and one.bins_intended is not None
    ]
    if not known:
        return _not_judged("evenness", limit, "arrivals were too few for their evenness to be judged")
    excess, sent, intended, name = max(known)
    ok = excess <= UNEVENNESS
    words = "requests left as evenly as the schedule has them"
    if not ok:
        words = (
            f"{name} left in bursts that the schedule does not have, which changes how many 429s a limiter gives; "
            "raise max_users if the pool was full, else give the generator a calmer machine"
        )
    return ValidityCheck("evenness", f"spread {sent:.3f}, the schedule's {intended:.3f}", limit, ok, words)


def _own(info: RunInfo) -> list[ValidityCheck]:
    """Check the generator processes. A master with workers sends nothing, and may pause."""
    sending = [one for one in info.generators if one.worker or not info.worker_processes]
    if not sending:
        return []
    return [
        _pauses(
            "event loop",
            sending,
            lambda one: one.stalls,
            good="no long event-loop stalls",
            bad="its event loop stood still",
            remedy="look for code that blocks in user classes, or give it a calmer machine",
        ),
        _pauses(
            "garbage collection",
            sending,
            lambda one: one.collections,
            good="no long garbage collections",
            bad="garbage collections held it up",
            remedy="keep fewer objects in user classes, or use more processes",
        ),
        _users(info),
    ]


def _pauses(
    name: str,
    generators: list[GeneratorInfo],
    get: Callable[[GeneratorInfo], PauseInfo],
    *,
    good: str,
    bad: str,
    remedy: str,
) -> ValidityCheck:
    worst = max(generators, key=lambda one: excess_pauses(one, get))
    pauses, ok = get(worst), excess_pauses(worst, get) <= 1
    value = f"longest {pauses.longest_ms:.0f} ms, {pauses.total_ms:.0f} ms in all" if pauses.count else "none long"
    words = good
    if not ok:
        which = f" of worker {worst.worker}" if len(generators) > 1 else ""
        words = (
            f"the generator was the bottleneck{which}: {bad} for {pauses.total_ms / 1000:.2g} s in all, "
            f"{pauses.longest_ms / 1000:.2g} s on end; {remedy}"
        )
    return ValidityCheck(name, value, pauses_limit(worst.watched_s), ok, words)


def _users(info: RunInfo) -> ValidityCheck:
    pools = [(name, pool) for one in info.generators for name, pool in one.pools.items()]
    offered = sum(plan.offered or 0 for plan in info.traffic.values())
    waited = sum(pool.waited for _, pool in pools)
    value = f"{waited:,} of {offered:,} arrivals"
    if not waited:
        return ValidityCheck("users", value, USERS_LIMIT, True, "a user was free for every arrival")
    name, pool = max(pools, key=lambda each: each[1].waited)
    return ValidityCheck("users", value, USERS_LIMIT, waited <= WAITED_SHARE * offered, _full(name, pool))


def _full(name: str, pool: PoolInfo) -> str:
    """Describe the fullest pool and the remedy."""
    arrivals = f"{pool.waited:,} arrivals waited" if pool.waited != 1 else "1 arrival waited"
    waiting = f"for {pool.full_s:.2g} s, {arrivals} up to {pool.longest_wait_ms:.0f} ms"
    if pool.size < pool.cap:
        return f"the pool of {name} grew too slowly: {waiting}; use more processes, or offer less"
    return f"the pool of {pool.size} users of {name} was full {waiting}; raise max_users"
