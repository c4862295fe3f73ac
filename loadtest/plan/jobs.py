"""How long workflows are believed to take, so that polls, and runs at the same time, can be counted. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.scenario import Traffic

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
_MS: Final = 0.001


@dataclass(frozen=True, slots=True)
class JobDuration:
    """A belief about the workflows that an entry runs.

    Attributes:
        words: what is believed, as a sentence's end.
        draw: draws so many durations, in seconds.
        known: whether anything tells, or it is a mere assumption.
        varies: whether one may take longer than another.
    """

    words: str
    draw: Draw
    known: bool = True
    varies: bool = False


def job_duration(traffic: Traffic, said: float | None = None) -> JobDuration:
    """What an entry's workflows are believed to take.

    Args:
        traffic: an ``async_run`` or ``sync_run`` entry.
        said: seconds, where somebody knows; otherwise the parameters of the reference server's ``sleep`` and ``cpu``
            tell, and of all other workflows it is assumed that one poll is enough.
    """
    what = "jobs" if traffic.operation == "async_run" else "runs"
    if said is not None:
        return JobDuration(f"its {what} are taken to last {said:g} s, as given", _constant(said))
    parameters = traffic.parameters
    try:
        if traffic.workflow == "sleep":
            return _sleep(parameters, f"its {what}")
        if traffic.workflow == "cpu":
            ms = float(parameters.get("ms", 10))
            return JobDuration(f"its {what} take {ms:g} ms, as its parameters say", _constant(ms * _MS))
    except (TypeError, ValueError):
        pass  # The server will refuse them; no job comes of it that could be polled.
    words = f"its {what} are taken to be done at once"
    if traffic.operation == "async_run":
        words = "its jobs are taken to be done at their first poll; longer ones are polled more"
    return JobDuration(words, _constant(0.0), known=False)


def _sleep(parameters: dict[str, Any], what: str) -> JobDuration:
    """The distributions of the reference server's ``sleep``, with its defaults."""

    def ms(name: str, default: float) -> float:
        return float(parameters.get(name, default))

    kind = parameters.get("distribution", "constant")
    longest = ms("max_ms", 60_000) * _MS
    if kind == "uniform":
        low, high = ms("min_ms", 0) * _MS, ms("max_ms", 200) * _MS
        words = f"{what} take {low:g} to {high:g} s"
        return JobDuration(
            f"{words}, as its parameters say", lambda random, n: low + (high - low) * random.random(n), varies=True
        )
    if kind == "exponential":
        mean = ms("mean_ms", 100) * _MS
        return JobDuration(
            f"{what} take {mean:g} s on average, as its parameters say",
            lambda random, n: np.minimum(-mean * np.log1p(-random.random(n)), longest),
            varies=True,
        )
    if kind == "lognormal":
        middle, sigma = math.log(ms("median_ms", 100) * _MS), ms("sigma", 0.5)
        return JobDuration(
            f"{what} have a median of {math.exp(middle):g} s, as its parameters say",
            lambda random, n: np.minimum(np.exp(middle + sigma * random.standard_normal(n)), longest),
            varies=True,
        )
    seconds = ms("ms", 100) * _MS
    return JobDuration(f"{what} take {seconds:g} s, as its parameters say", _constant(seconds))


def _constant(seconds: float) -> Draw:
    return lambda _random, n: np.full(n, seconds)
