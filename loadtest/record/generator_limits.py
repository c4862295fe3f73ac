"""What a load generator may do before it counts as the bottleneck: the live page shows it, the verdict rests on it."""

from collections.abc import Callable, Iterable
from typing import Final

from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo

DISPATCH_LAG_MS: Final = 50.0
"""At the 99th percentile."""
CPU_PERCENT: Final = 90.0
CPU_SECONDS: Final = 5
PAUSE_MS: Final = 1000.0
"""Longest single pause of a generator process: more is a stall that users of the service would be blamed for."""
PAUSES_SHARE: Final = 0.01
"""Of the time that a process was watched, in pauses: more reaches the p99."""
PAUSES_LEAST_MS: Final = 500.0
"""What all pauses may take of however short a run: the check of dispatch lag judges those."""
WAITED_SHARE: Final = 0.01
"""Of the arrivals, that found no user free: more reaches the p99, and is no open model."""

LAG_LIMIT: Final = f"≤ {DISPATCH_LAG_MS:g} ms"
CPU_LIMIT: Final = f"no {CPU_SECONDS} s above {CPU_PERCENT:g} %"
USERS_LIMIT: Final = f"≤ {WAITED_SHARE:.0%} waited for a user"


def longest_busy(cpu: Iterable[CpuSample]) -> int:
    """Most seconds on end in which any process was above ``CPU_PERCENT``, a sample covering one second."""
    longest = 0
    current: dict[int, int] = {}
    for sample in sorted(cpu, key=lambda sample: sample.t_s):
        busy = sample.percent > CPU_PERCENT
        current[sample.worker] = current.get(sample.worker, 0) + 1 if busy else 0
        longest = max(longest, current[sample.worker])
    return longest


def allowed_pauses_ms(watched_s: float) -> float:
    """What all pauses of a process may take, watched for so long."""
    return max(PAUSES_LEAST_MS, PAUSES_SHARE * watched_s * 1000)


def pauses_limit(watched_s: float) -> str:
    """The limits of pauses, for a process that was watched for so long."""
    return f"longest ≤ {PAUSE_MS:.0f} ms, in all ≤ {allowed_pauses_ms(watched_s):.0f} ms"


def excess_pauses(one: GeneratorInfo, get: Callable[[GeneratorInfo], PauseInfo]) -> float:
    """Its pauses of a kind as a multiple of what is allowed, by the longest or all together: up to 1 is well."""
    pauses = get(one)
    return max(pauses.longest_ms / PAUSE_MS, pauses.total_ms / allowed_pauses_ms(one.watched_s))
