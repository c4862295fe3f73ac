"""How far each limit was used in each stretch of the run, by all traffic together; and which limit bound it."""

import itertools
from dataclasses import dataclass

from loadtest.analysis.frame import Record


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What was asked of one limit while the same stages were on.

    ``share`` is the requests sent ÷ what the limit allows at its sustained rate, over all keys that were
    used on it.
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
    seconds = record.sent_requests["start"] / 1e9
    uses = []
    for name, believed in record.info.target.limits.items():
        on_limit = record.sent_requests["limit"] == name
        for begin, end in itertools.pairwise(edges):
            rows = record.sent_requests[on_limit & (seconds >= begin) & (seconds < end)]
            if not len(rows):
                continue
            on = dict.fromkeys(s.name for _, s in stages if s.start_s < end and s.start_s + s.duration_s > begin)
            allowed = believed.count / believed.window_s * record.keys_on(name) * (end - begin)
            throttled = int((rows["status"] == 429).sum())
            uses.append(LimitUse(name, " + ".join(on), begin, end, len(rows), throttled, len(rows) / allowed))
    return uses


def binding_limit(uses: list[LimitUse]) -> LimitUse | None:
    """The limit that bound the run: most 429s; without any, the one that came nearest to its limit."""
    return max(uses, key=lambda use: (use.throttled, use.share), default=None)
