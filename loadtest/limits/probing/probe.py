"""A probe of one limit: sends bursts, excludes models, and ends as soon as it is sure. Pure: its caller sends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from loadtest.limits.probing.asker import REACH_S, Asker
from loadtest.limits.probing.cells import Model
from loadtest.limits.probing.evidence import Exchange, Who
from loadtest.limits.probing.experiments import EvenStream, Experiment, WeighedModel, best, stream, weigh
from loadtest.limits.probing.models import Bucket, Concurrency
from loadtest.units import Limit

REQUESTS: Final = 4.0
"""Request budget of a probe, in documented counts (bench/README.md)."""
SCOPE_REQUESTS: Final = 1.5
"""Additional budget to find out which clients share the limit, in documented counts: the rest of the 5.5 in
bench/README.md."""
WINDOWS: Final = 8.0
"""Time budget of a probe, in documented windows (bench/README.md)."""
_SURE_BURSTS: Final = 1
"""Agreeing bursts needed if the parameters are as documented (bench/README.md)."""
_OTHER_BURSTS: Final = (3, 12)
"""Minimum and maximum number of agreeing bursts for other parameters. In bench/probe_confusion.py, clients that used 60
% of a quota left the same 40 of 100 three times in a row. Between these, as many as use up the documented count."""
_PHASE: Final = 0.1
"""Part of a documented window that has elapsed when a probe starts. The first burst and its successors then share a
window even if the clocks are 0.5 s apart (bench/README.md); windows below 7 s wait for `REACH_S` instead."""
_ROUND: Final = (10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 80, 90)
"""Leading two digits of round counts: the preferred numbers of limits (bench/README.md)."""
_SMALL: Final = 20
"""Count below which every count is round, because there is no coarser scale (bench/README.md)."""
_SHARED: Final = 0.85
"""Lowest part of a documented rate that other clients' traffic may explain (bench/README.md)."""
_SEEN: Final = 1.05
"""Highest part of a documented rate that the network may explain (bench/README.md); all wrong results of the bench were
buckets 2 to 4 % too fast."""
_NEAR: Final = 0.04
"""Relative uncertainty of a bucket's rate accepted while requests are left. At up to 10 %, bench/probe_confusion.py
took a rate 5 % off for the documented one in 10 of 40 probes, at 4 % in none."""
_NEAR_ENOUGH: Final = 0.2
"""Relative uncertainty of a bucket's rate accepted at the end if the documented rate is possible (bench/README.md)."""
_BURST_ENOUGH: Final = 0.05
"""Relative uncertainty of a burst size accepted at the end: ± 1 request for a burst of 20, which the bench
accepts."""
RATE_SAME: Final = 0.02
"""Maximum relative difference of a rate that equals the documented rate: the ± 2 % that the bench accepts."""
_SMALL_LIMIT: Final = 50
"""Count below which a stricter limit may be other clients' traffic, which is then too regular to average out
(bench/README.md)."""
_BETTER: Final = 7.0
"""Natural log of the likelihood ratio that excludes a model: e^7 = 1,100 (bench/README.md)."""
_LIKELIER: Final = 3.0
"""Natural log of the same ratio for a model's best parameters: one request more or less (`experiments._PER_MISS`)."""
_ILL: Final = -15.0
"""Natural log of the likelihood below which no remaining model explains the answers: five times
`experiments._PER_MISS`; checked by the replicas and double limits of bench/probe_confusion.py."""
_EXPERIMENTS_MOST: Final = 150
"""Maximum number of experiments of one probe: ends the loop if neither requests nor time do."""
_FITS_FIRST: Final = 3
"""Streams before any other experiment if the limiter looks like a bucket: checked by the buckets of
bench/probe_confusion.py."""
_STREAM_LEAST: Final = 4
"""Minimum number of requests in a stream: two accepted and two rejected bound a rate from both sides."""
_SLOW: Final = 1.5
"""Requests refilled during the time to a rejection, below which streams show less than bursts at chosen times: checked
by the buckets of bench/probe_confusion.py."""
_OVER: Final = 1.35
"""Pace of a stream relative to the rate being measured, so that some requests are always rejected (bench/README.md)."""
_OVER_ONE: Final = 5.0
"""The same pace where the burst size may be 1: the time of the next acceptance is known no better than the distance
between requests. In the bench, pace 5 named 7 of 24, alternating 1.1 and 4 only 4 (bench/README.md)."""

ProbeOutcome = Literal["named", "several", "none", "unlimited"]


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """The result of a probe of one limit.

    Attributes:
        word: one model is ``named``, ``several`` or ``none`` remain, or nothing was rejected (``unlimited``).
        documented: the documented limit.
        standing: the remaining models.
        exceeded: whether more was accepted than the documented limit can accept.
        held: whether accepted requests were held as in a queue.
        shared: whether each other client shares the quota; None if unclear.
        requests: number of requests sent.
        rejected: number of rejected requests.
        seconds: time from the first request to the last answer.
        why: the missing evidence, if the result is not certain.
    """

    word: ProbeOutcome
    documented: Limit
    standing: tuple[Model, ...] = field(repr=False)
    exceeded: bool
    held: bool
    shared: dict[Who, bool | None]
    requests: int
    rejected: int
    seconds: float
    why: str


class Prober(Asker):
    """One probe.

    Args:
        documented: the documented limit.
        now: unix seconds of our clock.
        rate: maximum requests/s.
        others: other clients that may share the quota.
        requests: maximum number of requests.
        seconds: maximum duration.
        clock: unix seconds of our clock, for probes whose computing time matters.
    """

    def __init__(
        self,
        documented: Limit,
        now: float,
        rate: float,
        *,
        others: Sequence[Who] = (),
        requests: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        most = int((REQUESTS + SCOPE_REQUESTS) * documented.count)
        self._most = most if requests is None else min(most, requests)
        share = REQUESTS / (REQUESTS + SCOPE_REQUESTS) if others else 1.0
        own = min(int(REQUESTS * documented.count), round(share * self._most))
        super().__init__(documented, now, rate, own, self._most - own if others else 0)
        self._until = now + (WINDOWS * documented.window if seconds is None else seconds)
        self._fits_made = 0
        self._clock = clock
        self._thought = 0.0
        """Computing time of the last choice of an experiment, in s."""
        self._ill = False
        """Whether no remaining model explains the answers."""
        self._others = others

    def run(self) -> Exchange[ProbeFinding]:
        # Start early in a window, so that the next bursts fall into the same one if windows have the documented length
        # or a part of it.
        window = self._documented.window
        begin = self._now + (min(max(_PHASE * window, REACH_S + 0.1), 0.35 * window) - self._now) % window
        yield from self._volley(begin, 1)
        filled = yield from self._burst(self._now, round(1.1 * self._documented.count) + 1)
        if not filled:  # a limiter that refills fast may accept more than its burst
            filled = yield from self._burst(self._now, round(1.5 * self._documented.count))
        if not filled:
            why = f"none of {self._requests} requests were rejected"
            return self._finding("unlimited", why, self._sent[-1].end)
        self._held = _held(self._took, self._trip)
        self._past.tighten(self._longest)
        for model in self._models if self._held else ():
            if not isinstance(model, Bucket) or model.count_rejected:
                model.set_aside()
        if not self._held and not (yield from self._volley(self._now + 2 / self._documented.rate, 1)).passed:
            for who in self._others:
                self._shared[who] = yield from self._share(who)
        yield from self._ladder()
        for _ in range(_EXPERIMENTS_MOST):
            rivals = self._weigh()
            if not rivals or self._sure or (chosen := self._choose(rivals)) is None:
                break
            yield from self._make(chosen)
        word, why = self._conclude()
        self._left = self._most - self._requests
        yield from self._share_late([who for who in self._others if self._shared.get(who) is None], self._likely)
        self._left = self._most - self._requests
        yield from self._control(self._idle)
        return self._finding(word, why, self._now)

    @property
    def _requests(self) -> int:
        return sum(volley.sent for volley in self._sent) + len(self._unseen)

    @property
    def _idle(self) -> float:
        """Seconds after which no remaining limiter is in use any more."""
        times = [
            model.count()[1] * model.window()[1] if isinstance(model, Bucket) else model.window()[1]
            for model in self._likely
        ]
        return min(max(times, default=0.0), 2 * self._documented.window)

    def _weigh(self) -> list[WeighedModel]:
        """Weigh the remaining models, and exclude those that explain much less than a model that fits."""
        for model in self._models:
            model.divide(self._past)
        found = [weigh(model, self._past, self._trip, self._documented) for model in self._likely]
        if not found:
            return []
        top = max(found, key=lambda each: each.evidence)
        self._ill = top.well < _ILL
        if self._ill:
            return found
        for each in found:
            if each.evidence < top.evidence - _BETTER and each.fits.max() < top.fits.max() - _LIKELIER:
                each.model.set_aside()
            else:
                each.narrow()
        return [each for each in found if each.model.stands]

    def _choose(self, rivals: Sequence[WeighedModel]) -> Experiment | None:
        begin = self._clock()
        self._now = max(self._now, begin + self._thought)
        chosen = self._chosen_experiment(rivals)
        self._thought = self._clock() - begin
        return chosen

    def _chosen_experiment(self, rivals: Sequence[WeighedModel]) -> Experiment | None:
        most = max(int(model.least_n.max()) for model in self._likely)
        most += max(self._enough, round(0.05 * most))
        if self._sole and self._pinned():
            margin = min(2 * self._trip + 0.005, 0.1 * self._documented.window + 4 * self._trip)
            # At another phase than before, because other clients' usage differs there.
            replay = rivals[0].replay
            idle = self._now + replay.idle() + margin + 0.37 * self._bursts * float(replay.windows.max())
            return ((idle, most),) if idle <= self._until and most <= self._left else None
        buckets = all(isinstance(model, Bucket) for model in self._likely)
        if (buckets or self._fits_made < self._like_bucket * _FITS_FIRST) and (found := self._fitting()):
            return found
        return best(
            rivals,
            now=self._now,
            most=most,
            budget=self._left,
            blur=self._trip / 2,
            until=self._until,
            lasts=self._lasts,
        )

    @property
    def _like_bucket(self) -> bool:
        """Whether room came back soon after the limit was exhausted, before a window of documented length ends."""
        full = next((volley.end for volley in self._sent if volley.rejected), math.inf)
        if self._held:
            return True
        soon = full + min(0.45 * self._documented.window, max(4 / self._documented.rate, 2 * self._trip))
        return any(volley.passed for volley in self._sent if full <= volley.begin and volley.end < soon)

    def _fitting(self) -> Experiment | None:
        """A stream that measures the rate of the remaining buckets in turn, longer each time."""
        buckets = [model for model in self._likely if isinstance(model, Bucket)]
        if not buckets:
            return None
        bucket = buckets[self._fits_made % len(buckets)]
        low, high = float(bucket.low.min()), float(bucket.high.max())
        rate = math.sqrt(low * high) if self._fits_made else min(max(self._documented.rate, low), high)
        if rate * self._trip < _SLOW:
            return None
        self._fits_made += 1
        if bucket.count_rejected:  # once more is sent than its rate, it accepts nothing
            wanted = 2.5 * bucket.count()[1] * 2 * rate / (high - low)
            return self._stream_of(rate, round(max(wanted, 3 * rate * self._trip, 4 * bucket.count()[1])))
        # Network delays move some requests across the edges of what is counted.
        count = 60 * 2**self._fits_made * max(1.0, math.sqrt(rate * self._trip) / 2)
        count = count if self._sole else min(count, 0.6 * self._documented.count)
        hidden = bucket.count()[0] <= 1 + 2 * rate * self._trip
        over = _OVER_ONE if hidden and self._fits_made % 2 else _OVER
        if hidden:
            count = min(count, (0.6 if over == _OVER_ONE else 0.2) * self._left)
        return self._stream_of(over * rate, round(count))

    def _stream_of(self, pace: float, count: int) -> EvenStream | None:
        pace = min(pace, self._rate)
        most = int(min(count, self._left, pace * (self._until - self._now)))
        return stream(self._now, pace, most) if most >= _STREAM_LEAST else None

    def _pinned(self, *, at_last: bool = False) -> bool:
        """Whether the parameters are known closely enough to stop early, or ``at_last`` to be reported."""
        for model in self._likely:
            (least, most), (low, high) = model.window(), model.count()
            bucket = isinstance(model, Bucket)
            near = _NEAR_ENOUGH if at_last and self._as_documented(model) else _NEAR
            slack = near * most if bucket else max(0.05 * most, 3 * self._trip)
            if bucket and low == 1 and least < self._trip and not self._documented_stands:
                # requests that come too early leave no trace: the result depends on their order of arrival
                return False
            blur = 2 + 2 * self._trip / least if bucket else 0.0  # network delays limit the precision of a burst
            if most - least > slack or high - low > max(2, blur, _BURST_ENOUGH * high * at_last):
                return False
        return True

    @property
    def _confirmed(self) -> bool:
        least, most = _OTHER_BURSTS
        model, documented = self._likely[0], self._documented.count
        count = model.count()[0]
        # other clients leave less, never more
        needed = min(most, max(least + (count < documented), documented // count))
        if isinstance(model, Bucket):  # if rejected requests count, a stream has hardly any acceptances
            bursts = self._bursts + self._fits_made * model.count_rejected
        else:
            bursts = model.agreeing(0.5 * model.window()[0])
        return bursts >= (_SURE_BURSTS if self._documented_stands else needed)

    @property
    def _likely(self) -> list[Model]:
        """The remaining models with plausible parameters, or all if there are none."""
        standing = self.standing
        return [each for each in standing if self._as_documented(each) or self._chosen(each)] or standing

    @property
    def _documented_stands(self) -> bool:
        return self._as_documented(self._likely[0])

    def _as_documented(self, model: Model) -> bool:
        documented = self._documented
        (least, most), (low, high) = model.window(), model.count()
        if isinstance(model, Bucket):
            return least * (1 - RATE_SAME) <= 1 / documented.rate <= most * (1 + RATE_SAME)
        return least <= documented.window <= most and low <= documented.count <= high

    def _chosen(self, model: Model) -> bool:
        """Whether plausible configured parameters remain; another client's traffic leaves arbitrary numbers.

        Plausible are round numbers with the documented window: a shorter window resembles a bucket with other clients'
        traffic. Such traffic may also explain a rate slightly below the documented rate, or a count below a small
        limit.
        """
        documented = self._documented
        (least, most), (low, high) = model.window(), model.count()
        if isinstance(model, Bucket):
            slowest, fastest = documented.window / most, documented.window / least
            part = (slowest + fastest) / 2 / documented.count
            if _SHARED < part < _SEEN or (part < 1 and documented.count < _SMALL_LIMIT):
                return False
            return _round_in(low, high) and _round_in(math.ceil(slowest), int(fastest))
        if not _round_in(low, high):
            return False
        if isinstance(model, Concurrency):
            return True
        small = documented.count < _SMALL_LIMIT and high < documented.count
        return least <= documented.window <= most and not small

    @property
    def _sole(self) -> bool:
        return len({model.key for model in self._likely}) == 1

    @property
    def _sure(self) -> bool:
        return self._sole and self._confirmed and self._pinned()

    def _conclude(self) -> tuple[ProbeOutcome, str]:
        """The result, and the missing evidence if it is not certain."""
        known = any(self._as_documented(each) or self._chosen(each) for each in self.standing)
        # Other clients' traffic leaves less than the limit. An implausible count above the documented one has another
        # cause.
        odd = not known and all(each.count()[0] > self._documented.count for each in self.standing)
        if odd or self._ill:
            return (
                "none",
                "no single limiter answers like this: several servers, two limits, or other clients may be involved",
            )
        if not self._sole:
            return "several", "the request budget is too small to tell them apart"
        if not (self._confirmed and self._pinned(at_last=True)):
            return "several", "the request budget is too small to confirm its numbers"
        if self._documented_stands or self._chosen(self._likely[0]):
            return "named", ""
        return "several", "its numbers are not round: another client may share this quota"

    def _finding(self, word: ProbeOutcome, why: str, end: float) -> ProbeFinding:
        passed = sum(volley.passed for volley in self._sent) + sum(answer.passed for answer in self._unseen)
        standing = tuple(self._likely if word == "named" else self.standing)
        burst = max((each.count()[1] if isinstance(each, Bucket) else math.inf for each in standing), default=math.inf)
        return ProbeFinding(
            word=word,
            documented=self._documented,
            standing=standing,
            exceeded=self._past.exceeds(self._documented, burst),
            held=self._held,
            shared=self._shared,
            requests=self._requests,
            rejected=self._requests - passed,
            seconds=end - self._begin,
            why=why,
        )


def _held(took: Sequence[float], trip: float) -> bool:
    """Whether accepted requests of a burst waited increasingly long, as in a queue."""
    part = len(took) // 3
    return part > 0 and sorted(took[-part:])[part // 2] > min(took) + 1.5 * trip


def _round_in(low: int, high: int) -> bool:
    """Whether a count in the range is small, a power of 2, or round (10, 12, 15, 20, 25, 30, ...)."""
    return any(
        count < _SMALL
        or count & (count - 1) == 0
        or (int(str(count)[:2]) in _ROUND and not count % 10 ** (len(str(count)) - 2))
        for count in range(low, high + 1)
    )
