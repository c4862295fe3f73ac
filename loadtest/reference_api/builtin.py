"""The workflows that every reference server has."""

import hashlib
import time
from typing import Annotated, Any

import msgspec

from loadtest.reference_api.authoring import WorkflowFailedError, cancelled, workflow
from loadtest.reference_api.sleeping import Sleep, take_a_nap


@workflow
async def say_hello(name: str = "World") -> dict[str, str]:
    """``say-hello(name = "World")`` -> ``{"greeting": "Hello, NAME!"}``."""
    return {"greeting": f"Hello, {name}!"}


@workflow
async def echo(**parameters: Any) -> dict[str, Any]:
    """``echo(...)`` gives back whatever it is given."""
    return parameters


@workflow
async def fail(message: str = "This workflow always fails") -> dict[str, Any]:
    """``fail(message)`` always fails, with that message."""
    raise WorkflowFailedError(message)


@workflow(parameters=Sleep, defaults={"distribution": "constant"})
async def sleep(draw: Sleep) -> dict[str, float]:
    """``sleep(distribution = "constant", ms = 100)`` -> ``{"sleptMs": slept}``; others are in ``sleeping.py``."""
    return {"sleptMs": await take_a_nap(draw)}


@workflow
def cpu(ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 10.0) -> dict[str, float]:
    """``cpu(ms = 10)`` spends that much CPU time in a thread -> ``{"cpuMs": spent}``."""
    # hashlib lets go of the interpreter lock on blocks this large, so that a burning thread doesn't stall the server.
    block = bytes(64 * 1024)
    start = time.thread_time()
    while (spent := time.thread_time() - start) < ms / 1000 and not cancelled():
        hashlib.sha256(block).digest()
    return {"cpuMs": round(spent * 1000, 3)}
