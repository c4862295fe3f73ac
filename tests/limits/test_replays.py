"""The three forms of a limiter agree on random sends: state machine, replay of many at once, and loads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.limiter_cases import every_spec

from loadtest import limits
from loadtest.limits import ALGORITHMS, CONCURRENCY, at_once
from loadtest.limits.fits import judge
from loadtest.limits.loads import LOADS, RequestLog
from loadtest.limits.replays import REPLAYS, replay
from loadtest.units import Limit

WINDOW = 2**0.5
"""Seconds. No multiple is a whole number of ms, as sends are: nothing lies on an edge, where rounding would decide."""
SPECS = every_spec()
few = settings(max_examples=settings.default.max_examples // 4)
gaps = st.lists(st.one_of(st.integers(1, 80), st.integers(1, 3000)), min_size=1, max_size=80)
sends = gaps.map(lambda gaps: 1000 + np.cumsum(gaps) / 1000)


@pytest.mark.parametrize("spec", [each for each in SPECS if each.algorithm != CONCURRENCY], ids=str)
@few
@given(sends, st.lists(st.sampled_from([1, 1, 2, 7]), min_size=80, max_size=80), st.integers(1, 6), st.floats(0, 1))
def test_a_replay_of_many_decides_as_the_state_machine_does(spec, times, sizes, count, ahead):
    """Of each volley as many pass, for clocks that are ahead by as much as they are."""
    limit, algorithm = Limit(count, WINDOW), ALGORITHMS[spec.algorithm]
    clocks = [0.0, ahead] if spec.on_clock else [0.0, 0.0]
    of_one = 1 / limit.rate if algorithm.has_burst else limit.window
    many = REPLAYS[algorithm.decides_as or algorithm.name](
        np.full((1, 2), float(at_once(spec, limit))), np.full((1, 2), of_one), np.array([clocks]) - spec.phase,
        count_rejected=spec.count_rejected, round_down=spec.round_down,
    )  # fmt: skip
    machines = [limits.make(spec, limit) for _ in range(2)]
    for now, size in zip(times.tolist(), sizes, strict=False):
        passed = [
            sum(machine.decide(now + shift).allowed for _ in range(size))
            for machine, shift in zip(machines, clocks, strict=True)
        ]
        assert many.volley(np.full((1, 2), now), size).tolist() == [passed]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@few
@given(sends, st.integers(1, 6), st.integers(1, 4000))
def test_loads_reproduce_every_decision_where_times_are_exact(spec, times, count, took_ms):
    """Without a tolerance nothing is undecidable, and no decision of the limiter's own contradicts its loads."""
    limit, ends = Limit(count, WINDOW), times + (took_ms + 0.5) / 1000  # none ends when another comes
    passed = replay(spec, limit, times, ends)
    every = np.ones(len(times), bool)
    log = RequestLog(limit, times, ends, ~passed, every, every, 0.0, np.arange(len(times)), np.zeros(1, int))
    loads = LOADS[ALGORITHMS[spec.algorithm].name](log, spec, limit, 0.0)
    assert judge(log, loads, at_once(spec, limit), spec, limit).right == len(times)
