"""Limiters of Python packages behind an HTTP server: ``python limiting.py PORT COUNT WINDOW_S`` prints the names.

The base URL of a limiter is ``http://127.0.0.1:PORT/NAME``. Needs the packages limits, slowapi, throttled-py, fastapi
and uvicorn.
"""

import sys
from collections.abc import Callable
from datetime import timedelta

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from throttled import RateLimiterType, Throttled, rate_limiter
from throttled.store import MemoryStore

PORT, COUNT, WINDOW_S = map(int, sys.argv[1:])
ITEM = RateLimitItemPerSecond(COUNT, WINDOW_S)
UNKNOWN = JSONResponse({"error": "There is no such job", "code": "unknown_job", "details": {}}, 404)
REJECTED = JSONResponse({"error": "Too many", "code": "rate_limited", "details": {}}, 429)


def throttled(kind: RateLimiterType) -> Callable[[], bool]:
    """A limiter of throttled-py; returns whether it accepts a request."""
    quota = rate_limiter.per_duration(timedelta(seconds=WINDOW_S), limit=COUNT, burst=COUNT)
    limiter = Throttled(key="all", using=kind.value, quota=quota, store=MemoryStore())
    return lambda: not limiter.limit().limited


def strategy(kind: type) -> Callable[[], bool]:
    """A strategy of limits."""
    limiter = kind(MemoryStorage())
    return lambda: limiter.hit(ITEM)


LIMITERS = {
    "limits-fixed": strategy(FixedWindowRateLimiter),
    "limits-moving": strategy(MovingWindowRateLimiter),
    "limits-counter": strategy(SlidingWindowCounterRateLimiter),
    **{f"throttled-{kind.value.replace('_', '-')}": throttled(kind) for kind in RateLimiterType},
}
app, slow = FastAPI(), Limiter(key_func=lambda request: request.headers.get("x-api-key", ""))
app.state.limiter = slow
app.add_exception_handler(RateLimitExceeded, lambda *_: REJECTED)


@app.get("/slowapi/v1/workflows/jobs/{job}")
@slow.limit(f"{COUNT}/{WINDOW_S} seconds")
async def with_slowapi(request: Request, job: str) -> JSONResponse:  # noqa: ARG001 - the route's names
    """A route that slowapi limits."""
    return UNKNOWN


@app.get("/{name}/v1/workflows/jobs/{job}")
async def with_others(name: str, job: str) -> JSONResponse:  # noqa: ARG001 - likewise
    """A route that another limiter limits."""
    return UNKNOWN if LIMITERS[name]() else REJECTED


print(*LIMITERS, "slowapi", flush=True)
uvicorn.run(app, port=PORT, log_level="critical")
