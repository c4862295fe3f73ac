"""The three numbers of the first screen, each with an interval and with what it rests on."""

import math
from dataclasses import dataclass
from typing import Final

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.report.headline import Entry, main_entry

_Z: Final = 1.959964
"""Two-sided 95 %."""


@dataclass(frozen=True)
class KeyFigure:
    """A number as text.

    Attributes:
        label: what it is.
        value: with its unit; a dash where there is none.
        interval: its 95 % interval as text; empty without one.
        n: on how many it rests, in words; empty without any.
        why: why there is no value, or no interval; empty otherwise.
    """

    label: str
    value: str
    interval: str = ""
    n: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """All that belongs beside the value and its label."""
        interval = f"95 %: {self.interval}" if self.interval else ""
        return ", ".join(part for part in (interval, self.n, self.why) if part)


def wilson(hits: int, n: int) -> tuple[float, float] | None:
    """A 95 % interval of a share by Wilson's score (Brown, Cai and DasGupta, Statistical Science 2001); None for n = 0.

    Like the intervals of percentiles it knows of sampling only.
    """
    if not n:
        return None
    share, spread = hits / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / 4 / n)
    # At the ends rounding would leave the value itself outside.
    return 0.0 if hits == 0 else max(0.0, middle - half), 1.0 if hits == n else min(1.0, middle + half)


def key_figures(findings: Findings) -> tuple[KeyFigure, ...]:
    """Response time of the main operation, 429 rate, goodput."""
    return _response(main_entry(findings)), _throttled(findings), _goodput(findings)


def _response(entry: Entry | None) -> KeyFigure:
    if entry is None or not entry.times.n:
        return KeyFigure("p95 response time", numbers.NOTHING, why="no data, because no operation was ok or timed out")
    where = f"{entry.traffic} within the limits" if entry.within else entry.traffic
    n = f"n = {numbers.count(entry.times.n)} {entry.words}"
    found = entry.percentile
    if found is None or found.value is None or entry.quantile is None:
        longest = ("≥\u00a0" if entry.times.open_from <= entry.times.most else "") + numbers.duration_ms(
            entry.times.most
        )
        return KeyFigure(f"longest response time, {where}", longest, n=n, why="too few for a percentile")
    at_least = "≥\u00a0" if found.value >= entry.times.open_from else ""
    high = "no upper bound: it reaches time-outs" if at_least else numbers.duration_ms(found.high)
    return KeyFigure(
        f"{entry.quantile[0]} response time, {where}",
        at_least + numbers.duration_ms(found.value),
        f"{numbers.duration_ms(found.low)} to {high}",
        n,
    )


def _throttled(findings: Findings) -> KeyFigure:
    requests = findings.metrics.overall.requests
    bounds = wilson(requests.throttled, requests.sent)
    if bounds is None:
        return KeyFigure("429 rate", numbers.NOTHING, why="no data, because no request was sent")
    return KeyFigure(
        "429 rate, all requests",
        numbers.share(requests.throttled_rate),
        f"{numbers.share(bounds[0])} to {numbers.share(bounds[1])}",
        f"n = {numbers.count(requests.sent)} request{'' if requests.sent == 1 else 's'}",
    )


def _goodput(findings: Findings) -> KeyFigure:
    """The schedule sets how many come in a second; what varies is the share of them that ends well."""
    overall = findings.metrics.overall
    counts, rate = overall.operations, overall.operations.offered_rate
    bounds = wilson(counts.ok, counts.offered)
    if bounds is None or rate is None or not counts.sent:
        return KeyFigure("goodput", numbers.NOTHING, why="no data, because no operation was sent")
    low, high = (numbers.rate(bound * rate) for bound in bounds)
    return KeyFigure(
        "goodput, ok operations",
        numbers.rate(overall.goodput),
        f"{low} to {high}",
        f"n = {numbers.count(counts.offered)} offered",
    )
