"""A client that keeps within the rate limits and polls jobs when they have probably ended; copy it into your project.

The numbers come from the documentation.
Give ``Paced`` or ``AsyncPaced`` to httpx as the transport, and ``max_retries=0`` to an SDK above it. The environment
variables WORKFLOW_API_KEY and WORKFLOW_ENDPOINT set the key and endpoint. If N processes share a key, write this file
again with ``loadtest advise --clients N --client client.py``. Then set WORKFLOW_CLIENT to 0, 1, … N − 1, so that the
processes take turns.
"""

import asyncio
import os
import random
import threading
import time
from collections import deque
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakKeyDictionary

try:
    import httpx
except ImportError:
    import httpx2 as httpx  # type: ignore[import-not-found,no-redef]

# Limit: (COUNT, SECONDS, BURST, SPACING): COUNT requests in SECONDS; BURST at once, then one each SPACING seconds.
LIMITS: dict[str, tuple[int, float, int, float]] = {
    "sync_run": (99, 60.0, 1, 0.606),
    "async_submit": (999, 60.0, 1, 0.061),
    "retrieval": (499, 60.0, 1, 0.121),
}
SHARED = False  # whether one limit counts all requests
JITTER = 0.05  # seconds by which the time to the server varies
POLLS: tuple[float, ...] = (1.0, 2.0, 5.0)  # seconds after acceptance at which a job is polled
CLIENTS = 1  # processes that share the limits
UNFINISHED = 500  # maximum number of jobs in progress
MOST_OPEN = 32  # maximum number of unanswered requests; a sync run, which may take long, counts for 1 s
JOBS, ENDED = "/v1/workflows/jobs", ("completed", "failed")
_TURN = float(os.environ.get("WORKFLOW_CLIENT", random.random() * CLIENTS)) / CLIENTS  # noqa: S311
_unfinished: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class LimitPace:
    """Decides when requests to one limit start. A 429 slows them to the rate accepted in the last SECONDS, or below."""

    def __init__(
        self, lock: Any, count: int, seconds: float, burst: int, spacing: float, *, silent: float = 1.0
    ) -> None:
        self.lock, self.count, self.seconds, self.burst, self.spacing = lock, count, seconds + JITTER, burst, spacing
        self.silent = silent
        self.open: deque[float] = deque()  # start of each request without an answer
        self.accepted: deque[float] = deque(maxlen=count)  # latest possible time of each acceptance
        self.now = self.last = self.due = self.late = self.pause = 0.0
        self.slow = self.slowed = self.changed = self.backoff = 0.0
        self.credit, self.first = 1.0, False  # unanswered requests allowed: 1, and 1/16 more for each accepted request

    def wait(self) -> float:
        """Return 0 if the request starts now, else the seconds until the caller asks again."""
        now = self.now = max(self.now, time.monotonic())  # time never goes back
        while self.accepted and self.accepted[0] <= now - self.seconds:
            self.accepted.popleft()
        if (fresh := sum(now - start < self.silent for start in self.open)) + 1 > self.credit:
            return 0.002
        # A burst may reach the server late, so it counts from the latest possible times of its acceptance.
        due = max(self.due, max(self.late, now) + fresh * self.spacing) if self.burst > 1 else self.due
        ready = max(self.pause, due - (self.burst - 1) * self.spacing, self.last + self.slow)
        if sum(now - start < self.seconds for start in self.open) + len(self.accepted) >= self.count:
            ready = max(ready, self.accepted[0] + self.seconds if self.accepted else now + 0.002)
        if CLIENTS > 1:
            late = ((time.time() + max(0.0, ready - now)) / self.spacing - _TURN) % 1 * self.spacing
            ready = max(now, ready) + (self.spacing - late if late > JITTER / 2 else 0.0)  # this client's next turn
        if ready > now:
            return ready - now
        self.last = now
        self.open.append(now)
        self.due = max(now, self.due) + self.spacing / min(CLIENTS, 2)
        if self.slowed and now > self.changed:  # recover, ever faster, but send no more bursts
            growth = 4.0 if self.first else 0.1 * 2 ** min(5.0, (now - self.slowed) / self.seconds)
            self.slow /= 1 + growth * (now - self.changed) / self.seconds
            self.slow, self.changed = max(self.slow, self.seconds / self.count), now
        return 0.0

    def answered(self, start: float, response: httpx.Response | None) -> bool:
        """Note the answer to the request that began at ``start``; True if it was a 429."""
        now = self.now = max(self.now, time.monotonic())
        self.open.remove(start)
        if response is None or response.status_code != 429:
            self.accepted.append(min(now, start + 1))
            self.late = max(self.late, self.accepted[-1]) + self.spacing
            self.credit, self.backoff = min(MOST_OPEN, self.credit + 1 / 16), 0.0
            return False
        if now > self.slowed + self.seconds / 4:
            self.slow = max(self.slow / 0.75, self.seconds / max(0.5, len(self.accepted)))
            self.first, self.slowed, self.changed = not self.slowed, now, now + self.seconds / 4
        self.credit, self.backoff = 1.0, min(self.seconds / 2, max(self.slow, 2 * self.backoff))
        self.pause = max(self.pause, now + retry_after(response, self.backoff) + random.random() * self.slow)  # noqa: S311
        return True


def retry_after(response: httpx.Response, otherwise: float) -> float:
    """Return the seconds that a response asks to wait, else ``otherwise``; a date counts from the response's date."""
    text = response.headers.get("retry-after", "")
    try:
        until, since = (parsedate_to_datetime(each) for each in (text, response.headers["date"]))
        return max(0.0, (until - since).total_seconds())
    except (KeyError, TypeError, ValueError):  # not a date
        return float(text) if text.isdecimal() else otherwise


def _paces(lock: Any) -> dict[str, LimitPace]:
    paces = {name: LimitPace(lock(), *each, silent=1.0 if name == "sync_run" else 1e9) for name, each in LIMITS.items()}
    return dict.fromkeys(LIMITS, next(iter(paces.values()))) if SHARED else paces


def _pace(paces: dict[str, LimitPace], request: httpx.Request) -> LimitPace | None:
    for header, variable in (("x-api-key", "WORKFLOW_API_KEY"), ("x-wf-endpoint", "WORKFLOW_ENDPOINT")):
        if header not in request.headers and variable in os.environ:
            request.headers[header] = os.environ[variable]
    parts = request.url.path.strip("/").split("/")
    if request.method == "POST":
        return paces.get({"run": "sync_run", "jobs": "async_submit"}.get(parts[-1], ""))
    return paces.get("retrieval") if parts[-2:-1] == ["jobs"] else None


class Paced(httpx.BaseTransport):
    """A transport for ``httpx.Client``. A request that timed out is never repeated, because a POST may have worked."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self.transport, self.paces = transport or httpx.HTTPTransport(), _paces(threading.Lock)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        while (pace := _pace(self.paces, request)) is not None:
            with pace.lock:  # one thread waits for its turn; the others wait for the lock
                while wait := pace.wait():
                    time.sleep(wait)
                start, response = pace.last, None
            try:
                response = self.transport.handle_request(request)
            finally:
                rejected = pace.answered(start, response)
            if not rejected:
                return response
            response.close()
        return self.transport.handle_request(request)

    def close(self) -> None:
        self.transport.close()


class AsyncPaced(httpx.AsyncBaseTransport):
    """A transport like ``Paced``, for ``httpx.AsyncClient``; tasks that share it share the pace."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.transport, self.paces = transport or httpx.AsyncHTTPTransport(), _paces(asyncio.Lock)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        while (pace := _pace(self.paces, request)) is not None:
            async with pace.lock:
                while wait := pace.wait():  # noqa: ASYNC110
                    await asyncio.sleep(wait)
                start, response = pace.last, None
            try:
                response = await self.transport.handle_async_request(request)
            finally:
                rejected = pace.answered(start, response)
            if not rejected:
                return response
            await response.aclose()
        return await self.transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self.transport.aclose()


def next_poll(accepted: float) -> float:
    """Return the seconds to the next poll of a job. After the last of POLLS, each gap is a quarter of the job's age."""
    since = time.monotonic() - accepted
    return next((due for due in POLLS if due > since), since * 1.25) - since


def run_job(client: httpx.Client, workflow: str, parameters: Any = None, jobs: str = JOBS) -> Any:
    """Submit a job, poll it until it ends, and return its last state."""
    with _unfinished.setdefault(client, threading.BoundedSemaphore(UNFINISHED)):
        job = client.post(jobs, json={"name": workflow, "parameters": parameters or {}}).raise_for_status().json()
        accepted, url = time.monotonic(), f"{jobs}/{job['jobId']}"
        while job["status"] not in ENDED:
            time.sleep(next_poll(accepted))
            job = client.get(url).raise_for_status().json()
    return job


async def run_job_async(client: httpx.AsyncClient, workflow: str, parameters: Any = None, jobs: str = JOBS) -> Any:
    """Submit a job, poll it until it ends, and return its last state; jobs of one client share its pace."""
    async with _unfinished.setdefault(client, asyncio.BoundedSemaphore(UNFINISHED)):
        answer = await client.post(jobs, json={"name": workflow, "parameters": parameters or {}})
        accepted, job = time.monotonic(), answer.raise_for_status().json()
        while job["status"] not in ENDED:
            await asyncio.sleep(next_poll(accepted))
            job = (await client.get(f"{jobs}/{job['jobId']}")).raise_for_status().json()
    return job
