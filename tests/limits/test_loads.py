from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.limiter_cases import every_spec

from loadtest import limits
from loadtest.analysis.rejections import join, log_of
from loadtest.limits import ALGORITHMS, LimiterSpec, at_once
from loadtest.limits.fits import judge
from loadtest.limits.loads import LOADS, Loads, RequestLog
from loadtest.units import Limit

SPECS = every_spec()
gaps = st.lists(st.one_of(st.floats(0.002, 3.0), st.sampled_from([0.25, 0.5, 1.0, 4.0])), min_size=1, max_size=120)


def loads(requests: RequestLog, spec: LimiterSpec, limit: Limit) -> tuple[Loads, int]:
    """The loads of a spec, and its threshold."""
    return LOADS[ALGORITHMS[spec.algorithm].name](requests, spec, limit, 0.0), at_once(spec, limit)


def asked_of(spec: LimiterSpec, limit: Limit, per_limiter: list[list[float]], took: float) -> RequestLog:
    """What the leaf's own limiters answer, one for each list of gaps."""
    groups = []
    for each in per_limiter:
        times = 1.7e9 + np.cumsum(each)
        passed = limits.replay(limits.make(spec, limit), times.tolist(), (times + took).tolist())
        status = np.where(passed, 200.0, 429.0)
        groups.append(log_of(limit, times, times + took, status, np.arange(len(times))))
    return join(groups, 2e-6)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(max_examples=settings.default.max_examples // 4)
@given(st.lists(gaps, min_size=1, max_size=3), st.integers(1, 6), st.sampled_from([1.0, 2.0, 5.0]), st.floats(0.1, 4))
def test_a_limiters_own_decisions_never_contradict_it(spec, per_limiter, count, window, took):
    """Fed with what a limiter of the leaf decided, its loads predict every decision, or say that they can't."""
    limit = Limit(count, window)
    requests = asked_of(spec, limit, per_limiter, took)
    found, threshold = loads(requests, spec, limit)
    fit = judge(requests, found, threshold, spec, limit)
    assert (found[0] <= found[1] + 1e-9).all()
    assert fit.wrongly_rejected == fit.wrongly_admitted == 0
    assert fit.right + fit.undecidable == sum(map(len, per_limiter))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_little_is_undecidable_where_times_are_known(spec: LimiterSpec) -> None:
    """Irregular traffic at twice the limit: nearly every decision is predicted."""
    chance = np.random.default_rng(3)
    limit = Limit(10, 5.0)
    requests = asked_of(spec, limit, [chance.exponential(0.25, 400).tolist()], 3.0)
    found, threshold = loads(requests, spec, limit)
    assert judge(requests, found, threshold, spec, limit).undecidable <= 4


def test_one_limiter_knows_nothing_of_another() -> None:
    """On the common axis of time each limiter's requests lie in windows of their own, at the same phase."""
    limit = Limit(2, 60.0)
    groups = [
        log_of(limit, at, at, np.full(3, 200.0), np.arange(-1, 2))
        for at in (np.array([1.7e9 - 1, 1.7e9, 1.7e9 + 5]), np.array([1.7e9 + 29, 1.7e9 + 30, 1.7e9 + 90]))
    ]
    requests = join(groups, 0.001)
    assert requests.judged.tolist() == [False, True, True] * 2
    assert ((requests.times[1:3] - 1.7e9) % 60).round(3).tolist() == (np.array([0, 5]) % 60).tolist()
    assert all(later >= earlier for earlier, later in pairwise(requests.times))
    assert requests.times[3] - requests.times[2] > 120
