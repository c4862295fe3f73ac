"""Clients' policies: when they send, what they do after a 429, and when they poll."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadtest import words
from loadtest.advice.gates import Gate, Scheduler, gates
from loadtest.advice.work import Limits, Work
from loadtest.contract import LimitName
from loadtest.scenario import Polling, Retry, Traffic

_Draw = Callable[[], float]
Wait = Callable[[int, float, float, float | None], float | None]
"""A function that returns the seconds to wait after the n-th 429 in succession, or None to give up. The arguments are
n, the seconds since the first attempt, a uniform draw from 0 to 1, and the wait in s that the 429 states."""
Poll = Callable[[int, float, _Draw], float | None]
"""A function that returns the seconds to the n-th poll, or None to give up. The arguments are n, the seconds since
acceptance, and a function that draws uniform numbers."""

PACED: Final = "paced"
PRESENT: Final = "present"
IN_FLIGHT: Final = 10
"""A client with neither gates nor a schedule keeps at least this many jobs in progress."""
_POLL_S: Final = 1.0
"""Seconds between polls if the client's policy does not state them."""


@dataclass(frozen=True)
class Policy:
    """A client's policy.

    Attributes:
        wait: returns the wait after a 429. Clients with gates ignore it.
        retries_polls: whether a rejected poll is retried after ``wait``; otherwise the next poll follows as usual.
        start: takes a job's number, from 0, and returns its start time in s. None for a policy without a schedule.
        gates: makes a client's gates, given the scheduler and the client's number.
        quota: tokens of a client's retry quota, as in AWS SDKs' standard mode; 0 without a quota.
        poll_times: planned times of polls, in s since acceptance.
    """

    name: str
    words: str
    wait: Wait
    poll: Poll
    retries_polls: bool = True
    in_flight: int = IN_FLIGHT
    start: Callable[[int], float] | None = None
    gates: Callable[[Scheduler, int], Mapping[LimitName, Gate]] | None = None
    quota: int = 0
    poll_times: tuple[float, ...] = ()


def waits(retry: Retry) -> Wait:
    """Return a function that computes the waits of a scenario's retry policy."""
    return lambda attempt, _elapsed, draw, stated: retry.wait(attempt, draw, stated)


give_up: Final = waits(Retry())
full_jitter: Final = waits(Retry.model_validate({"policy": "exponential", "max_attempts": 1000}))
"""Exponential backoff with full jitter: U · min(60 s, 1 s · 2ⁿ⁻¹), U uniform from 0 to 1 (M. Brooker, 2015)."""
aws: Final = waits(Retry.model_validate({"policy": "exponential", "max": "20s", "max_attempts": 3}))
"""AWS SDKs' standard mode: 3 attempts, U · min(20 s, 1 s · 2ⁿ⁻¹) after throttling (botocore 1.44.8,
``retries/standard.py``, lines 36, 351 and 392; its quota: lines 704 to 760, and ``retries/quota.py``, line 7)."""


def retry_after(attempt: int, elapsed: float, draw: float, stated: float | None) -> float | None:
    """Wait as long as the 429 states, and up to a tenth longer, or up to 1 s longer if that is more.

    If the 429 states no wait, the wait is that of ``full_jitter``.
    """
    return full_jitter(attempt, elapsed, draw, None) if stated is None else stated + draw * max(1.0, stated / 10)


def openai(attempt: int, _elapsed: float, draw: float, stated: float | None) -> float | None:
    """The OpenAI and Anthropic SDKs: 2 retries after the stated wait, or after 75 to 100 % of 0.5 s · 2ⁿ⁻¹.

    If the stated wait exceeds 120 s, this function gives up like OpenAI's SDK, while Anthropic's SDK waits (openai
    3.57.0, ``_constants.py`` 8–15, ``_base_client.py`` 898; anthropic 2.14.0, ``_constants.py`` 11–15,
    ``_base_client.py`` 913).
    """
    if attempt > 2 or (stated or 0) > 120:
        return None
    return stated or min(8.0, 0.5 * 2 ** (attempt - 1)) * (1 - draw / 4)


def stamina(attempt: int, elapsed: float, draw: float, _stated: float | None) -> float | None:
    """stamina: 10 attempts, none after 45 s, waits of min(5 s, 0.1 s · 2ⁿ⁻¹ + U) (26.1.0, ``_core.py``, 121–126)."""
    return None if attempt >= 10 or elapsed >= 45 else min(5.0, 0.1 * 2 ** (attempt - 1) + draw)


def every_second(_number: int, _elapsed: float, _draw: _Draw) -> float:
    """Poll each second."""
    return _POLL_S


def usual(work: Work, limits: Limits) -> list[Policy]:
    """Return the policies of usual clients."""
    # Ten jobs are in progress, or more if the limits would otherwise idle.
    rate = min(limits.rate(name) for name in work.names)
    mean = float(work.execution_s.mean()) + _POLL_S * work.polled
    busy = math.ceil(2 * rate * mean / work.clients) if math.isfinite(rate) else IN_FLIGHT
    make = partial(Policy, poll=every_second, in_flight=max(IN_FLIGHT, busy))
    return [
        make("no retry", "gives up at a 429", give_up),
        make("backoff", "exponential backoff with full jitter: up to 1 s, 2 s, … 60 s", full_jitter),
        make("Retry-After", "waits as long as the 429 states, and up to 1 s or a tenth longer", retry_after),
        make("OpenAI, Anthropic", "2 retries after up to 0.5 s and 1 s, or as the 429 states up to 2 min", openai),
        make("stamina", "10 attempts within 45 s", stamina),
        make("AWS standard", "2 retries after up to 1 s and 2 s, quota of 100 failed retries", aws, quota=500),
        make(
            "AIMD",
            "begins at a tenth of the limit, and adapts its pace to 429s",
            give_up,
            gates=partial(gates, work, limits, 0.1),
        ),
    ]


def present(traffic: Traffic, rate: float) -> Policy:
    """Return the policy of a scenario's traffic entry. ``rate`` is in operations/s."""
    return scheduled(PRESENT, f"as the scenario says, at {words.rate(rate)}", traffic.retry, traffic.polling, rate)


def scheduled(name: str, words: str, retry: Retry, polling: Polling, rate: float) -> Policy:
    """Return the policy of a client that starts jobs on a schedule, and does not retry a rejected poll."""

    def poll(number: int, elapsed: float, draw: _Draw) -> float | None:
        wait = polling.wait(number, draw() if polling.jitter else 1.0)
        return None if elapsed + wait > polling.give_up + 1e-9 else wait

    return Policy(name, words, waits(retry), poll, retries_polls=False, start=lambda number: number / rate)
