"""Validity: whether the load generator did its work well enough to judge the service."""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Final

import msgspec

from loadtest.analysis.consistency import Evenness
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
from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo, RunInfo, WorkerInfo
from loadtest.words import counted, seconds


def describe_worker(worker: WorkerInfo) -> str:
    """Describe where a worker ran, and when it joined and left if that was during the run."""
    parts = [f"worker {worker.worker} on {worker.host}"]
    if worker.joined_s > 0:
        parts.append(f"joined at {worker.joined_s:.1f} s")
    if worker.returned:
        times = "" if worker.returned == 1 else f" {worker.returned} times"
        parts.append(f"was lost{times} and came back")
    if worker.left_s is not None:
        parts.append(f"{'was lost' if worker.end == 'lost' else 'left'} at {worker.left_s:.1f} s")
    if not worker.shared_clock:
        clock = f"clock {worker.offset_ms:+.1f} ± {worker.uncertainty_ms:.1f} ms from the master's"
        parts.append(f"{clock} (corrected)")
    return ", ".join(parts)


def _lost_workers(info: RunInfo) -> list[WorkerInfo]:
    """Return the workers that were lost, including those that came back."""
    return [worker for worker in info.worker_processes if worker.end == "lost" or worker.returned > 0]


class Generator(GeneratorInfo, kw_only=True, forbid_unknown_fields=True):
    """One generator process: its report about itself, and CPU usage in percent (None if unknown).

    A process has a usage of 100 if it keeps one core busy; a machine, if all of its cores are busy. A peak is the usage
    in the busiest second.
    """

    cpu_mean: float | None
    cpu_peak: float | None
    machine_mean: float | None
    machine_peak: float | None


def generators(info: RunInfo) -> list[Generator]:
    """Return each process that reported about itself, in the order of worker numbers. A killed run has none."""
    found = []
    for own in sorted(info.generators, key=lambda one: one.worker):
        percents = [second.percent for second in info.cpu if second.worker == own.worker]
        machine = [each.machine for each in info.cpu if each.worker == own.worker and each.machine is not None]
        one = Generator(
            **msgspec.structs.asdict(own),
            cpu_mean=fmean(percents) if percents else None,
            cpu_peak=max(percents, default=None),
            machine_mean=fmean(machine) if machine else None,
            machine_peak=max(machine, default=None),
        )
        found.append(one)
    return found


UNEVENNESS: Final = 0.5
"""Sends are uneven if sd ÷ mean of their number per 100 ms exceeds the schedule's by more than this."""

OF_GENERATOR: Final = (
    "dispatch lag p99", "generator CPU", "event loop", "garbage collection", "users", "evenness",
)  # fmt: skip
"""If one of these checks fails, the generator was the bottleneck. If several fail, a report names the first of them."""


class ValidityCheck(Result, frozen=True):
    """One check of validity: value and limit with units, and a sentence. A check that is not ``judged`` is ``ok``."""

    name: str
    value: str
    limit: str
    ok: bool
    words: str
    judged: bool = True


def check(record: Record, overall: OverallFigures, evenness: Mapping[str, Evenness]) -> list[ValidityCheck]:
    """Return the validity checks of a run. An imported run has none."""
    info = record.info
    if info.imported:
        return []
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


def _judged(name: str, value: str, limit: str, good: str, bad: str, *, ok: bool) -> ValidityCheck:
    return ValidityCheck(name, value, limit, ok, good if ok else bad)


def _sent(overall: OverallFigures) -> ValidityCheck:
    sent = overall.operations.sent
    bad = "nothing was sent, so there is nothing to judge"
    return _judged("something sent", counted(sent, "operation"), "≥ 1", "load was offered", bad, ok=sent > 0)


def _complete(record: Record) -> ValidityCheck:
    info, rows = record.info, record.rows
    written = "an unknown number" if info.samples is None else f"{info.samples:,}"
    bad = ""
    if not info.complete:
        planned = max((stage.end_s for plan in info.traffic.values() for stage in plan.stages), default=0.0)
        killed = "the run was killed" if info.end == "running" else "it could not be closed"
        cut = f"the record ends after {seconds(record.covered_s)} of {seconds(planned)}"
        bad = f"the record is incomplete: {killed}, and {cut}"
    elif rows != info.samples:
        bad = f"the record is incomplete: {written} samples were written, but only {rows:,} are readable"
    value = f"{rows:,} of {written} samples"
    return _judged("record complete", value, "all", "the record is complete", bad, ok=not bad)


def _consistent(record: Record) -> ValidityCheck:
    found = record.consistency.result()
    # Missing rows would contradict run.json too, but `_complete` already reports them.
    of_run = list(record.consistency.of_run()) if record.rows == record.info.samples else []
    rows = counted(sum(one.count for one in found), "row")
    wrong = [*([f"it has {'; '.join(one.words for one in found)}"] if found else []), *of_run]
    good = "no row contradicts another row, the plan or itself"
    bad = f"the record cannot be true: {'; '.join(wrong)}"
    return _judged("record consistent", rows, "0 rows wrong", good, bad, ok=not wrong)


def _lost(info: RunInfo, overall: OverallFigures) -> ValidityCheck:
    lost = overall.operations.lost
    gone = "; ".join(map(describe_worker, _lost_workers(info)))
    bad = f"{counted(lost, 'arrival')} had no outcome" + (f" ({gone})" if gone else "")
    return _judged("nothing lost", f"{lost:,} arrivals", "0", "every arrival has an outcome", bad, ok=not lost)


def _target(info: RunInfo) -> list[ValidityCheck]:
    """Check that the embedded target lasted; other targets are not checked."""
    if not info.target.embedded:
        return []
    value = "died" if info.target_died else "alive"
    bad = "the embedded target died during the run"
    return [_judged("embedded target", value, "alive", "it served to the end", bad, ok=not info.target_died)]


def _dispatch_lag(record: Record) -> ValidityCheck:
    lags = record.time("dispatch_lag_ms", record.stages())
    if not lags.n:
        return _not_judged("dispatch lag p99", LAG_LIMIT, "nothing was sent")
    # The nearest rank exists for any n, so too few samples cannot make the check pass.
    p99 = lags.nearest(0.99)
    bad = (
        f"the generator was the bottleneck: it sent {p99:.0f} ms late at the 99th percentile; "
        "use a calmer machine or more processes, or offer less"
    )
    ok = p99 <= DISPATCH_LAG_MS
    return _judged("dispatch lag p99", f"{p99:.2f} ms", LAG_LIMIT, "requests left on time", bad, ok=ok)


def _cpu(cpu: list[CpuSample]) -> ValidityCheck:
    if not cpu:
        return _not_judged("generator CPU", CPU_LIMIT, "the generator's CPU usage was not recorded")
    longest = longest_busy(cpu)
    peak = f"peak {max(sample.percent for sample in cpu):.0f} %"
    bad = (
        f"the generator was the bottleneck: above {CPU_PERCENT:g} % CPU for {longest} consecutive seconds; "
        "use more processes, or offer less"
    )
    good = "the generator had CPU to spare"
    return _judged("generator CPU", peak, CPU_LIMIT, good, bad, ok=longest < CPU_SECONDS)


def _workers(info: RunInfo) -> list[ValidityCheck]:
    """Check that every worker process lasted; a run without workers has no such check."""
    if not info.worker_processes:
        return []
    lost = [
        f"worker {worker.worker} "
        + (f"died or was cut off at {worker.left_s or 0:.1f} s" if worker.end == "lost" else "was cut off temporarily")
        for worker in _lost_workers(info)
    ]
    bad = f"{', '.join(lost)}: operations in flight there have no outcome; see the worker's log, and run again"
    value = f"{len(lost)} of {len(info.worker_processes)} lost"
    return [_judged("workers", value, "0", "every worker stayed, or left as planned", bad, ok=not lost)]


def _evenness(evenness: Mapping[str, Evenness]) -> ValidityCheck:
    limit = f"spread ≤ the schedule's + {UNEVENNESS:g}"
    known = [
        (one.bins_sent - one.bins_intended, one.bins_sent, one.bins_intended, name)
        for name, one in evenness.items()
        if one.bins_sent is not None and one.bins_intended is not None
    ]
    if not known:
        return _not_judged("evenness", limit, "there were too few arrivals to judge their evenness")
    excess, sent, intended, name = max(known)
    bad = (
        f"{name} was sent in bursts that the schedule does not have, which changes the share of 429s; "
        "raise max_users if the pool was full, else use a calmer machine"
    )
    value = f"spread {sent:.3f}, the schedule's {intended:.3f}"
    good = "requests left as evenly as scheduled"
    return _judged("evenness", value, limit, good, bad, ok=excess <= UNEVENNESS)


def _own(info: RunInfo) -> list[ValidityCheck]:
    """Check the generator processes. A master with workers sends nothing, so its pauses are ignored."""
    sending = [one for one in info.generators if one.worker or not info.worker_processes]
    if not sending:
        return []
    return [
        _pauses(
            "event loop",
            sending,
            lambda one: one.stalls,
            good="no long event-loop stalls",
            problem="its event loop was blocked",
            remedy="look for blocking code in user classes, or use a calmer machine",
        ),
        _pauses(
            "garbage collection",
            sending,
            lambda one: one.collections,
            good="no long garbage collections",
            problem="garbage collections stopped it",
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
    problem: str,
    remedy: str,
) -> ValidityCheck:
    worst = max(generators, key=lambda one: excess_pauses(one, get))
    pauses = get(worst)
    value = f"longest {pauses.longest_ms:.0f} ms, {pauses.total_ms:.0f} ms in all" if pauses.count else "none long"
    which = f" of worker {worst.worker}" if len(generators) > 1 else ""
    bad = (
        f"the generator was the bottleneck{which}: {problem} for {pauses.total_ms / 1000:.2g} s in all, "
        f"{pauses.longest_ms / 1000:.2g} s at most; {remedy}"
    )
    return _judged(name, value, pauses_limit(worst.watched_s), good, bad, ok=excess_pauses(worst, get) <= 1)


def _users(info: RunInfo) -> ValidityCheck:
    pools = [(name, pool) for one in info.generators for name, pool in one.pools.items()]
    offered = sum(plan.offered or 0 for plan in info.traffic.values())
    waited = sum(pool.waited for _, pool in pools)
    value = f"{waited:,} of {offered:,} arrivals"
    if not waited:
        return ValidityCheck("users", value, USERS_LIMIT, ok=True, words="a user was free for every arrival")
    name, pool = max(pools, key=lambda each: each[1].waited)
    arrivals = counted(pool.waited, "arrival")
    waiting = f"for {pool.full_s:.2g} s, {arrivals} waited up to {pool.longest_wait_ms:.0f} ms"
    words = f"the pool of {pool.size} users of {name} was full: {waiting}; raise max_users"
    if pool.size < pool.cap:
        words = f"the pool of {name} grew too slowly: {waiting}; use more processes, or offer less"
    return ValidityCheck("users", value, USERS_LIMIT, ok=waited <= WAITED_SHARE * offered, words=words)
