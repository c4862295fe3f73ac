"""Limits beyond which a load generator counts as the bottleneck, for the live page and the verdict."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo

DISPATCH_LAG_MS: Final = 50.0
"""Maximum 99th percentile of the dispatch lag."""
CPU_PERCENT: Final = 90.0
CPU_SECONDS: Final = 5
PAUSE_MS: Final = 1000.0
"""Maximum single pause of a generator process; a longer pause could be attributed to the service."""
PAUSES_SHARE: Final = 0.01
"""Maximum share of a process's observed time in pauses; a larger share affects the p99."""
PAUSES_LEAST_MS: Final = 500.0
"""Sum of pauses that is allowed even in the shortest run; the check of dispatch lag covers such pauses."""
WAITED_SHARE: Final = 0.01
"""Maximum share of arrivals without a free user; a larger share affects the p99, and breaks the open model."""

SOON_S: Final = 3
"""Seconds of overload until a warning, so that a stall of one second causes no warning."""
LATE_SHARE: Final = 0.01
"""Minimum share of late arrivals in a second of overload."""
LEAST_LATE: Final = 5
"""Minimum number of late arrivals in a second of overload; fewer are ordinary on a busy machine."""
_FULL: Final = 95.0
"""Percent of a machine's CPU above which another process would not find a free core."""
_ROOM: Final = 70.0
"""Percent of a core that each of the recommended processes should use."""

LAG_LIMIT: Final = f"≤ {DISPATCH_LAG_MS:g} ms"
CPU_LIMIT: Final = f"no {CPU_SECONDS} s above {CPU_PERCENT:g} %"
USERS_LIMIT: Final = f"≤ {WAITED_SHARE:.0%} waited for a user"


def longest_busy(cpu: Iterable[CpuSample]) -> int:
    """Return the longest time in s that any process was above ``CPU_PERCENT``; a sample covers one second."""
    longest = 0
    current: dict[int, int] = {}
    for sample in sorted(cpu, key=lambda sample: sample.t_s):
        busy = sample.percent > CPU_PERCENT
        current[sample.worker] = current.get(sample.worker, 0) + 1 if busy else 0
        longest = max(longest, current[sample.worker])
    return longest


def full_pools(processes: Iterable[GeneratorInfo]) -> Counter[str]:
    """Return a count that grows while arrivals wait for a user of a full pool, by traffic entry.

    The count is the number of arrivals that waited, plus two for each second with a waiting arrival.
    """
    held = Counter[str]()
    for process in processes:
        for name, pool in process.pools.items():
            held[name] += pool.waited + round(2 * pool.full_s) if pool.size >= pool.cap else 0
    return held


def bottleneck(cpu: Sequence[CpuSample], *, late: bool, full: Mapping[str, int] = MappingProxyType({})) -> str:
    """Return a warning with a remedy if the load generator cannot keep up or is near its limit; empty otherwise.

    Args:
        cpu: samples of all processes; those of the last ``SOON_S`` seconds count.
        late: whether too many arrivals were offered late for ``SOON_S`` seconds.
        full: maximum users of the pools whose arrivals waited for ``SOON_S`` seconds, by traffic entry.
    """
    for name, users in () if late else full.items():
        return (
            f"The pool of {name} is full: arrivals waited for one of its {users:,} users for {SOON_S} s. Raise "
            f"traffic.{name}.max_users, shorten its time-outs, or offer less."
        )
    # Half a second more covers samples that come early or late.
    since = max((sample.t_s for sample in cpu), default=0.0) - SOON_S + 0.5
    samples = [sample for sample in cpu if sample.t_s > since]
    workers = {sample.worker for sample in samples if sample.worker}
    # A master does not send.
    sending = [sample for sample in samples if sample.worker or not workers]
    if late:
        problem = f"The load generator cannot keep up: requests left more than {DISPATCH_LAG_MS:g} ms late"
    elif longest_busy(sending) >= SOON_S:
        problem = f"The load generator is near its limit: above {CPU_PERCENT:g} % CPU"
    else:
        return ""
    # CPU of busy processes does not show how much more they would need.
    used = sum(sample.percent for sample in sending) / SOON_S
    wanted = max(len(workers or [0]) + 1, math.ceil(used / _ROOM))
    busy = bool(sending) and all((sample.machine or 0.0) > _FULL for sample in sending)
    where = " on a machine with idle cores" if busy or wanted > (os.cpu_count() or 1) else ""
    return f"{problem} for {SOON_S} s. Use --processes {wanted} or more{where}, or offer less."


def allowed_pauses_ms(watched_s: float) -> float:
    """Return the maximum sum of a process's pauses in ms, over the time that it was observed."""
    return max(PAUSES_LEAST_MS, PAUSES_SHARE * watched_s * 1000)


def pauses_limit(watched_s: float) -> str:
    """Format the limits of pauses for a process."""
    return f"longest ≤ {PAUSE_MS:.0f} ms, in all ≤ {allowed_pauses_ms(watched_s):.0f} ms"


def excess_pauses(one: GeneratorInfo, get: Callable[[GeneratorInfo], PauseInfo]) -> float:
    """Return the larger of longest pause ÷ limit and sum of pauses ÷ limit of a process; up to 1 is acceptable."""
    pauses = get(one)
    return max(pauses.longest_ms / PAUSE_MS, pauses.total_ms / allowed_pauses_ms(one.watched_s))
