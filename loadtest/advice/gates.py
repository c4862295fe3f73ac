"""The gate of a paced client. It lets requests through as fast as every limiter that may be in force accepts them.

The gate replicates these limiters and computes when each accepts the next request. Clients that know that they share
a limit do not replicate it: they send in turns, by their clocks. After a 429, a client slows down and then recovers.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Final

from loadtest.advice.work import Limits, Work
from loadtest.contract import LimitName
from loadtest.limits import CONCURRENCY, Decision

_MOST_UNANSWERED: Final = 32
"""A gate allows at most this many unanswered requests, because all of them may be rejected. It starts with one."""
_CREDIT: Final = 1 / 16
"""Each accepted request allows this many more unanswered requests, until the next 429."""
_DECREASE: Final = 0.75
"""A 429 multiplies the pace by this factor, unless the rate accepted in the last window is even lower."""
_SETTLE: Final = 0.25
"""Further 429s within this share of a window count as the same event."""
_INCREASE: Final = 0.1
"""Relative growth of the pace in the window after a 429. The growth doubles in each further window without a 429."""
_MOST_DOUBLED: Final = 5.0
"""The growth stops doubling after this many windows."""
_FAST: Final = 4.0
"""Relative growth of the pace per window until the second 429. Growth is fast, because the first pace may be low."""
_LEAST: Final = 0.5
"""If no request was accepted in the last window, this number of accepted requests sets the pace."""
_GRAIN_S: Final = 1e-6
"""A step in s that exceeds the rounding of unix times."""
_NEAR: Final = 40
"""No request is sent within the jitter (at most the window ÷ this number) of a window's edge on the server's clock."""
Action = Callable[[], None]


class Scheduler:
    """Events in virtual time, in s."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.draw = Random(seed).random  # noqa: S311 - jitter of a simulation
        self._heap: list[tuple[float, int, Action]] = []
        self._serial = 0

    def after(self, delay: float, action: Action) -> None:
        """Run ``action`` in ``delay`` s."""
        self._serial += 1
        heappush(self._heap, (self.now + delay, self._serial, action))


class Gate:
    """Decides when a client may send its next request on a limit. If limits are shared, submits and polls use one gate.

    Args:
        number: number of this client, from 0. Clients that know of each other send in turns, by their clocks.
        clients: number of clients that share the limit, as far as this client knows.
        pace: the first pace, as a multiple of the safe pace (``Limits.spacing``). If it is None, the gate follows its
            replicas, or starts at the safe pace if clients send in turns.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        work: Work,
        limits: Limits,
        name: LimitName,
        *,
        number: int,
        clients: int,
        pace: float | None,
    ) -> None:
        candidates = limits.candidates[name]
        self._scheduler, self._epoch, self._stated_wait = scheduler, work.epoch, limits.stated_wait
        self._trip, self._jitter = limits.round_trip_s, limits.jitter_s
        held = [each for each in candidates if each.algorithm == CONCURRENCY]
        counted = [each for each in candidates if each.algorithm != CONCURRENCY]
        self._most_busy = float(min([max(1, each.limit.count // clients) for each in held], default=math.inf))
        if work.polled and name == work.submit and not limits.shared:
            self._most_busy = min(self._most_busy, limits.unfinished(float(work.execution_s[-1])) / clients)
        self._busy = 0
        self._window = max((each.limit.window for each in counted), default=1.0)
        self._spacing = limits.spacing(name, clients)
        self._pace, self._most_pace = (1.0, 1.0) if pace is None else (pace, math.inf)
        self._spaced = clients > 1 or pace is not None
        models = [] if self._spaced else [each.stricter(self._jitter) for each in counted]
        self._replicas = [each.limiter().decide for each in models]
        # Length and phase of windows on the server's clock. A bucket that refills in whole seconds has windows of 1 s.
        aligned = [each for each in models if each.spec.on_clock]
        self._edges = {(each.limit.window, each.spec.phase) if each.windowed else (1.0, 0.0) for each in aligned}
        self._in_turns = clients > 1
        self._next_even = number / clients * self._spacing
        self._ready = self._changed = self._pause = self._slowed = 0.0
        self._clear = 0.0  # until this time, no window's edge is near
        self._credit = 1.0
        self._unsure = True
        self._accepted: deque[float] = deque(maxlen=max((each.limit.count for each in counted), default=1))
        self._answers: list[tuple[float, Decision]] = []  # a heap, because answers may come out of order
        self._idle = True
        self._submits: deque[Action] = deque()
        self._polls: deque[Action] = deque()

    def join(self, send: Action, *, poll: bool) -> None:
        """Queue a request. ``send`` sends it later. Polls go first."""
        (self._polls if poll else self._submits).append(send)
        self._wake()

    def _wake(self) -> None:
        """Serve the queues, unless they are being served."""
        if self._idle:
            self._idle = False
            self._scheduler.after(0.0, self._serve)

    def learn(self, decision: Decision) -> None:
        """Note the answer to the last request. It reaches the client after the limiter's delay and a round trip."""
        self._busy += decision.allowed
        heappush(self._answers, (self._scheduler.now + decision.delay + self._trip, decision))

    def ended(self) -> None:
        """Note the end of an accepted request, or of its job."""
        self._busy -= 1
        self._wake()

    def _serve(self) -> None:
        now = self._scheduler.now
        while queue := self._polls or self._submits:
            if (ready := self._next(now)) > now:
                self._scheduler.after(ready - now, self._serve)
                return
            if self._busy >= self._most_busy:
                break
            if self._take(now):
                queue.popleft()()
        self._idle = True

    def _next(self, now: float) -> float:
        """Return the earliest time of the next request."""
        answers = self._answers
        while answers and answers[0][0] <= now:
            _, decision = heappop(answers)
            if not decision.allowed:
                self._slow_down(now, decision)
                continue
            self._pause = 0.0
            self._accepted.append(now)
            if self._credit < _MOST_UNANSWERED:
                self._credit += _CREDIT
        if len(answers) + 1 > self._credit:
            return answers[0][0]
        if self._in_turns and (late := now - self._next_even) > _GRAIN_S:
            self._next_even += math.ceil(late / self._spacing) * self._spacing
        ready = max(self._ready, self._next_even, now)
        return self._past_edges(ready) if ready >= self._clear else ready

    def _past_edges(self, ready: float) -> float:
        """Return the first time from ``ready`` on that is not near a window's edge.

        A request near an edge may count in either window.
        """
        self._clear = math.inf
        for window, phase in self._edges:
            near = min(self._jitter, window / _NEAR)
            past = (self._epoch + ready - phase + near) % window
            self._clear = min(self._clear, ready + window - past - _GRAIN_S)
            if past < 2 * near:
                ready += 2 * near - past + _GRAIN_S
        return ready

    def _take(self, now: float) -> bool:
        """Count a request in every replica; return False if a replica rejects it because of rounding."""
        allowed = True
        at = self._epoch + now
        for decide in self._replicas:
            passed, _, _, wait, _ = decide(at)
            if wait:
                self._ready = max(self._ready, now + wait)
            if not passed:
                self._ready, allowed = max(self._ready, now + _GRAIN_S), False
        if self._spaced or self._slowed:
            if (since := now - self._changed) > 0:
                growth = (
                    _FAST if self._unsure else _INCREASE * 2 ** min(_MOST_DOUBLED, (now - self._slowed) / self._window)
                )
                self._pace = min(self._most_pace, self._pace * (1 + growth * since / self._window))
                self._changed = now
            self._next_even = max(now, self._next_even) + self._spacing / self._pace
        return allowed

    def _slow_down(self, now: float, decision: Decision) -> None:
        """Pause, then continue a quarter slower, or at the pace accepted in the last window if that is lower."""
        stated, draw = self._stated_wait(decision), self._scheduler.draw()
        self._credit = 1.0
        if now >= self._changed:
            accepted = self._accepted
            while accepted and accepted[0] <= now - self._window:
                accepted.popleft()
            share = max(len(accepted), _LEAST) * self._spacing / self._window if not self._in_turns else 1.0
            self._pace = min(self._pace * _DECREASE, share)
            self._unsure, self._slowed, self._changed = self._slowed == 0, now, now + self._window * _SETTLE
        self._pause = min(max(self._spacing / self._pace, 2 * self._pause), self._window / 2)
        wait = self._pause if stated is None else stated
        self._next_even = max(self._next_even, now + wait + draw * self._spacing / self._pace)


def gates(
    work: Work, limits: Limits, pace: float | None, scheduler: Scheduler, number: int, *, told: bool = True
) -> Mapping[LimitName, Gate]:
    """Return a client's gates for submits and polls. Both share a gate if the limits are shared.

    If ``told`` is False, the client does not know that other clients share the limits.
    """
    number, clients = (number, work.clients) if told else (0, 1)
    make = partial(Gate, scheduler, work, limits, number=number, clients=clients, pace=pace)
    first = make(work.submit)
    if not work.polled:
        return {work.submit: first}
    return {work.submit: first, LimitName.RETRIEVAL: first if limits.shared else make(LimitName.RETRIEVAL)}
