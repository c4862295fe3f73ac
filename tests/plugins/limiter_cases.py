"""Strategies of Hypothesis for limits, limiters and arrivals."""

from typing import NamedTuple

from hypothesis import strategies as st

from loadtest.limits import ALGORITHMS, Limiter, LimiterSpec, make
from loadtest.units import Limit

NOW = 1_800_000_000.0
"""A time at which windows of every length in this module begin. It is as large as unix seconds are."""
CLOSE = 2e-6
"""A limiter distinguishes times that differ by at least this many seconds."""
WINDOWS = (0.001, 0.1, 0.7, 1.0, 60.0, 7 * 24 * 3600.0)

limits = st.builds(Limit, st.integers(1, 12), st.sampled_from(WINDOWS))


class Case(NamedTuple):
    """A limiter's specification, with the times of requests to it."""

    spec: LimiterSpec
    limit: Limit
    times: list[float]

    def make(self) -> Limiter:
        """Return a new limiter."""
        return make(self.spec, self.limit)

    @property
    def burst(self) -> int:
        """Number of requests that the limiter accepts at once."""
        return self.spec.burst or (1 if self.spec.algorithm == "gcra" else self.limit.count)


@st.composite
def specs(draw: st.DrawFn, *names: str, counting: bool | None = None) -> LimiterSpec:
    """Draw the specification of one of these algorithms, or of any."""
    algorithm = ALGORITHMS[draw(st.sampled_from(names or tuple(ALGORITHMS)))]
    burst = draw(st.none() | st.integers(1, 12)) if algorithm.has_burst else None
    counts = algorithm.can_count_rejected and (draw(st.booleans()) if counting is None else counting)
    phase = draw(st.sampled_from([0.0, 0.25, 7.5])) if algorithm.aligned else 0.0
    return LimiterSpec(
        algorithm.name, burst, counts, phase=phase, round_down=algorithm.can_round_down and draw(st.booleans())
    )


def every_spec(burst: int = 3, phase: float = 0.25) -> list[LimiterSpec]:
    """Return specifications of all algorithms. Each parameter has its default and another value."""
    return [
        LimiterSpec(name, at_once, rejected, phase=begins, round_down=rounded)
        for name, each in ALGORITHMS.items()
        for at_once in ((None, burst) if each.has_burst else (None,))
        for rejected in each.variants
        for begins in ((0.0, phase) if each.aligned else (0.0,))
        for rounded in each.roundings
    ]


@st.composite
def arrivals(draw: st.DrawFn, limit: Limit, size: int = 40) -> list[float]:
    """Draw ascending times: bursts, gaps that end exactly at a limiter's boundaries, other gaps, and long silences."""
    spacing = limit.window / limit.count
    gaps = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 1.0, float(limit.count), 2.5 * limit.count]) | st.floats(0, 3)
    at = NOW + draw(st.sampled_from([0.0, 0.5]) | st.floats(0, 2)) * limit.window
    times = []
    for gap in draw(st.lists(gaps, min_size=1, max_size=size)):
        at += gap * spacing
        times.append(at)
    return times


@st.composite
def cases(draw: st.DrawFn, *names: str, counting: bool | None = None) -> Case:
    """Draw a limiter of one of these algorithms, or of any, and requests to it."""
    spec, limit = draw(specs(*names, counting=counting)), draw(limits)
    return Case(spec, limit, draw(arrivals(limit)))


TIMED = tuple(name for name in ALGORITHMS if name != "concurrency")
"""The algorithms whose decisions depend on time."""
