"""A server with one limiter and a network, on a clock that is only counted: what a probe is tried on."""

import math
import random
from collections.abc import Callable

from loadtest.limiters import LimiterSpec, make
from loadtest.probing.probe import Answer, Finding, Prober, Send, Who
from loadtest.units import Limit

Decide = Callable[[float, Who], tuple[bool, float]]
"""Whether a request passes that reaches the server at a moment of its clock, and how long it is held."""


def probed(
    decide: Decide,
    documented: Limit,
    seed: int,
    *,
    jitter_s: float = 0.05,
    rate: float = 1e5,
    others: tuple[Who, ...] = (),
) -> Finding:
    """Probe a server whose clock is up to 0.5 s from ours, messages taking up to ``jitter_s``."""
    chance = random.Random(seed)  # a simulation: not for secrets
    now = 1.7e9 + chance.random() * 3600
    offset = chance.uniform(-0.5, 0.5)
    run = Prober(documented, now, rate, others=others).run()
    send: Send = next(run)
    while True:
        now = max(now, send.at)
        answers = []
        for arrival in sorted(now + chance.random() * jitter_s for _ in range(send.count)):
            passed, held = decide(arrival + offset, send.who)
            answered = arrival + held + chance.random() * jitter_s
            answers.append(Answer(now, answered if answered <= now + send.patience else math.inf, passed))
        now = max(min(answer.answered, now + send.patience) for answer in answers)
        try:
            send = run.send(answers)
        except StopIteration as stop:
            found: Finding = stop.value
            return found


def one_limiter(spec: LimiterSpec, limit: Limit) -> Decide:
    """A server with one limiter for whoever is "own", and another for everybody else."""
    limiters = {own: make(spec, limit) for own in (True, False)}

    def decide(now: float, who: Who) -> tuple[bool, float]:
        decision = limiters[who == "own"].decide(now)
        return decision.allowed, decision.delay

    return decide
