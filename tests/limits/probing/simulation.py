"""A server with one limiter and a network, on a clock that is only counted: what a probe is tried on."""

import copy
import math
import random
from collections.abc import Callable, Sequence

from loadtest.contract import LimitName
from loadtest.limits import Limiter, LimiterSpec, make
from loadtest.limits.probing.evidence import ProbeAnswer, VolleyOrder, Who
from loadtest.limits.probing.probe import Prober
from loadtest.limits.probing.results import LimitFinding
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
) -> LimitFinding:
    """Probe a server whose clock is up to 0.5 s from ours, messages taking up to ``jitter_s``."""
    chance = random.Random(seed)  # a simulation: not for secrets
    now = 1.7e9 + chance.random() * 3600
    offset = chance.uniform(-0.5, 0.5)
    run = Prober(LimitName.RETRIEVAL, documented, now, rate, others=others).run()
    send: VolleyOrder = next(run)
    while True:
        now = max(now, send.at)
        answers = []
        times = [now + after for after in send.after]
        for arrival, sent in sorted((sent + chance.random() * jitter_s, sent) for sent in times):
            passed, held = decide(arrival + offset, send.who)
            answered = arrival + held + chance.random() * jitter_s
            answers.append(
                ProbeAnswer(sent, answered if answered <= sent + send.patience else math.inf, passed, send.who)
            )
        now = max(min(answer.answered, answer.sent + send.patience) for answer in answers)
        try:
            send = run.send(answers)
        except StopIteration as stop:
            found: LimitFinding = stop.value
            return found


def one_limiter(spec: LimiterSpec, limit: Limit, sharing: Sequence[Who] = ()) -> Decide:
    """A server with one limiter for whoever is "own", and those who share it, and one for everybody else."""
    limiters: dict[Who, Limiter] = {who: make(spec, limit) for who in ("own", "other key", "other limit")}

    def decide(now: float, who: Who) -> tuple[bool, float]:
        decision = limiters["own" if who in sharing else who].decide(now)
        return decision.allowed, decision.delay

    return decide


def shared_with_others(spec: LimiterSpec, limit: Limit, share: float, seed: int) -> Decide:
    """A quota on which somebody else draws at random, a share of the limit's rate on average."""
    limiter, chance = make(spec, limit), random.Random(seed)
    due = [0.0]

    def decide(now: float, _: Who) -> tuple[bool, float]:
        if not due[0]:
            due[0] = now - 2 * limit.window
        while due[0] < now:
            limiter.decide(due[0])
            due[0] += chance.expovariate(share * limit.rate)
        return limiter.decide(now).allowed, 0.0

    return decide


def replicas(spec: LimiterSpec, limit: Limit, count: int, seed: int) -> Decide:
    """A balancer that sends each request to one of several servers, at random, of which each counts for itself."""
    limiters, chance = [make(spec, limit) for _ in range(count)], random.Random(seed)

    def decide(now: float, _: Who) -> tuple[bool, float]:
        return chance.choice(limiters).decide(now).allowed, 0.0

    return decide


def lazily_synced(limit: Limit, count: int, every_s: float, seed: int) -> Decide:
    """Servers with one wall-aligned counter, of which each knows the others' requests as of the last sync only."""
    chance = random.Random(seed)
    state = {"window": 0.0, "sync": 0.0, "shared": 0}
    own = [0] * count

    def decide(now: float, _: Who) -> tuple[bool, float]:
        window, sync = now // limit.window, now // every_s
        if window != state["window"]:
            state.update(window=window, sync=sync, shared=0)
            own[:] = [0] * count
        elif sync != state["sync"]:
            state.update(sync=sync, shared=state["shared"] + sum(own))
            own[:] = [0] * count
        server = chance.randrange(count)
        passed = state["shared"] + own[server] < limit.count
        own[server] += passed
        return passed, 0.0

    return decide


def two_limits(spec: LimiterSpec, limit: Limit, longer: Limit) -> Decide:
    """Two limits at once; what one refuses draws on neither."""
    first, second = make(spec, limit), make(spec, longer)

    def decide(now: float, _: Who) -> tuple[bool, float]:
        if not copy.deepcopy(second).decide(now).allowed:
            return False, 0.0
        return first.decide(now).allowed and second.decide(now).allowed, 0.0

    return decide
