"""The ``sleep`` workflow: work that takes a time drawn from a distribution."""

import asyncio
import math
import random
import time
from typing import Annotated

import msgspec

Millis = Annotated[float, msgspec.Meta(ge=0, le=600_000)]


class Constant(msgspec.Struct, forbid_unknown_fields=True, tag_field="distribution", tag="constant"):
    """``sleep(distribution = "constant", ms = 100)``."""

    ms: Millis = 100.0

    def draw(self) -> float:
        """The sleep in ms."""
        return self.ms


class Uniform(msgspec.Struct, forbid_unknown_fields=True, tag_field="distribution", tag="uniform"):
    """``sleep(distribution = "uniform", min_ms = 0, max_ms = 200)``."""

    min_ms: Millis = 0.0
    max_ms: Millis = 200.0

    def draw(self) -> float:
        """One draw in ms."""
        return random.uniform(self.min_ms, self.max_ms)  # noqa: S311 -- a duration, not a secret


class Exponential(msgspec.Struct, forbid_unknown_fields=True, tag_field="distribution", tag="exponential"):
    """``sleep(distribution = "exponential", mean_ms = 100, max_ms = 60000)``; draws above ``max_ms`` are cut to it."""

    mean_ms: Annotated[float, msgspec.Meta(gt=0, le=600_000)] = 100.0
    max_ms: Millis = 60_000.0

    def draw(self) -> float:
        """One draw in ms."""
        return min(random.expovariate(1 / self.mean_ms), self.max_ms)


class Lognormal(msgspec.Struct, forbid_unknown_fields=True, tag_field="distribution", tag="lognormal"):
    """``sleep(distribution = "lognormal", median_ms = 100, sigma = 0.5, max_ms = 60000)``, the shape of most services.

    ``sigma`` is the standard deviation of the logarithm; draws above ``max_ms`` are cut to it.
    """

    median_ms: Annotated[float, msgspec.Meta(gt=0, le=600_000)] = 100.0
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5
    max_ms: Millis = 60_000.0

    def draw(self) -> float:
        """One draw in ms."""
        return min(random.lognormvariate(math.log(self.median_ms), self.sigma), self.max_ms)


Sleep = Constant | Uniform | Exponential | Lognormal


async def take_a_nap(draw: Sleep) -> float:
    """Sleep for one draw; gives the ms slept, never less than were drawn."""
    start = time.perf_counter()
    end = start + draw.draw() / 1000
    # The event loop's timers tick in whole ms and may fire early: sleep on until the drawn time has really passed.
    while (left := end - time.perf_counter()) > 0:  # noqa: ASYNC110 -- it waits for time, not for an event
        await asyncio.sleep(max(left, 0.001))
    return round((time.perf_counter() - start) * 1000, 3)
