"""Sends a probe's bursts and collects the answers. Pure: the caller sends."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from loadtest.limits.probing.evidence import Exchange, ProbeAnswer, ProbeEvidence, Volley, VolleyOrder, Who
from loadtest.units import Limit

PATIENCE_S: Final = 0.25
"""Seconds without an answer after which a request counts as accepted and in progress or held: more than twice the 50 ms
each way that bench/README.md allows for the network."""


class BurstSender:
    """Sends requests through its caller and collects the answers.

    Args:
        now: unix seconds of our clock.
        rate: maximum requests/s.
        requests: maximum number of requests.
        until: unix seconds of our clock after which no burst begins.
    """

    def __init__(self, documented: Limit, now: float, rate: float, requests: int, until: float) -> None:
        self.documented, self._rate, self._left, self._until = documented, rate, requests, until
        self._past = ProbeEvidence()
        self._begin = self._now = now
        self._enough = 2 if documented.count >= 20 else 1
        """Number of rejections that end a burst."""
        self._trip = 0.005
        """The longest time from a request to its rejection, in s."""
        self._held = False
        """Whether accepted requests are held, as in a queue."""
        self._took: list[float] = []
        """Durations of accepted requests, in s."""

    @property
    def _patience(self) -> float:
        return max(PATIENCE_S, 3 * self._trip)

    @property
    def _longest(self) -> float:
        """Seconds within which the server has decided on a request."""
        # A busy machine reads answers late. Only a queue holds accepted requests longer than that.
        return max([1.5 * self._trip + 0.02, *([] if self._held else self._took)])

    def _ask(self, at: float, count: int, who: Who = "own", *, spread: float = 0.0) -> Exchange[list[ProbeAnswer]]:
        answers = yield VolleyOrder(max(at, self._now), count, self._patience, who, spread)
        self._left -= count
        took = [each.answered - each.sent if each.answered < math.inf else self._patience for each in answers]
        rejected = [time for time, each in zip(took, answers, strict=True) if not each.passed]
        self._trip = max([self._trip, *rejected, *([] if self._past.answers else took[:1])])
        self._took += [time for time, each in zip(took, answers, strict=True) if each.passed]
        self._past.answers += answers
        self._past.longest = self._longest
        self._now = max(min(each.answered, each.sent + self._longest) for each in answers) + 0.001
        return sorted(answers, key=lambda each: each.sent)

    def _volley(self, at: float, count: int, spread: float = 0.0) -> Exchange[Volley]:
        """Send requests, and add them to the present experiment."""
        answers = yield from self._ask(at, count, spread=spread)
        volley = self._volley_of(answers)
        self._past.experiments[-1].append(volley)
        return volley

    def _volley_of(self, answers: Sequence[ProbeAnswer]) -> Volley:
        sent, answered = np.array([(each.sent, each.answered) for each in answers]).T
        return Volley(sent, answered, sum(each.passed for each in answers))

    def _begin_experiment(self) -> None:
        self._past.experiments.append([])

    def _in_time(self, at: float, bursts: int = 1) -> bool:
        """Whether successive bursts, the first at ``at``, are all answered before the end, however late."""
        return max(at, self._now) + bursts * self._patience <= self._until

    @property
    def _size(self) -> int:
        """Number of requests in a part of a burst."""
        parts = max(1, min(8, int(0.15 * self.documented.window / max(self._trip, 0.1))))
        size = max(-(-self.documented.count // parts), self.documented.count // 12)
        return max(1, min(size, int(self._rate * max(0.5, self._trip))))

    def _burst(self, at: float, count: int, *, whole: bool = False) -> Exchange[bool]:
        """Send up to ``count`` requests in parts, as fast as allowed, until some are rejected; or all if ``whole``.

        Returns:
            Whether some were rejected.
        """
        size, passed, rejected, last, spread = self._size, 0, 0, -math.inf, 0.0
        while count > 0 and self._left > 0 and (whole or rejected < self._enough):
            at = max(at, last + size / self._rate)
            if not self._in_time(at + spread):
                break
            volley = yield from self._volley(at, min(size, count, self._left), spread)
            last = float(volley.sent[0])
            passed, rejected, count = passed + volley.passed, rejected + volley.rejected, count - len(volley.sent)
            if self._now - last >= PATIENCE_S:
                # A queue holds requests, and would release later requests one by one after the answers.
                size, spread = max(1, count), count / self._rate
        if rejected and passed and passed not in self._past.full:
            self._past.full.append(passed)
        return rejected > 0
