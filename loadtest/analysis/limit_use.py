"""How far each limit was used in each stretch of the run, by all traffic together; and which limit bound it."""

import itertools
from dataclasses import dataclass

import pandas as pd

from loadtest.analysis.frame import Record
from loadtest.plan import CONCURRENCY


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What was asked of one limit while the same stages were on.

    ``limit`` is its name, or ``all``: the limit of all requests together. ``share`` is the requests sent ÷ what the
    limit allows at its sustained rate, over all quotas that it had; of a limit on concurrency, the accepted requests
    that were being answered ÷ those that may be, on average over the stretch.
    """

    limit: str
    stretch: str
    start_s: float
    end_s: float
    sent: int
    throttled: int
    share: float

    @property
    def throttled_rate(self) -> float:
        """429s ÷ requests sent."""
        return self.throttled / self.sent if self.sent else 0.0


def limit_use(record: Record) -> list[LimitUse]:
    """One row for each limit that was asked anything and each stretch between two stage boundaries of any traffic.

    Requests are counted where they were sent (polls of one stage draw on the next one's quota). The warm-up and the
    drain after the end are left out.
    """
    stages = record.stages()
    edges = sorted({min(t, record.covered_s) for _, s in stages for t in (s.start_s, s.start_s + s.duration_s)})
    uses = []
    for name in record.limits():
        on_limit = record.on_limit(name)
        seconds = on_limit["start"] / 1e9
        for begin, end in itertools.pairwise(edges):
            rows = on_limit[(seconds >= begin) & (seconds < end)]
            if not len(rows):
                continue
            on = dict.fromkeys(s.name for _, s in stages if s.start_s < end and s.start_s + s.duration_s > begin)
            limit, quotas = record.belief.limit_on(name), record.quotas_on(name)
            if record.belief.spec.algorithm == CONCURRENCY:
                share = _answering(on_limit, begin, end) / (limit.count * quotas)
            else:
                share = len(rows) / (limit.rate * quotas * (end - begin))
            throttled = int((rows["status"] == 429).sum())
            uses.append(LimitUse(name, " + ".join(on), begin, end, len(rows), throttled, share))
    return uses


def _answering(rows: pd.DataFrame, begin: float, end: float) -> float:
    """Accepted requests that were being answered, on average over a stretch."""
    accepted = rows[rows["status"] != 429]
    first, last = accepted["start"].clip(lower=begin * 1e9), accepted["end"].clip(upper=end * 1e9)
    return float((last - first).clip(lower=0).sum()) / 1e9 / (end - begin)


def binding_limit(uses: list[LimitUse]) -> LimitUse | None:
    """The limit that bound the run: most 429s; without any, the one that came nearest to its limit."""
    return max(uses, key=lambda use: (use.throttled, use.share), default=None)
