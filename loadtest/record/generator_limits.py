"""Limits of a load generator, for the verdict and for warnings during a run."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from loadtest.record.run_info import CpuSample, GeneratorInfo, PauseInfo

DISPATCH_LAG_MS: Final = 50.0
"""Maximum p99 of the dispatch lag."""
CPU_PERCENT: Final = 90.0
CPU_SECONDS: Final = 5
PAUSE_MS: Final = 1000.0
"""Maximum length of a generator process's pause. A longer pause could be mistaken for a slow service."""
PAUSES_SHARE: Final = 0.01
"""Maximum sum of a process's pauses, as a share of the observed time. A larger share affects the p99."""
PAUSES_LEAST_MS: Final = 500.0
"""Sum of a process's pauses that is allowed in any run, however short."""
WAITED_SHARE: Final = 0.01
"""Maximum share of arrivals that find no free user. A larger share affects the p99, and breaks the open model."""
SOON_S: Final = 3
"""A warning appears after this many seconds of overload, so that a stall of one second causes no warning."""
LATE_SHARE: Final = 0.01
"""A second is overloaded only if at least this share of its arrivals is late."""
LEAST_LATE: Final = 5
"""A second is overloaded only if at least this many arrivals are late. Fewer are ordinary on a busy machine."""
_FULL: Final = 95.0
"""Above this CPU use (%), a machine counts as having no free core."""
_ROOM: Final = 70.0
"""Each of the recommended processes should use this percentage of a core."""

LAG_LIMIT: Final = f"≤ {DISPATCH_LAG_MS:g} ms"
CPU_LIMIT: Final = f"no {CPU_SECONDS} s above {CPU_PERCENT:g} %"
USERS_LIMIT: Final = f"≤ {WAITED_SHARE:.0%} waited for a user"


def longest_busy(cpu: Iterable[CpuSample]) -> int:
    """Return the longest time in s that a process was above ``CPU_PERCENT`` without a break. A sample covers 1 s."""
    longest = 0
    current = Counter[int]()
    for sample in sorted(cpu, key=lambda sample: sample.t_s):
        current[sample.worker] = current[sample.worker] + 1 if sample.percent > CPU_PERCENT else 0
        longest = max(longest, current[sample.worker])
    return longest


def full_pools(processes: Iterable[GeneratorInfo]) -> Counter[str]:
    """Return a count for each traffic entry. It grows while arrivals wait for a user of a full pool."""
    held = Counter[str]()
    for name, pool in (each for process in processes for each in process.pools.items()):
        held[name] += pool.waited + round(2 * pool.full_s) if pool.size >= pool.cap else 0
    return held


def bottleneck(cpu: Sequence[CpuSample], *, late: bool, full: Mapping[str, int] = MappingProxyType({})) -> str:
    """Return a warning with a remedy if the load generator cannot keep up or is near a limit, else an empty text.

    ``cpu`` has samples of all processes; only the last ``SOON_S`` seconds count. ``late`` says whether too many
    arrivals were late throughout these seconds. ``full`` has the pools in which arrivals waited throughout these
    seconds, with their maximum numbers of users.
    """
    if full and not late:
        name, users = next(iter(full.items()))
        return (
            f"The pool of {name} is full: arrivals waited for one of its {users:,} users for {SOON_S} s. Raise "
            f"traffic.{name}.max_users, shorten its time-outs, or offer less."
        )
    # The bound lies between two samples, because samples may come early or late.
    since = max((sample.t_s for sample in cpu), default=0.0) - SOON_S + 0.5
    samples = [sample for sample in cpu if sample.t_s > since]
    workers = {sample.worker for sample in samples if sample.worker}
    # If there are workers, the master (worker 0) sends nothing, so its samples do not count.
    sending = [sample for sample in samples if sample.worker or not workers]
    if late:
        problem = f"The load generator cannot keep up: requests left more than {DISPATCH_LAG_MS:g} ms late"
    elif longest_busy(sending) >= SOON_S:
        problem = f"The load generator is near its limit: above {CPU_PERCENT:g} % CPU"
    else:
        return ""
    # Busy processes may need more CPU than they used, so at least one more process is recommended.
    used = sum(sample.percent for sample in sending) / SOON_S
    wanted = max(len(workers or [0]) + 1, math.ceil(used / _ROOM))
    busy = bool(sending) and all((sample.machine or 0.0) > _FULL for sample in sending)
    where = " on a machine with idle cores" if busy or wanted > (os.cpu_count() or 1) else ""
    return f"{problem} for {SOON_S} s. Use --processes {wanted} or more{where}, or offer less."


def allowed_pauses_ms(watched_s: float) -> float:
    """Return the allowed sum (ms) of the pauses of a process that was observed for ``watched_s`` seconds."""
    return max(PAUSES_LEAST_MS, PAUSES_SHARE * watched_s * 1000)


def pauses_limit(watched_s: float) -> str:
    """Format the limits of the pauses of a process that was observed for ``watched_s`` seconds."""
    return f"longest ≤ {PAUSE_MS:.0f} ms, in all ≤ {allowed_pauses_ms(watched_s):.0f} ms"


def excess_pauses(one: GeneratorInfo, get: Callable[[GeneratorInfo], PauseInfo]) -> float:
    """Return the larger of a process's longest pause and sum of pauses, each ÷ its limit. Up to 1 is allowed."""
    pauses = get(one)
    return max(pauses.longest_ms / PAUSE_MS, pauses.total_ms / allowed_pauses_ms(one.watched_s))
