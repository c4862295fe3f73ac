"""Sends a probe's requests (bursts, streams) and collects the answers. Pure: the caller sends."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.limits.probing.cells import Model
from loadtest.limits.probing.evidence import OWN_SHARE, Exchange, ProbeAnswer, ProbeEvidence, Volley, VolleyOrder, Who
from loadtest.limits.probing.experiments import EvenStream, Experiment, Flood
from loadtest.limits.probing.models import Bucket, every_model
from loadtest.stats.shares import log10_at_most
from loadtest.units import Limit

COMMON_WINDOWS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Common window lengths in seconds; bench/README.md states this range."""
REACH_S: Final = 0.6
"""Maximum difference of the server's clock from ours in seconds: 0.5 s (bench/README.md) and 0.1 s for the network."""
_PATIENCE_S: Final = 0.25
"""Seconds without an answer after which a request counts as accepted and in progress or held: more than twice the 50 ms
each way that bench/README.md allows for the network."""
_PARTS_MOST: Final = 60
"""Maximum number of bursts into which a stream is divided: bounds the size of the models' matrices."""
_FEW: Final = 4
"""Requests refilled meanwhile that prevent bursts from showing whether a quota is shared; checked by the scopes of
bench/probe_confusion.py."""
_OF_OTHERS: Final = 16
"""Minimum number of requests by each other client in a stream. 12 of them count; if every second one is accepted, the
probability that 11 are all rejected is 0.45^11 < 10^-3.5 (`_UNLIKELY`)."""
_SETTLING: Final = 0.25
"""Part of such a stream that is discarded, because the limiter is full at first: checked by the scopes of
bench/probe_confusion.py."""
_STREAM_LEAST: Final = 30
"""Minimum number of requests in such a stream: fewer contain less than five of another client's."""
_FEWEST: Final = 2
"""Minimum number of requests that can reveal a separate limit: no limit rejects a single request."""
_FEWER: Final = -1.0
"""log10 of the probability below which fewer requests were accepted than alone: 1 in 10, because a doubt only leads to
"can't tell"."""
_UNLIKELY: Final = -3.5
"""log10 of the probability treated as impossible: 1 in 3,000. At this value no scope in the bench's 528 probes was
wrong (bench/README.md)."""


class Asker:
    """Sends requests through its caller and collects the answers.

    Args:
        documented: the documented limit.
        now: unix seconds of our clock.
        rate: maximum requests/s.
        requests: maximum number of requests.
        for_others: additional requests to find out which clients share the limit.
    """

    def __init__(self, documented: Limit, now: float, rate: float, requests: int, for_others: int) -> None:
        self._documented = documented
        windows = sorted({documented.window, *COMMON_WINDOWS})
        self._models = every_model(
            documented, [each for each in windows if documented.window / 30 <= each <= documented.window * 8], REACH_S
        )
        self._past = ProbeEvidence()
        self._enough = 2 if documented.count >= 20 else 1
        """Rejections that end a burst."""
        self._rate = rate
        self._begin = self._now = now
        self._left = requests
        self._for_others = for_others
        """Remaining additional requests to find out which clients share the limit."""
        self._trip = 0.005
        """The longest time from a request to its rejection, in s."""
        self._bursts = 0
        self._unseen: list[ProbeAnswer] = []
        """Answers that no model has processed."""
        self._shared: dict[Who, bool | None] = {}
        """Whether each other client shares the quota; None if unclear."""
        self._amid: dict[Who, tuple[int, int, float]] = {}
        """For each client that seemed to share the quota: requests, accepted requests, and seconds over which they were
        sent."""
        self._held = False
        """Whether accepted requests are held, as in a queue."""
        self._took: list[float] = []
        """Durations of the accepted requests of the first burst."""

    @property
    def standing(self) -> list[Model]:
        return [model for model in self._models if model.stands]

    @property
    def _sent(self) -> list[Volley]:
        return self._past.volleys

    @property
    def _patience(self) -> float:
        return max(_PATIENCE_S, 3 * self._trip)

    @property
    def _longest(self) -> float:
        """Seconds within which the server has decided on a request."""
        # A busy machine reads answers late. Only a queue holds accepted requests longer than that.
        return max([1.5 * self._trip + 0.02, *([] if self._held else self._took)])

    def _decided(self, answers: Sequence[ProbeAnswer]) -> float:
        """The latest possible time of a burst's last decision.

        An accepted request may be in progress or held. It was decided no later than 1.5 times the slowest rejection.
        Before any rejection was seen, the last answer plus the patience is the bound.
        """
        if any(volley.rejected for volley in self._sent) or not all(answer.passed for answer in answers):
            return max(min(answer.answered, answer.sent + self._longest) for answer in answers)
        came = [answer.answered for answer in answers if answer.answered < math.inf]
        last = max([*came, *(answer.sent for answer in answers)])
        return last if len(came) == len(answers) else last + self._patience

    def _volley(self, at: float, count: int, spread: float = 0.0) -> Exchange[Volley]:
        answers = yield VolleyOrder(at, count, self._patience, spread=spread)
        self._learn(answers)
        volley = self._volley_of(answers)
        self._count([volley], [answers])
        return volley

    def _learn(self, answers: Sequence[ProbeAnswer]) -> None:
        times, patience = [answer.answered - answer.sent for answer in answers], self._patience
        rejected = [each for each, answer in zip(times, answers, strict=True) if not answer.passed]
        self._trip = max([self._trip, *rejected, *([] if self._sent else [min(times[0], patience)])])
        self._took += [min(each, patience) for each, answer in zip(times, answers, strict=True) if answer.passed]

    def _volley_of(self, answers: Sequence[ProbeAnswer]) -> Volley:
        begin, passed = min(answer.sent for answer in answers), sum(answer.passed for answer in answers)
        return Volley(begin, self._decided(answers), len(answers), passed)

    def _make(self, chosen: Experiment) -> Exchange[None]:
        if isinstance(chosen, EvenStream):
            yield from self._stream(chosen)
            return
        for at, count in chosen:
            yield from self._burst(max(at, self._now), count, whole=isinstance(chosen, Flood))

    def _stream(self, chosen: EvenStream) -> Exchange[None]:
        """Send requests evenly and record overlapping bursts together."""
        begin, count = max(chosen[0][0], self._now), sum(count for _, count in chosen)
        spread = (chosen[-1][0] - chosen[0][0]) * len(chosen) / max(1, len(chosen) - 1)
        answers = yield VolleyOrder(begin, count, self._patience, spread=spread)
        self._learn(answers)
        self._past.streams += 1
        parts = min(count, max(1, int(spread / max(self._trip / 2, spread / _PARTS_MOST))))
        edges = [round(part * count / parts) for part in range(parts + 1)]
        ordered = sorted(answers, key=lambda answer: answer.sent)
        group: list[Sequence[ProbeAnswer]] = []
        volleys: list[Volley] = []
        passed = 0
        for low, high in pairwise(edges):
            volley = self._volley_of(ordered[low:high])
            if volleys and volley.begin >= volleys[-1].end:
                self._count(volleys, group)
                volleys, group = [], []
            volleys, group, passed = [*volleys, volley], [*group, ordered[low:high]], passed + volley.passed
        self._count(volleys, group)
        if passed < count:  # a long stream counts as several bursts
            self._bursts += int(min(2.0, passed / min(20.0, 0.3 * self._documented.count)))

    def _count(self, volleys: Sequence[Volley], answers: Sequence[Sequence[ProbeAnswer]]) -> None:
        self._past.add(volleys, answers)
        for place in range(len(self._sent) - len(volleys), len(self._sent)):
            for model in self._models:
                model.see(self._past, place)
        self._left -= sum(volley.sent for volley in volleys)
        self._now = max(volley.end for volley in volleys) + 0.001

    def _share(self, who: Who) -> Exchange[bool | None]:
        """Whether another client shares the quota that has just been exhausted; None if unclear."""
        passed = sum(volley.passed for volley in self._sent)
        refill = 4 * self._trip * self._documented.rate
        count = max(1, min(2 + int(refill), passed // 2, self._left // 4))
        answers = yield VolleyOrder(self._now, count, self._patience, who)
        through = sum(answer.passed for answer in answers)
        end = self._decided(answers)
        if through <= count // 4:  # they may have been counted, if rejected requests are
            self._count([self._volley_of(answers)], [answers])
        else:
            self._left -= count
            self._unseen += answers
        self._now = end + 0.001
        still = yield from self._volley(self._now, 1)
        self._left += min(count + 1, self._for_others)
        self._for_others -= min(count + 1, self._for_others)
        if still.passed:
            return None
        self._amid[who] = count, through, 0.0
        return True if through <= count // 4 else False if through == count else None

    def _ask(
        self, count: int, who: Who = "own", *, spread: float = 0.0, also: tuple[Who, ...] = ()
    ) -> Exchange[Sequence[ProbeAnswer]]:
        answers = yield VolleyOrder(self._now, count, self._patience, who, max(spread, count / self._rate), also)
        self._now, self._left = self._decided(answers) + 0.001, self._left - count
        self._unseen += answers
        return answers

    def _use_up(self, size: int) -> Exchange[bool]:
        """Send bursts until a request is rejected; False if the budget ends first."""
        while 0 < size <= self._left:
            answers = yield from self._ask(size)
            if not all(answer.passed for answer in answers):
                return True
        return False

    def _share_late(self, others: Sequence[Who], models: Sequence[Model]) -> Exchange[None]:
        """Find out which other clients share the quota, once nothing else remains to be found.

        Args:
            others: the clients that are still unclear.
            models: the models that may be in force.
        """
        buckets = [model for model in models if isinstance(model, Bucket)]
        burst = min((model.count()[0] for model in models), default=1)
        slowest = min((float(model.low.min()) for model in buckets), default=0.0)
        fastest = max((float(model.high.max()) for model in buckets), default=math.inf)
        rate = min(max(self._documented.rate, slowest), fastest)
        size = max(2, burst // 3, math.ceil(rate * 2 * self._longest))
        back = fastest * 2 * self._longest + (burst > 1)
        """Requests that may be refilled until another client's requests are decided."""
        if back >= min(burst, _FEW):
            if others and (yield from self._use_up(size)):
                yield from self._share_stream(tuple(others), rate, burst)
            return
        needed = math.floor(back) + 1
        for who in others:
            if burst == 1:  # only directly after an accepted request is the bucket certainly empty
                self._now += 1.2 / slowest
            used_up = yield from self._use_up(size)
            if not used_up or max(2, needed) > self._left:
                return
            answers = yield from self._ask(max(2, needed), who)
            through = sum(answer.passed for answer in answers)
            if through < needed:
                self._shared[who], self._amid[who] = True, (len(answers), through, 0.0)
            elif len(buckets) == len(models):
                self._shared[who] = False
            elif needed <= self._left:  # a new window may have started
                own = yield from self._ask(needed)
                self._shared[who] = None if all(answer.passed for answer in own) else False

    def _share_stream(self, others: tuple[Who, ...], rate: float, burst: int) -> Exchange[None]:
        """Send three times the accepted rate, some of it by other clients: a shared quota rejects all alike."""
        pace = min(self._rate, 3 * rate * (1 + len(others) / OWN_SHARE))
        lull = self._patience if max(self._took) > self._patience / 2 else self._trip
        count = max(_OF_OTHERS * (OWN_SHARE + len(others)), round(1.5 * lull * pace))
        asked: Counter[Who] = Counter()
        passed: Counter[Who] = Counter()
        while min(count, self._left) >= _STREAM_LEAST and any(self._shared.get(who) is None for who in others):
            count = min(count, self._left)
            answers = yield from self._ask(count, spread=count / pace, also=others)
            # The first requests exhaust the limiter, whichever client sends them.
            settled = min(answer.sent for answer in answers) + _SETTLING * count / pace
            answers = [answer for answer in answers if answer.sent >= settled]
            asked.update(each.who for each in answers)
            passed.update(each.who for each in answers if each.passed)
            for who in others:
                sent, through = asked[who], passed[who]
                usual = (through + passed["own"] + 1) / (sent + asked["own"] + 2)
                as_many = log10_at_most(sent - through, sent, 1 - usual)
                if as_many < _UNLIKELY:
                    self._shared[who] = False
                elif as_many > -1 and log10_at_most(through, sent, 0.9 if burst > 2 else 0.55) < _UNLIKELY:
                    spread = sent * (OWN_SHARE + len(others)) / pace
                    self._shared[who], self._amid[who] = True, (sent, through, spread)

    def _control(self, idle: float) -> Exchange[None]:
        """Send to another limit alone if it seemed to share the quota: its own limit may reject as many such requests.

        Args:
            idle: seconds after which no limiter is in use any more.
        """
        count, through, spread = self._amid.get("other limit", (0, 0, 0.0))
        if not self._shared.get("other limit") or count < _FEWEST:
            return
        self._shared["other limit"] = None
        if count <= self._left:
            self._now += idle
            alone = yield from self._ask(count, "other limit", spread=spread)
            usual = (sum(answer.passed for answer in alone) + 1) / (count + 2)
            if log10_at_most(through, count, usual) < _FEWER:
                self._shared["other limit"] = True

    def _size(self, count: int) -> int:
        size = max(-(-count // self._parts_most), self._documented.count // 12)
        return max(1, min(size, int(self._rate * max(0.5, self._trip))))

    def _lasts(self, counts: Floats) -> Floats:
        """Arrival time of a series of bursts, in seconds, for several numbers of requests."""
        size = np.maximum(np.ceil(counts / self._parts_most), max(1, self._documented.count // 12))
        return self._trip / 2 + (np.ceil(counts / size).clip(1) - 1) * np.maximum(self._trip, size / self._rate)

    @property
    def _parts_most(self) -> int:
        return max(1, min(8, int(0.15 * self._documented.window / max(self._trip, 0.1))))

    def _burst(self, at: float, count: int, *, whole: bool = False) -> Exchange[bool]:
        """Send up to ``count`` requests in bursts, as fast as allowed, until some are rejected; or all if ``whole``."""
        size = self._size(count)
        passed = rejected = 0
        last = spread = 0.0
        while count > 0 and self._left > 0:
            begin = max(at, last + size / self._rate)
            volley = yield from self._volley(begin, min(size, count, self._left), spread)
            last = volley.begin
            passed, rejected, count = passed + volley.passed, rejected + volley.rejected, count - volley.sent
            if volley.end - volley.begin >= _PATIENCE_S:
                # A queue holds them, and would release later requests one by one after the answers.
                size, spread = count, count / self._rate
            at = self._now
            if rejected >= self._enough and not whole:
                break
        least = min((float(model.least_n.min()) for model in self.standing), default=1.0)
        self._bursts += rejected > 0 and passed >= 0.5 * least
        return rejected > 0

    def _ladder(self) -> Exchange[None]:
        """Send single requests, each when a limiter may have room again, until one is accepted."""
        window, full = self._documented.window, self._sent[0].begin
        margin = 2 * self._trip + 0.002 * window
        near = max(0.008 * window, 0.5 * self._trip)
        moments = {full + window - near, full + window + near}
        moments |= {self._now + part / self._documented.rate for part in (0.5, 1.5, 3.0)}
        moments |= {self._now + part * window for part in (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.3, 1.7, 2.1)}
        for common in sorted({window, window / 2, window / 4}):
            boundary = (self._now // common + 1) * common
            moments |= {boundary + REACH_S + margin, full + common * 1.02}
        if self._documented.count < 20:  # each request costs a large part of the count
            moments = {full + window - near, full + window + near}
            moments |= {full + part * window for part in (0.15, 0.5, 1.7)}
            moments.add((self._now // window + 1) * window + REACH_S + margin)
        last = 0.0
        for at in sorted(moments):
            if at < max(self._now, last + margin / 4) or self._left < self._documented.count:
                continue
            last = at
            if (yield from self._volley(at, 1)).passed:
                break
