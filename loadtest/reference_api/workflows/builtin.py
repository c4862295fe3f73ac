"""The workflows that every reference server has, with the parameters that each takes."""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from loadtest.reference_api import WorkflowFailedError, cancelled
from loadtest.reference_api.http.messages import explain
from loadtest.reference_api.workflows.execution import ParametersError

Millis = Annotated[float, msgspec.Meta(ge=0, le=600_000)]
PositiveMillis = Annotated[float, msgspec.Meta(gt=0, le=600_000)]


class HelloParameters(msgspec.Struct):
    """``say-hello(name = "World")``."""

    name: str = "World"


class FailParameters(msgspec.Struct):
    """``fail(message)``."""

    message: str = "This workflow always fails"


class CpuParameters(msgspec.Struct):
    """``cpu(ms = 10)``."""

    ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 10.0


class _SleepParameters(msgspec.Struct, tag_field="distribution"):
    """A time to sleep, drawn from a distribution; draws above ``max_ms`` are cut to it."""

    def draw(self) -> float:
        """One draw in ms."""
        raise NotImplementedError


class Constant(_SleepParameters, tag="constant"):
    """``sleep(distribution = "constant", ms = 100)``."""

    ms: Millis = 100.0

    def draw(self) -> float:
        return self.ms


class Uniform(_SleepParameters, tag="uniform"):
    """``sleep(distribution = "uniform", min_ms = 0, max_ms = 200)``."""

    min_ms: Millis = 0.0
    max_ms: Millis = 200.0

    def draw(self) -> float:
        return random.uniform(self.min_ms, self.max_ms)  # noqa: S311 -- a duration, not a secret


class Exponential(_SleepParameters, tag="exponential"):
    """``sleep(distribution = "exponential", mean_ms = 100, max_ms = 60000)``."""

    mean_ms: PositiveMillis = 100.0
    max_ms: Millis = 60_000.0

    def draw(self) -> float:
        return min(random.expovariate(1 / self.mean_ms), self.max_ms)


class Lognormal(_SleepParameters, tag="lognormal"):
    """``sleep(distribution = "lognormal", median_ms = 100, sigma = 0.5, max_ms = 60000)``, the shape of most services.

    ``sigma`` is the standard deviation of the logarithm.
    """

    median_ms: PositiveMillis = 100.0
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5
    max_ms: Millis = 60_000.0

    def draw(self) -> float:
        return min(random.lognormvariate(math.log(self.median_ms), self.sigma), self.max_ms)


async def say_hello(parameters: HelloParameters) -> dict[str, str]:
    """Give ``{"greeting": "Hello, NAME!"}``."""
    return {"greeting": f"Hello, {parameters.name}!"}


async def echo(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give back the parameters, whatever they are."""
    return parameters


async def fail(parameters: FailParameters) -> dict[str, Any]:
    """Fail, with that message."""
    raise WorkflowFailedError(parameters.message)


async def sleep(parameters: _SleepParameters) -> dict[str, float]:
    """Sleep for one draw; gives ``{"sleptMs": slept}``, never less than was drawn."""
    start = time.perf_counter()
    end = start + parameters.draw() / 1000
    # The event loop's timers tick in whole ms and may fire early: sleep on until the drawn time has really passed.
    while (left := end - time.perf_counter()) > 0:  # noqa: ASYNC110 -- it waits for time, not for an event
        await asyncio.sleep(max(left, 0.001))
    return {"sleptMs": round((time.perf_counter() - start) * 1000, 3)}


def cpu(parameters: CpuParameters) -> dict[str, float]:
    """Spend that much CPU time in a thread; gives ``{"cpuMs": spent}``."""
    # hashlib lets go of the interpreter lock on blocks this large, so that a burning thread doesn't stall the server.
    block = bytes(64 * 1024)
    start = time.thread_time()
    while (spent := time.thread_time() - start) < parameters.ms / 1000 and not cancelled():
        hashlib.sha256(block).digest()
    return {"cpuMs": round(spent * 1000, 3)}


class BuiltIn(NamedTuple):
    """A built-in workflow: its function, and the type of its one argument."""

    function: Callable[[Any], Any]
    parameters: Any
    defaults: dict[str, Any]

    def read(self, given: dict[str, Any], *, ignore_unknown: bool) -> Any:
        """Convert a request's parameters to the function's argument.

        Raises:
            ParametersError: if they don't fit, naming the first field that doesn't.
        """
        try:
            argument = msgspec.convert({**self.defaults, **given} if self.defaults else given, self.parameters)
        except msgspec.ValidationError as error:
            raise ParametersError(explain(error, "parameters")) from None
        if isinstance(argument, msgspec.Struct) and not ignore_unknown:
            for name in given:
                if name not in argument.__struct_fields__ and name not in self.defaults:
                    problem = f"Object contains unknown field `{name}`"
                    raise ParametersError({"field": f"parameters.{name}", "problem": problem})
        return argument


BUILT_IN: Final = {
    "say-hello": BuiltIn(say_hello, HelloParameters, {}),
    "echo": BuiltIn(echo, dict[str, Any], {}),
    "fail": BuiltIn(fail, FailParameters, {}),
    "sleep": BuiltIn(sleep, Constant | Uniform | Exponential | Lognormal, {"distribution": "constant"}),
    "cpu": BuiltIn(cpu, CpuParameters, {}),
}
"""Every built-in workflow, by name."""
