"""A probe of one limit. It chooses bursts, which its caller sends, and weighs models of the limiter by the answers."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS
from loadtest.limits.probing.evidence import PATIENCE_S, SAME, WINDOWS, BurstSender, Exchange, Who
from loadtest.limits.probing.hypotheses import COMMON_WINDOWS, FAR, REACH_S, Experiment, Hypotheses, best, every_model
from loadtest.limits.probing.results import Compliance, LimitFinding, ModelFit, ProbeBurst, Standing, StatedNumbers
from loadtest.units import Limit

REQUESTS: Final = 5.5
"""A probe sends at most this multiple of the documented count of requests (docs/capacity.md)."""
_USUAL: Final = 2500, 180.0
"""A goal: nine of ten probes of a documented limit take at most these requests and seconds (bench/README.md)."""
_NARROW: Final = 0.1
"""Bounds are narrow if their relative width is at most this, or if they are at most two requests apart."""
_HOLDS: Final = next(each.name for each in ALGORITHMS.values() if each.holds)


class Prober(BurstSender):
    """The probe of one limit.

    Args:
        now: unix seconds of our clock.
        rate: maximum requests/s.
        others: the other key and the other limit, if the probe is to find out whether they share the quota.
        seconds: maximum duration.
        clock: returns unix seconds of our clock, so that the probe's computing time counts.
    """

    def __init__(
        self,
        limit: LimitName,
        documented: Limit,
        now: float,
        rate: float,
        *,
        others: Sequence[Who] = (),
        requests: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        most = int(REQUESTS * documented.count)
        self._most = most if requests is None else min(most, requests)
        until = now + (WINDOWS * documented.window if seconds is None else seconds)
        self._budget = min(most, _USUAL[0]), _USUAL[1]
        super().__init__(documented, now, rate, self._most, until)
        self._limit = limit
        self._clock = clock
        self.models = every_model(documented)
        """The models that are not excluded, in descending order of likelihood after the first weighing."""
        self._fits: dict[Hypotheses, ModelFit] = {}
        """The last fit of each model."""
        self._others = others
        self._shared: dict[Who, bool | None] = {}
        self._separate: set[Who] = set()
        """Members of ``others`` that once seemed to have a quota of their own."""

    def run(self) -> Exchange[LimitFinding]:
        # Start early in a clock-aligned window of the documented length, so that the next bursts fall into this window.
        documented, window = self.documented, self.documented.window
        begin = self._now + (min(REACH_S, window / 3) - self._now) % window
        self._begin_experiment()
        first = yield from self._volley(begin, 1)
        filled = yield from self._burst(self._now, round(1.1 * documented.count) + 1)
        if not filled:  # send over twice the count in all, which exceeds the limit at any phase
            filled = yield from self._burst(self._now, round(1.5 * documented.count))
        if not filled:
            why = f"none of {self._requests} requests were rejected"
            if not self._past.exceeds(documented):
                why += ", but they were too few or too slow to exceed the documented limit for certain"
            return self._finding([], why)
        self._held = _held(self._took, self._trip)
        bursts = self._past.experiments[0]
        passed = sum(each.passed for each in bursts)
        self._past.full.append(passed)
        self._past.longest = self._longest
        least = float(bursts[-1].sent[0] - self._past.decided(first)[0])
        self._past.first = passed, max(0.0, least), float(self._past.decided(bursts[-1])[-1] - first.sent[0])
        if self._held:
            self.models = [each for each in self.models if each.bucket and not each.count_rejected]
        yield from self._share()
        yield from self._ladder()
        while True:  # this ends, because each experiment uses requests
            begin = self._clock()
            self._weigh()
            if self._sure:  # weigh again, because finer steps may widen the bounds
                self._weigh()
            if self._sure or (chosen := self._choose()) is None:
                break
            self._now = max(self._now, self._now + self._clock() - begin)
            self._begin_experiment()
            for at, count in chosen:
                yield from self._burst(at, count, whole=True)
        why = self._conclude()
        likely = [] if self._ill else self._likely
        self._left = self._most - self._requests
        self._begin_experiment()
        for _ in range(2):
            yield from self._share(last=True)
        return self._finding(likely, why)

    def _weigh(self) -> None:
        """Weigh all models, and remove those that are far less likely than the best.

        Whichever experiment is left out, a removed model is still much less likely.
        """
        for model in self.models:
            model.weigh(self._past)
        self.models = [each for each in self.models if len(each.rows)]
        self.models.sort(key=lambda each: -each.best)
        top, kept = self.models[0], []
        # Another client's requests can look like an undocumented rate or a phase. If the best model has either, other
        # models are excluded less easily.
        least, most = top.rates
        usual = least * (1 - SAME) <= self.documented.rate <= most * (1 + SAME) and top.phase is None
        far = FAR if usual else 2 * FAR
        for each in self.models:
            without, contradicted = top.without() - each.without(), ""
            if each is top or top.best - each.best < far or (without < far / 2).any():
                kept.append(each)
            else:
                contradicted = self._observation(int(without.argmin()))
            shown = self._standing(each)
            self._fits[each] = ModelFit(
                limiter=shown.name, numbers=shown.numbers, log_ratio=each.best - top.best, ruled_out=contradicted
            )
        self.models = kept

    def _observation(self, place: int) -> str:
        sent = self._past.experiments[place]
        passed, count = sum(each.passed for each in sent), sum(len(each.sent) for each in sent)
        after = float(sent[0].sent[0]) - self._begin
        return f"{passed} of {count} were accepted {after:.3g} s after the start"

    @property
    def _likely(self) -> list[Hypotheses]:
        return [each for each in self.models if each.best > self.models[0].best - FAR]

    @property
    def _ill(self) -> bool:
        """Whether even the best hypothesis is wrong about two or more requests."""
        return max(float(each.well.max()) for each in self.models) <= -FAR

    @property
    def _sure(self) -> bool:
        return len({each.key for each in self.models}) == 1 and self._stated(self.models) is not None

    def _standing(self, model: Hypotheses) -> Standing:
        """Return a model's likely parameters, as they are shown. A bucket's rate is shown per documented window."""
        low, high = model.range(0)
        least, most = model.range(1)
        window = self.documented.window
        if model.fills_each_second:
            count = min(_rounded(1 / most), low), high
            return Standing(algorithm="fixed-window", count_rejected=False, count=count, window_s=(1.0, 1.0))
        if model.bucket:
            return Standing(
                algorithm=_HOLDS if self._held else model.algorithm,
                count_rejected=model.count_rejected,
                count=(_rounded(window / most), _rounded(window / least)),
                window_s=(window, window),
                burst=(round(low), round(high)),
                round_down=model.round_down,
            )
        return Standing(
            algorithm=model.algorithm,
            count_rejected=model.count_rejected,
            count=(low, high),
            # A probe cannot measure windows longer than itself, so their upper bound is the longest common window.
            window_s=(least, most if most <= WINDOWS * window else COMMON_WINDOWS[-1]),
            phase_s=model.phase,
            round_down=model.round_down,
        )

    def _stated(self, models: Sequence[Hypotheses]) -> StatedNumbers | None:
        return stated([self._standing(each) for each in models])

    def _choose(self) -> Experiment | None:
        most = max(round(each.range(0)[1]) for each in self.models)
        most += max(1, round(0.05 * most))
        for until in (self._begin + _USUAL[1], math.inf):  # late bursts only if no other experiment separates rivals
            chosen = best(
                self.models,
                now=self._now,
                most=most,
                left=self._left,
                blur=self._trip / 2,
                until=min(until, self._until) - self._patience,
                budget=self._budget,
                lasts=self._lasts,
            )
            if chosen is not None:
                return chosen
        return None

    def _lasts(self, counts: Floats) -> Floats:
        """Return the seconds over which bursts of given sizes arrive."""
        return self._trip / 2 + (np.ceil(counts / self._size).clip(1) - 1) * max(self._trip, self._size / self._rate)

    def _verdict(self, numbers: StatedNumbers | None) -> Compliance:
        """Compare the enforced limit with the documented limit.

        Only accepted requests prove a looser limit. Rejections do not exclude a larger limit, because another client
        may use the rest.
        """
        documented = self.documented
        if self._past.exceeds(documented):
            return "looser"
        if numbers is None:
            return "can't tell"
        slowest, fastest = numbers.rate
        at_once = numbers.count[0] if numbers.burst is None else numbers.burst[0]
        slow = at_once <= documented.count and slowest <= documented.rate * (1 + SAME)
        if numbers.burst is None:
            same = numbers.window_s == documented.window and at_once <= documented.count <= numbers.count[1]
        else:
            same = slow and fastest >= documented.rate * (1 - SAME)
        if same or slow:
            return "as documented" if same else "stricter"
        # The documented limit was not exceeded, so a rate of more than twice the documented rate is doubtful.
        return "other" if slowest <= 2 * documented.rate else "can't tell"

    def _conclude(self) -> str:
        """Return the missing evidence as text; empty if the result is certain."""
        if self._ill:
            return "no single limiter explains the answers: there may be several servers, two limits or other clients"
        if len({each.key for each in self.models}) > 1:
            return "the remaining requests and time do not suffice to tell the limiters apart"
        numbers = self._stated(self._likely)
        compared = self._verdict(numbers)
        # Another client's requests can look like another limiter, or like a bucket with a smaller B.
        least, most = (numbers and numbers.burst) or (0, 0)
        if compared == "stricter" or self.documented.count / 2 < least <= most < self.documented.count:
            return "another client may have used a part of the limit"
        if numbers is not None and compared == "can't tell":
            return "no more than the documented limit was accepted, so another client may have used the limit at first"
        return ""

    @property
    def experiments(self) -> int:
        """Number of experiments so far."""
        return len(self._past.experiments)

    @property
    def _requests(self) -> int:
        return len(self._past.answers)

    def _finding(self, models: Sequence[Hypotheses], why: str) -> LimitFinding:
        numbers = self._stated(models)
        # Two keys that share a quota prove only that the quota is not counted per key.
        keys = self._shared.get("other key")
        return LimitFinding(
            limit=self._limit,
            documented=(self.documented.count, self.documented.window),
            verdict=self._verdict(numbers),
            standing=[self._standing(each) for each in models],
            stated=numbers,
            fits=sorted(self._fits.values(), key=lambda each: (bool(each.ruled_out), -each.log_ratio)),
            bursts=[
                ProbeBurst(at_s=round(float(each.sent[0]) - self._begin, 3), sent=len(each.sent), passed=each.passed)
                for each in self._past.volleys
            ],
            facts=self._past.facts(self.documented),
            seen=self._seen(),
            held=bool(self._held),
            scope=None if keys is None else "name" if keys else "key-and-name",
            shared=self._shared,
            requests=self._requests,
            rejected=sum(not each.passed for each in self._past.answers),
            seconds=round(self._now - self._begin, 1),
            why=why,
        )

    def _share(self, *, last: bool = False) -> Exchange[None]:
        """Find out whether another key or limit shares the quota: use that key or limit while the quota is exhausted.

        At first, a single request is sent, which hardly disturbs later experiments. If it is accepted, this proves
        nothing, so several are sent at the end.
        """
        if self._many > self.documented.count / 4:  # the quota of a short window recovers too much meanwhile
            return
        if self._others and not last:  # keep requests to exhaust the limit once more at the end
            self._left -= self.documented.count
        for who in self._others:
            count = self._many if last else 1
            if self._shared.get(who) is not None or 2 * count + 2 > self._left:
                continue
            before = self._past.answers[-1]
            if before.passed or before.who != "own":
                yield from self._burst(self._now, self._left - count - 1)
            if not self._in_time(self._now, 2):
                return
            window = self._now - self.documented.window
            unused = not any(each.who == who and each.passed and each.sent > window for each in self._past.answers)
            through = (yield from self._volley(self._now, count, who)).passed
            rejected = not (yield from self._volley(self._now, 1)).passed
            if rejected and not through and unused:  # an unused quota of its own accepts at least one request
                self._shared[who] = True
            elif rejected and last and through == count:  # a window may have begun meanwhile, but hardly at both tries
                self._shared[who] = False if who in self._separate else None
                self._separate.add(who)

    @property
    def _many(self) -> int:
        """Number of requests with another key or limit: so many that a shared quota must reject some of them."""
        return 2 + int(4 * self._trip * self.documented.rate)

    def _seen(self) -> list[str]:
        """Describe observations that suggest a long window, a ban, or a limiter without a model."""
        found, own = [], [each for each in self._past.answers if each.who == "own"]
        rejected = next((place for place, each in enumerate(reversed(own)) if each.passed), len(own))
        silence = own[-1].sent - own[-rejected].sent if rejected else 0.0
        if silence > (window := self.documented.window):
            before = own[-rejected].sent - window
            accepted = sum(each.passed for each in own[:-rejected] if each.sent >= before)
            found.append(
                f"after {accepted} accepted requests nothing was accepted for {silence:.3g} s: the window is longer "
                "than the probe waited, or this is a ban"
            )
        alone = [each for each in self._past.volleys if len(each.sent) == 1]
        together = [each for each in self._past.volleys if len(each.sent) > 1]
        if len(alone) > 2 and together and not any(each.rejected for each in alone):
            passed, sent = sum(each.passed for each in together), sum(len(each.sent) for each in together)
            if passed < sent:
                found.append(
                    f"every request sent alone was accepted, but only {passed} of {sent} sent together: "
                    "a limit on requests in progress, random shedding, or a very short window"
                )
        return found

    def _ladder(self) -> Exchange[None]:
        """Send single requests, each when a limiter may have room again, until a request is accepted."""
        limit, begin = self.documented, float(self._past.experiments[0][0].sent[0])
        margin, full = 2 * self._trip, begin + limit.window
        moments = {full - margin, full + margin, (self._now // limit.window + 1) * limit.window + REACH_S + margin}
        # The limiter has room again after at least one refill and at most two windows. The tried waits double.
        moments |= {self._now + 2**power / limit.rate for power in range(limit.count.bit_length() + 1)}
        last = 0.0
        self._begin_experiment()
        for at in sorted(moments):
            if at < max(self._now, last + margin / 2) or self._left < self.documented.count or not self._in_time(at):
                continue
            last = at
            if (yield from self._volley(at, 1)).passed:
                break


def _held(took: Sequence[float], trip: float) -> bool:
    """Whether the last accepted requests of a burst waited longer than the network takes, as in a queue."""
    part = len(took) // 3
    return part > 0 and sorted(took[-part:])[part // 2] > max(PATIENCE_S / 2, 2 * trip, 2 * took[0])


def _rounded(count: float) -> float:
    return float(f"{count:.3g}") if count < 1000 else round(count)


def stated(models: Sequence[Standing]) -> StatedNumbers | None:
    """Return bounds that cover all ``models``.

    None if there is no model, if bounds are wide, if window lengths differ, or if only some models are buckets.
    """
    if not models or len({each.burst is None for each in models}) > 1:
        return None
    low, high = min(each.count[0] for each in models), max(each.count[1] for each in models)
    least, most = min(each.window_s[0] for each in models), max(each.window_s[1] for each in models)
    bursts = [each for one in models for each in one.burst or ()]
    burst = (min(bursts), max(bursts)) if bursts else None
    wide = any(end - start > max(2, _NARROW * end) for start, end in ((low, high), burst or (0, 0)))
    return None if most > least or wide else StatedNumbers(count=(low, high), window_s=least, burst=burst)
