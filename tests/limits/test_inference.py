import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import limits
from loadtest.analysis.rejections import join, log_of
from loadtest.limits import ALGORITHMS, LimiterSpec
from loadtest.limits.inference import Inference, infer, sign_test, words
from loadtest.limits.loads import RequestLog
from loadtest.units import Limit

LIMIT, AT_ONCE = Limit(100, 60.0), Limit(6, 60.0)
SHIFT = 0.31
TRUTHS = [
    LimiterSpec("fixed-window"),
    LimiterSpec("fixed-window", phase=42.3),
    LimiterSpec("fixed-window-from-first"),
    LimiterSpec("sliding-log"),
    LimiterSpec("sliding-log", count_rejected=True),
    LimiterSpec("sliding-counter"),
    LimiterSpec("sliding-counter", round_down=True),
    LimiterSpec("sliding-counter", count_rejected=True),
    LimiterSpec("sliding-counter-from-first"),
    LimiterSpec("sliding-counter-from-first", count_rejected=True),
    LimiterSpec("token-bucket"),
    LimiterSpec("token-bucket", round_down=True),
    LimiterSpec("token-bucket", 17),
    LimiterSpec("token-bucket", 17, count_rejected=True),
    LimiterSpec("gcra"),
    LimiterSpec("gcra", 5),
    LimiterSpec("gcra", count_rejected=True),
    LimiterSpec("leaky-queue"),
    LimiterSpec("leaky-queue", 20),
    LimiterSpec("concurrency"),
]


def even(rate: float, seconds: float, begin: float = 0.0) -> list[float]:
    """Evenly spaced times."""
    return (begin + np.arange(round(rate * seconds)) / rate).tolist()


TRAFFIC: dict[str, Callable[[], list[float]]] = {
    "1.1x": lambda: even(1.1 * 100 / 60, 300),
    "2x": lambda: even(2 * 100 / 60, 300),
    "burst": lambda: [*even(10000, 0.02), *even(100 / 60, 200, 4.0)],
    "steps": lambda: [*even(0.8, 70), *even(3.5, 100, 70), *even(1.2, 60, 170), *even(5, 70, 230)],
}


def world(
    truth: LimiterSpec,
    times: list[float],
    limit: Limit,
    *,
    seed: int = 5,
    base: float = 1.7e9 + 13.7,
    delay_s: float = 0.0003,
) -> RequestLog:
    """Return the answers of a server with such a limiter, whose clock is ahead of ours."""
    chance, limiter = random.Random(seed), limits.make(truth, limit)  # a simulation: not for secrets
    arrivals = sorted((base + t + delay_s + chance.expovariate(1 / delay_s), base + t) for t in times)
    starts, ends, refused, running = [], [], [], list[float]()
    for arrival, sent in arrivals:
        for _ in [end for end in running if end <= arrival]:
            limiter.release(arrival)
        running = [end for end in running if end > arrival]
        decision = limiter.decide(arrival + SHIFT)
        took = decision.delay + (4 * chance.lognormvariate(0, 0.3) if truth.algorithm == "concurrency" else 0.2)
        end = arrival + (took if decision.allowed else 0.0002)
        if decision.allowed:
            running.append(end)
        starts.append(sent)
        ends.append(end + delay_s)
        refused.append(not decision.allowed)
    status = np.where(refused, 429.0, 200.0)
    group = log_of(limit, np.array(starts), np.array(ends), status, np.arange(len(starts)))
    return join([group], max(0.002, 4.5 * delay_s))


def found_in(truth: LimiterSpec, traffic: str, assumed: LimiterSpec | None = None) -> Inference:
    """Infer a limiter from the answers to some traffic."""
    limit = AT_ONCE if truth.algorithm == "concurrency" else LIMIT
    return infer(world(truth, TRAFFIC[traffic](), limit), assumed or LimiterSpec(), 0.0, 0.6)


def is_named(truth: LimiterSpec, found: Inference) -> bool:
    """Whether the true limiter is among those named, with its burst."""
    burst = truth.burst or {"gcra": 1, "token-bucket": 100, "leaky-queue": 100}.get(truth.algorithm)
    return any(
        (fit.spec.algorithm, fit.spec.count_rejected, fit.spec.burst)
        == (truth.algorithm, truth.count_rejected, burst)
        for fit in found.named
    )  # fmt: skip


@settings(max_examples=settings.default.max_examples // 4)
@given(truth=st.sampled_from(TRUTHS), traffic=st.sampled_from(sorted(TRAFFIC)))
def test_the_true_limiter_is_never_set_aside(truth: LimiterSpec, traffic: str) -> None:
    """The limiter that answered is named, or it is among those that this traffic can't tell apart.

    An exception is a record whose later requests were all rejected: a longer window, or a ban, would look the same.
    """
    found = found_in(truth, traffic)
    assert found.blocked_s is None or truth.count_rejected
    if found.rejected and found.blocked_s is None:
        assert is_named(truth, found), [words(fit) for fit in found.named]
        assert found.other_counts is None
    else:
        assert found.word == "nothing"


def test_every_algorithm_is_tried() -> None:
    """None of the leaf's algorithms is left out, neither in these tests nor among the candidates."""
    assert {truth.algorithm for truth in TRUTHS} == set(ALGORITHMS)
    tried = {(fit.spec.algorithm, fit.spec.count_rejected) for fit in found_in(TRUTHS[0], "2x").every}
    expected = {(name, False) for name in ALGORITHMS}
    assert tried == expected | {(name, True) for name, each in ALGORITHMS.items() if each.can_count_rejected}


def test_a_fixed_window_is_named_and_how_sure_that_is() -> None:
    """The next-best is contradicted by many decisions, the named one by none."""
    found = found_in(LimiterSpec("fixed-window"), "2x")
    assert found.word == "named"
    assert found.named[0].shift_s == pytest.approx(SHIFT, abs=0.3)
    assert found.against[0] > 50
    assert found.against[1] == 0
    assert found.log10_p == pytest.approx(-found.against[0] * np.log10(2))
    assert found.named[0].spec.algorithm == "fixed-window"


def test_even_load_cannot_tell_a_log_from_windows_that_begin_with_a_request() -> None:
    """Both let the same requests pass: both are named."""
    for truth in ("sliding-log", "fixed-window-from-first"):
        found = found_in(LimiterSpec(truth), "2x")
        assert found.word == "several"
        assert {fit.spec.algorithm for fit in found.named} == {"sliding-log", "fixed-window-from-first"}


@pytest.mark.parametrize("count", [80, 130])
def test_another_count_than_the_documented_one_is_found(count: int) -> None:
    """A server with another count is not taken for a server with the documented count and another algorithm."""
    requests = world(LimiterSpec("fixed-window"), TRAFFIC["2x"](), Limit(count, 60.0))
    documented = RequestLog(**{**requests.__dict__, "limit": LIMIT})
    found = infer(documented, LimiterSpec(), 0.0, 0.6)
    assert found.named[0].spec == LimiterSpec("fixed-window")
    assert found.other_count == count
    assert found.other_counts[0] <= count <= found.other_counts[1] < count + 5
    assert words(found.named[0]).endswith(f"of {found.other_counts[0]} to {found.other_counts[1]} instead")
    assert not found.assumed.fits


def test_refusals_without_reason_fit_nothing() -> None:
    """A server that refuses a third of all requests at random counts by no algorithm."""
    requests = world(LimiterSpec("fixed-window"), TRAFFIC["1.1x"](), LIMIT)
    requests.rejected[:] = np.random.default_rng(1).random(len(requests.rejected)) < 1 / 3
    found = infer(requests, LimiterSpec(), 0.0, 0.6)
    assert found.word == "none"
    assert not found.named
    assert found.best is not None


def test_the_assumed_limiters_wrong_decisions_are_counted() -> None:
    """Some refusals and admissions that no window explains are counted, each for what it is."""
    requests = world(LimiterSpec("fixed-window"), TRAFFIC["2x"](), LIMIT)
    full = np.flatnonzero(requests.rejected)
    # A window rejects a request in place of a later request; another window accepts a request too many.
    begins = full[np.flatnonzero(np.diff(requests.times[full]) > 10)[:2] + 1]
    requests.rejected[begins[0] - 5], requests.rejected[begins[0]] = True, False
    requests.rejected[begins[1] + 5] = False
    assumed = infer(requests, LimiterSpec(), 0.0, 0.6).assumed
    assert (assumed.wrongly_rejected, assumed.wrongly_admitted) == (1, 1)
    assert np.flatnonzero(assumed.wrong).tolist() == [begins[0] - 5, begins[1] + 5]


def test_where_nothing_was_refused_nothing_is_told() -> None:
    """Without a 429 nothing is inferred. An empty record raises no error."""
    requests = world(LimiterSpec("fixed-window"), even(1.0, 120), LIMIT)
    assert infer(requests, LimiterSpec(), 0.0, 0.6).word == "nothing"
    assert infer(requests.part(0, 0), LimiterSpec(), 0.0, 0.6).word == "nothing"
    assert infer(requests.part(0, 1), LimiterSpec(), 0.0, 0.6).n == 1


def test_all_429_tells_nothing() -> None:
    """If every request was rejected, the algorithm is unknown."""
    requests = world(LimiterSpec("fixed-window"), even(1.0, 20), LIMIT)
    requests.rejected[:] = True
    found = infer(requests, LimiterSpec(), 0.0, 0.6)
    assert found.word == "nothing"
    assert found.rejected == found.n == 20


def test_the_sign_test_is_exact() -> None:
    """Against sums of binomial coefficients, and finite for large numbers."""
    assert sign_test(10, 0) == pytest.approx(np.log10(1 / 1024))
    assert sign_test(9, 1) == pytest.approx(np.log10(11 / 1024))
    assert sign_test(3, 5) == 0.0
    assert -2000 < sign_test(20_000, 19_000) < -5


def test_where_the_burst_is_not_sure_its_range_is_told() -> None:
    """If requests of a burst arrived in another order, several bursts fit, and the true burst is among them."""
    truth = LimiterSpec("token-bucket", 17, count_rejected=True)
    requests = world(truth, [*even(10000, 0.02), *even(0.5, 60, 30.0)], LIMIT, seed=3, delay_s=0.01)
    best = infer(requests, LimiterSpec(), 0.0, 0.6).named[0]
    assert best.spec.algorithm in ("token-bucket", "gcra")
    assert best.bursts[0] <= 17 <= best.bursts[1]
    assert f"({best.bursts[0]} to {best.bursts[1]} fit as well)" in words(best)


def test_limiters_are_named_in_words() -> None:
    """As a sentence may have them."""
    named = found_in(LimiterSpec("token-bucket", 17), "2x").named
    assert words(named[0]) == "a token bucket (or GCRA, which decides alike) of 17 at once"
    assert words(found_in(TRUTHS[0], "2x").named[0]) == "a fixed window, aligned with the wall clock"
    phased = found_in(LimiterSpec("fixed-window", phase=42.3), "2x").named[0]
    assert phased.phases[0] < 42.3 < phased.phases[1] < phased.phases[0] + 2
    assert f"by {phased.phases[0]:.3g} to {phased.phases[1]:.3g} s from the wall clock" in words(phased)


class Nginx:
    """``limit_req rate=100r/m burst=20 nodelay`` as nginx counts: in whole ms and thousandths of a request."""

    def __init__(self) -> None:
        self._rate, self._burst = 100 * 1000 // 60, 20 * 1000
        self._excess, self._last = 0, -(10**15)

    def decide(self, now: float) -> bool:
        """Whether a request passes."""
        at = int(now * 1000)
        excess = max(0, self._excess - self._rate * (at - self._last) // 1000 + 1000)
        if excess > self._burst:
            return False
        self._excess, self._last = excess, at
        return True


def test_nginx_is_named_with_its_rate() -> None:
    """It cuts rates and what runs off: after some hundred requests only a rate a little lower explains what it does."""
    chance, server = np.random.default_rng(2), Nginx()
    below, above = chance.exponential(1.0, 60), chance.exponential(0.35, 370)
    times = 1.7e9 + np.cumsum(np.concatenate((below, above)))
    refused = np.array([not server.decide(at + 0.0003) for at in times])
    status = np.where(refused, 429.0, 200.0)
    group = log_of(LIMIT, times, times + 0.0008, status, np.arange(len(times)))
    found = infer(join([group], 0.002), LimiterSpec(), 0.0, 0.6)
    assert found.word == "named"
    assert found.named[0].spec.burst == 21
    assert found.named[0].limit.rate == pytest.approx(1.666, abs=0.003)
    assert words(found.named[0]).endswith("of 21 at once")  # the documented rate is not excluded


def test_nginx_is_named_although_even_sends_are_at_its_edge() -> None:
    """Sends 0.6 and 0.4 s apart are multiples of a third of a request: at the documented rate each 429 is a tie."""
    server, chance = Nginx(), np.random.default_rng(5)
    times = 1.7e9 + np.concatenate((np.arange(80) * 0.75, 60 + np.arange(150) * 0.4, np.full(40, 120.0)))
    refused = np.array([not server.decide(at + 0.0003) for at in times])
    status = np.where(refused, 429.0, 200.0)
    late = chance.exponential(0.0002, len(times))
    group = log_of(LIMIT, times + late, times + 0.0008 + late, status, np.arange(len(times)))
    found = infer(join([group], 0.0054), LimiterSpec(), 0.0, 0.6)
    assert found.word == "named"
    assert (found.named[0].spec.burst, found.named[0].spec.round_down) == (21, False)
