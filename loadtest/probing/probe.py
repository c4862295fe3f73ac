"""A probe of one limit: sends volleys, sets models aside, ends as soon as it is sure. Pure: its caller sends."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from loadtest.probing.experiments import Experiment, best, candidates, experiments
from loadtest.probing.models import Bucket, Model, every_model
from loadtest.probing.past import Answer, Past, Send, Volley, Who
from loadtest.units import Limit

COMMON_WINDOWS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Seconds that wall-aligned windows usually last."""
REQUESTS: Final = 4.0
"""Requests that a probe may send, as a multiple of the documented count."""
WINDOWS: Final = 8.0
"""Time that it may take, in documented windows."""
_REACH_S: Final = 0.6
"""How far the server's clock may be from ours."""
_PATIENCE_S: Final = 0.25
"""A request without an answer by then has been decided on, and is being carried out or held."""
_SURE_BURSTS: Final = 2
"""Bursts that have to agree where the numbers are the documented ones."""
_OTHER_BURSTS: Final = (3, 12)
"""Bursts that have to agree where they are others: as many as use up the documented count, but within these bounds."""
_EXPERIMENTS_MOST: Final = 150

Word = Literal["named", "several", "none", "unlimited"]
Probe = Generator[Send, Sequence[Answer], "Finding"]
Step = Generator[Send, Sequence[Answer], Volley]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe of one limit found.

    Attributes:
        word: one model is ``named``, ``several`` stand, ``none`` does, or nothing was refused (``unlimited``).
        documented: the limit that the documentation gives.
        standing: the models that stand.
        held: whether requests that passed were held as in a queue.
        shared: of each who else was asked, whether the quota is theirs as well; None if that is not clear.
        requests: how many were sent.
        refused: of these, refused.
        seconds: from the first request to the last answer.
        why: what is missing, where it is not sure.
        volleys: what was sent and seen.
    """

    word: Word
    documented: Limit
    standing: tuple[Model, ...] = field(repr=False)
    held: bool
    shared: dict[Who, bool | None]
    requests: int
    refused: int
    seconds: float
    why: str
    volleys: tuple[Volley, ...] = field(repr=False)


class Prober:
    """One probe.

    Args:
        documented: the limit that the documentation gives.
        now: unix seconds of our clock.
        rate: requests/s that may be sent.
        others: who else there is, to see whether they share the quota.
        requests: that may be sent in all.
        seconds: that it may take.
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
    ) -> None:
        self._documented = documented
        windows = sorted({documented.window, *COMMON_WINDOWS})
        self._models = every_model(
            documented, [each for each in windows if documented.window / 30 <= each <= documented.window * 8], _REACH_S
        )
        self._past = Past()
        self._enough = 2 if documented.count >= 20 else 1
        """Refusals that end a burst."""
        self._rate = rate
        self._begin = self._now = now
        self._left = int(REQUESTS * documented.count) if requests is None else requests
        self._until = now + (WINDOWS * documented.window if seconds is None else seconds)
        self._trip = 0.005
        """The longest time between a request and its refusal, in s."""
        self._bursts = 0
        self._caution = 1.0
        """Grows while experiments teach nothing: the next one keeps farther away from moments that may be unsure."""
        self._vain: set[tuple[int, ...]] = set()
        """Forms of the experiments that taught nothing since the last one that did."""
        self._took: list[float] = []
        """How long requests took that passed in the first burst."""
        self._held = False
        self._shared: dict[Who, bool | None] = {}
        self._others = others

    def run(self) -> Probe:
        """Make the experiments, and return what they tell."""
        yield from self._volley(self._now, 1)
        filled = yield from self._burst(self._now, round(1.1 * self._documented.count) + 1)
        if not filled:  # what refills quickly needs more at once than its burst
            filled = yield from self._burst(self._now, round(1.5 * self._documented.count))
        if not filled:
            return self._finding("unlimited", f"nothing was refused of {len(self._sent)} requests")
        took = self._took.copy()
        for who in self._others:
            self._shared[who] = yield from self._share(who)
        yield from self._ladder()
        self._divide()
        self._held = _held(took, self._trip)
        stood = self._extent()
        for _ in range(_EXPERIMENTS_MOST):
            if not self.standing or self._sure:
                break
            chosen = self._choose()
            if chosen is None:
                break
            for at, count in chosen:
                yield from self._burst(max(at, self._now), count)
            self._divide()
            taught, stood = self._extent() < stood, self._extent()
            self._caution = 1.0 if taught else min(3 * self._caution, 100.0)
            self._vain = set() if taught else self._vain | {_form(chosen)}
        return self._conclude()

    @property
    def standing(self) -> list[Model]:
        """The models that stand."""
        return [model for model in self._models if model.stands]

    @property
    def _sent(self) -> list[Volley]:
        return self._past.volleys

    def _extent(self) -> float:
        """How much stands: of each model its cells' share of their parameter, times how many N they leave."""
        return sum(
            float(((model.high - model.low) / max(model.grain, 1e-9) * (model.most_n - model.least_n + 1)).sum()) + 1
            for model in self.standing
        )

    def _divide(self) -> None:
        for model in self._models:
            model.divide(self._past)

    @property
    def _patience(self) -> float:
        return max(_PATIENCE_S, 3 * self._trip)

    def _decided(self, answers: Sequence[Answer]) -> float:
        """By when all requests of a volley had been decided on.

        One that passed may be carried out, or held: it was decided on no later than the slowest refusal, and half as
        much again; before any refusal was seen, by the last answer, and the patience with which others were waited for.
        """
        if any(volley.refused for volley in self._sent) or not all(answer.passed for answer in answers):
            longest = 1.5 * self._trip + 0.02
            return max(min(answer.answered, answer.sent + longest) for answer in answers)
        came = [answer.answered for answer in answers if answer.answered < math.inf]
        last = max([*came, *(answer.sent for answer in answers)])
        return last if len(came) == len(answers) else last + self._patience

    def _volley(self, at: float, count: int) -> Step:
        patience = self._patience
        answers = yield Send(at, count, patience)
        times = [answer.answered - answer.sent for answer in answers]
        self._trip = max(
            [self._trip, *(each for each, answer in zip(times, answers, strict=True) if not answer.passed)]
        )
        if not self._sent:
            self._trip = max(self._trip, min(times[0], patience))
        self._took += [min(each, patience) for each, answer in zip(times, answers, strict=True) if answer.passed]
        volley = Volley(
            min(answer.sent for answer in answers),
            self._decided(answers),
            len(answers),
            sum(answer.passed for answer in answers),
        )
        self._count(volley)
        return volley

    def _count(self, volley: Volley) -> None:
        self._past.add(volley)
        for model in self._models:
            model.see(self._past, len(self._sent) - 1)
        self._left -= volley.sent
        self._now = volley.end + 0.001

    def _share(self, who: Who) -> Generator[Send, Sequence[Answer], bool | None]:
        """Whether somebody else draws on the quota that has just been used up; None if that is not clear."""
        passed = sum(volley.passed for volley in self._sent)
        refill = 4 * self._trip * self._documented.rate
        count = max(1, min(2 + int(refill), passed // 2, self._left // 4))
        answers = yield Send(self._now, count, self._patience, who)
        through = sum(answer.passed for answer in answers)
        end = self._decided(answers)
        if through <= count // 4:  # they may have been counted, where refused requests are
            self._count(Volley(min(answer.sent for answer in answers), end, count, through))
        self._now = end + 0.001
        still = yield from self._volley(self._now, 1)
        if still.passed:
            return None
        return True if through <= count // 4 else False if through == count else None

    def _burst(self, at: float, count: int) -> Generator[Send, Sequence[Answer], bool]:
        """Send up to so many as quickly as is allowed, in volleys, until some are refused."""
        parts = max(1, min(8, int(0.15 * self._documented.window / max(self._trip, 0.01))))
        size = max(
            1, min(max(-(-count // parts), self._documented.count // 12), int(self._rate * max(0.5, self._trip)))
        )
        passed = refused = 0
        last = 0.0
        while count > 0 and self._left > 0:
            volley = yield from self._volley(max(at, last + size / self._rate), min(size, count, self._left))
            last = volley.begin
            passed, refused, count = passed + volley.passed, refused + volley.refused, count - volley.sent
            at = self._now
            if refused >= self._enough:
                break
        least = min((float(model.least_n.min()) for model in self.standing), default=1.0)
        self._bursts += refused > 0 and passed >= 0.5 * least
        return refused > 0

    def _ladder(self) -> Generator[Send, Sequence[Answer], None]:
        """Ask one at a time, at moments at which room may come back, until one passes."""
        window, full = self._documented.window, self._sent[1].begin
        margin = 2 * self._trip + 0.002 * window
        moments = {full + part * window for part in (0.985, 1.015)}
        moments |= {self._now + part / self._documented.rate for part in (0.5, 1.5, 3.0)}
        moments |= {self._now + part * window for part in (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.3, 1.7, 2.1)}
        for common in sorted({window, window / 2, window / 4}):
            boundary = (self._now // common + 1) * common
            moments |= {boundary + _REACH_S + margin, full + common * 1.02}
        if self._documented.count < 20:  # each costs a tenth of the count
            moments = {full + part * window for part in (0.15, 0.5, 0.985, 1.015, 1.7)}
            moments.add((self._now // window + 1) * window + _REACH_S + margin)
        last = 0.0
        for at in sorted(moments):
            if at < max(self._now, last + margin / 4) or self._left < self._documented.count:
                continue
            last = at
            if (yield from self._volley(at, 1)).passed:
                break

    def _choose(self) -> Experiment | None:
        rivals = candidates(self._models, self._past, self._documented, self._now)
        most = max(int(model.least_n.max()) for model in self.standing)
        most += max(self._enough, round(0.05 * most))
        margin = min((2 * self._trip + 0.005) * self._caution, 0.1 * self._documented.window + 4 * self._trip)
        tried = experiments(rivals, self._now, min(most, self._left), margin, self._until)
        sole = self._sole
        if sole and self._pinned:
            # At another phase than before: what somebody else uses up is not the same then.
            idle = max(rival.full for rival in rivals) + margin + 0.37 * self._bursts * rivals[0].window
            return ((idle, most),) if idle <= self._until and most <= self._left else None
        if sole:
            tried = [*tried, *self._pinning()]
        tried = [each for each in tried if _form(each) not in self._vain]
        found = best(rivals, tried, self._now, self._left, min(self._trip * self._caution, margin))
        if found is None and sole:
            found = next((each for each in self._pinning() if self._fits(each)), None)
        return found

    def _fits(self, experiment: Experiment) -> bool:
        return sum(count for _, count in experiment) <= self._left and experiment[-1][0] <= self._until

    def _pinning(self) -> list[Experiment]:
        """Volleys at the moment at which one more would pass by the middle of the rates that stand."""
        model = self.standing[0]
        if not isinstance(model, Bucket):
            least, most = model.window()
            full = self._sent[-1].begin
            return [((full + (least + most) / 2, 1),)] if full + least > self._now else []
        least, most = model.window()
        spacing, burst = (least + most) / 2, int(model.least_n.min())
        used = model.used(self._now)
        some = max(1, min(int(0.8 * burst), int(60 * self._trip / spacing) + 1))
        wait = max(0.0, used - burst + some) * spacing
        if burst == 1:
            return [((self._now + wait - self._trip / 2, 1),)]
        return [((self._now + wait, some + 1),), ((self._now + wait + spacing / 2, some + 2),)]

    @property
    def _pinned(self) -> bool:
        """Whether numbers are known as closely as is wanted."""
        for model in self.standing:
            (least, most), (low, high) = model.window(), model.count()
            bucket = isinstance(model, Bucket)
            slack = max((0.04 if bucket else 0.035) * most, 0.0 if bucket else 1.9 * self._trip)
            if most - least > slack or high - low > max(1, 0.02 * low if bucket else 0):
                return False
        return True

    @property
    def _confirmed(self) -> bool:
        least, most = _OTHER_BURSTS
        needed = min(most, max(least, self._documented.count // self.standing[0].count()[0]))
        return self._bursts >= (_SURE_BURSTS if self._documented_stands else needed)

    @property
    def _documented_stands(self) -> bool:
        """Whether the documented numbers are among those that stand."""
        model, documented = self.standing[0], self._documented
        (least, most), (low, high) = model.window(), model.count()
        if isinstance(model, Bucket):
            return least <= 1.02 / documented.rate and most >= 0.98 / documented.rate
        return least <= documented.window <= most and low <= documented.count <= high

    @property
    def _round(self) -> bool:
        """Whether numbers stand that somebody may have chosen: what others leave of a quota is any number."""
        model = self.standing[0]
        counts = [model.count()]
        if isinstance(model, Bucket):
            least, most = model.window()
            counts.append((math.ceil(self._documented.window / most), int(self._documented.window / least)))
        return all(any(_is_round(count) for count in range(low, high + 1)) for low, high in counts)

    @property
    def _sole(self) -> bool:
        return len({model.key for model in self.standing}) == 1

    @property
    def _sure(self) -> bool:
        return self._sole and self._confirmed and self._pinned

    def _conclude(self) -> Finding:
        if not self.standing:
            return self._finding("none", "no limiter that is known answers like this")
        if not self._sole:
            return self._finding("several", "what may be sent does not tell them apart")
        if self._confirmed and self._pinned:
            if self._documented_stands or self._round:
                return self._finding("named", "")
            return self._finding("several", "its numbers are nobody's choice: somebody else may draw on this quota")
        return self._finding("several", "what may be sent does not confirm its numbers")

    def _finding(self, word: Word, why: str) -> Finding:
        sent = sum(volley.sent for volley in self._sent)
        return Finding(
            word,
            self._documented,
            tuple(self.standing),
            self._held,
            self._shared,
            sent,
            sent - sum(volley.passed for volley in self._sent),
            self._sent[-1].end - self._begin,
            why,
            tuple(self._sent),
        )


def _held(took: Sequence[float], trip: float) -> bool:
    """Whether requests that passed in a burst waited ever longer for their answers, as in a queue."""
    part = len(took) // 3
    return part > 0 and sorted(took[-part:])[part // 2] > min(took) + 1.5 * trip


def _form(experiment: Experiment) -> tuple[int, ...]:
    """What experiments of one kind have in common."""
    return tuple(count for _, count in experiment)


def _is_round(count: int) -> bool:
    """Whether a count has two digits that are not 0 at most, or is a power of 2; from 20 on, the last one is 0 or 5."""
    digits = str(count).rstrip("0")
    return count < 20 or count & (count - 1) == 0 or (len(digits) <= 2 and count % 5 == 0)
