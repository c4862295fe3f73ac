"""What each limiter accepts of an even load, and after a burst, against formulas worked out on paper.

All at today's unix time, where floats are 2.4e-7 s apart. N = 100 per W = 60 s; r is the offered rate over N/W; T the
seconds of load; φ the part of a wall-aligned window that has passed when it begins.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from plugins.limiter_cases import NOW

from loadtest.limits import Limiter, LimiterSpec, make, replay
from loadtest.units import Limit

N, W = 100, 60.0
LIMIT = Limit(N, W)
RHO = N / W
SPACING = W / N

Formula = Callable[[float, float, float], float]
"""Accepted requests, of rate λ, T and φ in seconds."""


def per_window(rate: float, seconds: float, phase: float) -> float:
    """Σ over windows of min(N, λ · length), the first one cut to W − φ."""
    accepted, at, boundary = 0.0, 0.0, W - phase
    while at < seconds - 1e-9:
        end = min(boundary, seconds)
        accepted += min(N, rate * (end - at))
        at, boundary = end, boundary + W
    return accepted


def log(rate: float, seconds: float, _phase: float) -> float:
    """N⌊T/W⌋ + min(N, λ(T mod W)) for r ≥ 1, else all."""
    return N * math.floor(seconds / W) + min(N, rate * (seconds % W)) if rate >= RHO else rate * seconds


def bucket(burst: int) -> Formula:
    """min(λT, B + ρT)."""
    return lambda rate, seconds, _: min(rate * seconds, burst + RHO * seconds)


def only_n(rate: float, seconds: float, _phase: float) -> float:
    """N and then none while r > 1, else all."""
    return min(N, rate * seconds) if rate > RHO else rate * seconds


FORMULAS: dict[LimiterSpec, Formula] = {
    LimiterSpec("fixed-window"): per_window,
    LimiterSpec("fixed-window-from-first"): lambda rate, seconds, _: per_window(rate, seconds, 0),
    LimiterSpec("sliding-log"): log,
    LimiterSpec("sliding-log", None, True): only_n,
    LimiterSpec("token-bucket"): bucket(N),
    LimiterSpec("token-bucket", 10): bucket(10),
    LimiterSpec("gcra", N): bucket(N),
    LimiterSpec("gcra"): lambda rate, seconds, _: rate * seconds / math.ceil(rate / RHO - 1e-9),
    LimiterSpec("leaky-queue"): bucket(N),
    LimiterSpec("leaky-queue", 10): bucket(10),
    LimiterSpec("concurrency"): lambda rate, seconds, _: rate * seconds,
}


def even(rate: float, seconds: float, phase: float = 0.0) -> list[float]:
    """Even load from φ on."""
    return [NOW + phase + k / rate for k in range(math.ceil(rate * seconds - 1e-9))]


def label(spec: object) -> str | None:
    if isinstance(spec, LimiterSpec):
        return f"{spec.algorithm}{spec.burst or ''}{'-counting' if spec.count_rejected else ''}"
    return None


@pytest.mark.parametrize("phase", [0, 0.25, 0.3, 0.77, 0.999])
@pytest.mark.parametrize("spec", FORMULAS, ids=label)
def test_even_load_is_accepted_by_the_formula_within_one_request(spec: LimiterSpec, phase: float) -> None:
    """For loads below, at and above the limit, also those whose requests meet a limiter's edges exactly."""
    for r in (0.5, 0.9, 1, 1.1, 1.5, 2, 2.5, 3, 5):
        for seconds in (45, 300, 330, 477.3):
            accepted = sum(replay(make(spec, LIMIT), even(r * RHO, seconds, phase * W)))
            # An even load is whole requests: the formula's own rounding comes on top of the one request.
            assert abs(accepted - FORMULAS[spec](r * RHO, seconds, phase * W)) <= 1 + 1e-6, (r, seconds)


@pytest.mark.parametrize("phase", [0, 0.25, 0.77])
@pytest.mark.parametrize("r", [0.5, 1, 1.1, 2, 5])
def test_a_sliding_counter_accepts_its_formula_in_each_window(r: float, phase: float) -> None:
    """min(λL, N − p(1 − f_end)) within one request, of p accepted in the window before, f_end at its last request."""
    times = even(r * RHO, 330, phase * W)
    passed = replay(make(LimiterSpec("sliding-counter"), LIMIT), times)
    windows: dict[float, list[tuple[float, bool]]] = {}
    for time, ok in zip(times, passed, strict=True):
        windows.setdefault(time // W, []).append((time, ok))
    before = 0
    for index, requests in windows.items():
        taken = sum(ok for _, ok in requests)
        ended = requests[-1][0] / W - index
        assert abs(taken - min(len(requests), N - before * (1 - ended))) <= 1 + 1e-6
        before = taken


def test_a_saturated_sliding_counter_accepts_n_and_then_one_less() -> None:
    """The request that would fill the estimate comes at the very end of the window, and so in the next."""
    passed = replay(make(LimiterSpec("sliding-counter"), LIMIT), even(2 * RHO, 300))
    assert [sum(passed[k : k + 2 * N]) for k in range(0, 1000, 2 * N)] == [100, 99, 99, 99, 99]


@pytest.mark.parametrize(
    ("spec", "at_1_1", "at_2"),
    [
        (LimiterSpec("fixed-window"), 0.091, 0.500),
        (LimiterSpec("fixed-window-from-first"), 0.091, 0.500),
        (LimiterSpec("sliding-log"), 0.091, 0.500),
        (LimiterSpec("sliding-counter"), 0.098, 0.504),
        (LimiterSpec("token-bucket"), 0.0, 0.401),
        (LimiterSpec("leaky-queue"), 0.0, 0.401),
        (LimiterSpec("gcra"), 0.5, 0.5),
        (LimiterSpec("sliding-log", None, True), 0.818, 0.900),
    ],
    ids=label,
)
def test_the_share_of_429s_in_five_minutes(spec: LimiterSpec, at_1_1: float, at_2: float) -> None:
    """At 1.1 and at 2 times the limit for 300 s, within one request."""
    for r, expected in ((1.1, at_1_1), (2, at_2)):
        times = even(r * RHO, 300)
        share = 1 - sum(replay(make(spec, LIMIT), times)) / len(times)
        assert share == pytest.approx(expected, abs=1 / len(times) + 5e-4)


def drip(limiter: Limiter, burst: int, seconds: float) -> list[float]:
    """Seconds at which requests pass that come ten to each T₁, after a burst at 0.2 W behind a boundary."""
    start = NOW + 0.2 * W
    for _ in range(burst):
        limiter.decide(start)
    step = SPACING / 10
    return [k * step for k in range(1, round(seconds / step)) if limiter.decide(start + k * step).allowed]


@pytest.mark.parametrize(
    ("spec", "burst", "first", "then"),
    [
        (LimiterSpec("fixed-window"), N, 0.8 * W, SPACING / 10),
        (LimiterSpec("fixed-window-from-first"), N, W, SPACING / 10),
        (LimiterSpec("sliding-log"), N, W, SPACING / 10),
        (LimiterSpec("sliding-counter"), N, 0.8 * W + SPACING, SPACING),
        (LimiterSpec("token-bucket"), N, SPACING, SPACING),
        (LimiterSpec("token-bucket", 7), 7, SPACING, SPACING),
        (LimiterSpec("gcra"), 1, SPACING, SPACING),
        (LimiterSpec("leaky-queue"), N, SPACING, SPACING),
    ],
    ids=label,
)
def test_after_a_burst(spec: LimiterSpec, burst: int, first: float, then: float) -> None:
    """So many pass at once and no more; when a drip is let through again, and how fast it is then."""
    at_once = make(spec, LIMIT)
    assert [at_once.decide(NOW).allowed for _ in range(2 * N)] == [True] * burst + [False] * (2 * N - burst)
    times = drip(make(spec, LIMIT), burst, W * 1.1)
    assert times[0] == pytest.approx(first)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx([then] * len(gaps))
    assert len(gaps) > 5


def test_a_leaky_queues_latency_ramps_to_its_length() -> None:
    """A burst is held one T₁ longer each; an overload that goes on finds it at about B·T₁."""
    limiter = make(LimiterSpec("leaky-queue", 20), LIMIT)
    assert [limiter.decide(NOW).delay for _ in range(20)] == pytest.approx([k * SPACING for k in range(20)])
    limiter = make(LimiterSpec("leaky-queue", 20), LIMIT)
    held = [limiter.decide(time) for time in even(2 * RHO, 300)]
    assert max(each.delay for each in held) == pytest.approx(19 * SPACING)
    assert min(each.delay for each in held[-100:] if each.allowed) > 18 * SPACING


@pytest.mark.parametrize("phase", [0, 0.5])
@pytest.mark.parametrize("r", [1.1, 2, 5])
@pytest.mark.parametrize("algorithm", ["sliding-log", "sliding-counter", "token-bucket", "gcra"])
def test_counting_429s_locks_out_whoever_goes_on_asking(algorithm: str, r: float, phase: float) -> None:
    """After the first 429 none passes while r > 1; after two windows of silence the first N or B do again."""
    spec = LimiterSpec(algorithm, None, True)
    limiter, times = make(spec, LIMIT), even(r * RHO, 900, phase * W)
    passed = replay(limiter, times)
    assert not any(passed[passed.index(False) :])
    assert limiter.decide(times[-1] + 2 * W + SPACING).remaining == (N - 1 if algorithm != "gcra" else 0)
