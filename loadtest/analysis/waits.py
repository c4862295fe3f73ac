"""What a job waited for, within the bounds in which polling and a submit's answer let it be known.

Of a job these are seen: its submit was sent (S) and answered (A), the last request that saw it pending was sent (P),
and the poll that saw its end was answered (T). The target accepted it at some time from S to A, its result was ready
at some time from P to T, and it says to have executed it for E (executionTime). So

* queue wait, from being accepted to the begin of execution, is at least P − A − E and at most T − S − E;
* poll lag, from the result to its being seen, is at most T − P, and may be nothing at all.

Both hold whatever the target does in between, as long as its executionTime is true.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.rows import Rows

Floats = NDArray[np.float64]

GRAIN_MS: Final = 1.0
"""executionTime may be rounded up to a whole millisecond without being impossible."""


def queue_wait(rows: Rows) -> tuple[Floats, Floats]:
    """Lower and upper bound of the queue wait of ended jobs, in ms.

    Both NaN where something isn't known, and where the executionTime cannot be true (such are among the oddities);
    a wait is never below zero.
    """
    names = ("pending_seen", "accepted_start", "accepted_end", "end", "execution_time_ms")
    return bounds(*(rows.floats(name) for name in names))


def bounds(pending: Floats, sent: Floats, answered: Floats, end: Floats, execution: Floats) -> tuple[Floats, Floats]:
    """The bounds of ``queue_wait`` from P, S, A and T in ns, and E in ms."""
    lower = (pending - answered) / 1e6 - execution
    upper = (end - sent) / 1e6 - execution
    known = (execution >= 0) & (upper >= -GRAIN_MS) & ~np.isnan(lower)
    return np.where(known, np.maximum(lower, 0.0), np.nan), np.where(known, np.maximum(upper, 0.0), np.nan)


def poll_lag(rows: Rows) -> Floats:
    """Upper bound of the poll lag of ended jobs, in ms; the lower one is zero."""
    lag: Floats = (rows.floats("end") - rows.floats("pending_seen")) / 1e6
    return lag
