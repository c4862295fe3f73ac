"""Whether the load generator keeps up, while it runs: by the limits that decide whether a run is valid."""

from collections.abc import Callable

import msgspec

from loadtest.load.engine import LoadGenerator
from loadtest.load.live import LiveFigures
from loadtest.record.generator_limits import (
    CPU_PERCENT,
    CPU_SECONDS,
    DISPATCH_LAG_MS,
    PAUSE_MS,
    WAITED_SHARE,
    allowed_pauses_ms,
    excess_pauses,
    longest_busy,
)
from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo

_MINUTE_S = 60.0


class Light(msgspec.Struct, frozen=True):
    """One check of the generator."""

    name: str
    value: str
    limit: str
    ok: bool | None
    """Null while there is nothing to judge."""


def lights(generator: LoadGenerator, live: LiveFigures) -> list[Light]:
    """Every check that can be made while a run goes on; the report has them of the whole run."""
    processes = generator.generators
    # A master sends nothing itself.
    sending = [one for one in processes if one.worker] or processes
    return [
        _lag(live),
        _cpu(generator.cpu),
        _pauses("event loop", sending, lambda one: one.stalls),
        _pauses("garbage collection", sending, lambda one: one.collections),
        _users(sending, live.offered.total()),
        *_workers(processes),
    ]


def _lag(live: LiveFigures) -> Light:
    p99 = live.dispatch_lag_ms(0.99)
    limit = f"≤ {DISPATCH_LAG_MS:g} ms"
    if p99 is None:
        return Light("dispatch lag p99", "nothing sent", limit, None)
    return Light("dispatch lag p99", f"{p99:.2f} ms", limit, p99 <= DISPATCH_LAG_MS)


def _cpu(cpu: list[CpuSample]) -> Light:
    limit = f"no {CPU_SECONDS} s above {CPU_PERCENT:g} %"
    if not cpu:
        return Light("generator CPU", "not known yet", limit, None)
    newest = max(sample.t_s for sample in cpu)
    recent = [sample for sample in cpu if sample.t_s > newest - _MINUTE_S]
    now = max(sample.percent for sample in recent if sample.t_s > newest - 1)
    peak = max(sample.percent for sample in recent)
    return Light("generator CPU", f"{now:.0f} %, peak {peak:.0f} %", limit, longest_busy(recent) < CPU_SECONDS)


def _pauses(name: str, sending: list[GeneratorInfo], get: Callable[[GeneratorInfo], PauseInfo]) -> Light:
    if not sending:
        return Light(name, "not known yet", f"longest ≤ {PAUSE_MS:.0f} ms", None)
    worst = max(sending, key=lambda one: excess_pauses(one, get))
    pauses = get(worst)
    value = f"longest {pauses.longest_ms:.0f} ms, {pauses.total_ms:.0f} in all" if pauses.count else "none long"
    limit = f"longest ≤ {PAUSE_MS:.0f} ms, in all ≤ {allowed_pauses_ms(worst.watched_s):.0f} ms"
    return Light(name, value, limit, excess_pauses(worst, get) <= 1)


def _users(sending: list[GeneratorInfo], offered: int) -> Light:
    waited = sum(pool.waited for one in sending for pool in one.pools.values())
    limit = f"≤ {WAITED_SHARE:.0%} waited for a user"
    return Light("users", f"{waited:,} arrivals waited", limit, waited <= WAITED_SHARE * offered if offered else None)


def _workers(processes: list[GeneratorInfo]) -> list[Light]:
    workers = [one for one in processes if one.worker]
    if not workers:
        return []
    lost = sum(one.lost for one in workers)
    return [Light("workers", f"{len(workers) - lost} of {len(workers)} are there", "none lost", not lost)]
