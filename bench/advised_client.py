"""The client that ``loadtest advise --client`` writes, beside backoff with full jitter, in real time over HTTP.

Ten clients of each kind share a limit of 50 submits and 50 retrievals per 10 s, and do not know of each other. Each has
its own connections and 25 jobs. Each kind of clients has its own reference API. A backoff client has ten jobs
in flight, and waits U · min(60 s, 1 s · 2ⁿ). The virtual times are those of the same policies in the simulation.
The command fails unless the client gets at least 90 % fewer 429s than backoff in at most 1.5 times its time.
Without ``--full`` only the first two limiters are measured. Run: ``python bench/advised_client.py [--full] [SEED]``.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
import types
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import httpx
import numpy as np
from exchanging import SERVE, started

from loadtest.advice.compare import paced
from loadtest.advice.policies import Policy, every_second, full_jitter
from loadtest.advice.simulator import Simulation
from loadtest.advice.take_home import client_text
from loadtest.advice.work import Candidate, Limits, Work
from loadtest.contract import LimitName, Operation
from loadtest.limits import LimiterSpec
from loadtest.units import Limit

LIMIT: Final = Limit(50, 10.0)
CLIENTS, JOBS, IN_FLIGHT = 10, 250, 10
LIMITERS: Final = (
    ("fixed-window", False),
    ("token-bucket", True),
    ("fixed-window-from-first", True),
    ("sliding-log", False),
    ("sliding-counter", False),
    ("gcra", True),
    ("gcra", False),
    ("leaky-queue", False),
)
"""Each algorithm, and whether its 429s have Retry-After. The burst of a GCRA is the number of clients."""
HEADERS: Final = {"x-api-key": "local-dev-key", "x-wf-endpoint": "bench"}
BACKOFF: Final = Policy("backoff", "", full_jitter, every_second, in_flight=IN_FLIGHT)
Job = Callable[[httpx.AsyncClient, float], Awaitable[Any]]


class Counted(httpx.AsyncHTTPTransport):
    """Real HTTP that counts 429s."""

    rejected = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.rejected += response.status_code == 429
        return response


async def patient(client: httpx.AsyncClient, method: str, url: str, **content: Any) -> Any:
    """Send a request until it is accepted."""
    attempt = 0
    while (response := await client.request(method, url, **content)).status_code == 429:
        attempt += 1
        await asyncio.sleep(full_jitter(attempt, 0.0, random.random(), None) or 0.0)
    return response.raise_for_status().json()


async def backoff_job(client: httpx.AsyncClient, ms: float) -> None:
    """Submit a job, and poll it each second."""
    job = await patient(client, "POST", "/v1/workflows/jobs", json={"name": "sleep", "parameters": {"ms": ms}})
    while job["status"] == "pending":
        await asyncio.sleep(1.0)
        job = await patient(client, "GET", f"/v1/workflows/jobs/{job['jobId']}")


async def finished(
    port: int, work: Work, wrap: Callable[[Counted], Any], job: Job, in_flight: int
) -> tuple[float, int]:
    """Do the work. Return the time of the last result in s, and the number of 429s."""
    begun, counted = time.monotonic(), [Counted() for _ in range(work.clients)]
    async with contextlib.AsyncExitStack() as stack:

        async def one(transport: Counted, times: list[float]) -> None:
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", transport=wrap(transport), headers=HEADERS, timeout=60
                )
            )
            slots = asyncio.Semaphore(in_flight)

            async def limited(seconds: float) -> None:
                async with slots:
                    await job(client, round(seconds * 1000))

            await asyncio.gather(*map(limited, times))

        executions = work.executions
        await asyncio.gather(*(one(each, executions[k :: work.clients]) for k, each in enumerate(counted)))
    return time.monotonic() - begun, sum(each.rejected for each in counted)


def written(work: Work, limits: Limits, policy: Policy) -> Any:
    """Return the module that a user copies. Its clients do not know of each other."""
    execution_s = tuple(np.percentile(work.execution_s, [50, 95, 100]).tolist())
    found: Any = SimpleNamespace(clients=1, source="a bench", poll_times_s=policy.poll_times, execution_s=execution_s)
    module: Any = types.ModuleType("client")
    exec(
        client_text(found, replace(limits, candidates=dict.fromkeys(LimitName, limits.candidates[work.submit]))),
        vars(module),
    )
    return module


def measure(algorithm: str, seed: int, *, stated: bool) -> str:
    """Return a limiter's row of the table. It ends with "met" or "missed"."""
    draw = np.random.default_rng([seed, len(algorithm)])
    work = Work(Operation.ASYNC_RUN, JOBS, clients=CLIENTS, execution_s=np.sort(draw.lognormal(0.0, 0.4, 400)))
    spec = LimiterSpec(algorithm, CLIENTS if algorithm == "gcra" else None)
    limits = Limits(dict.fromkeys(work.names, (Candidate(spec, LIMIT),)), retry_after=stated)
    policy = paced(work, limits, told=False)
    module = written(work, limits, policy)
    options = ["--algorithm", algorithm, "--retry-after", "seconds" if stated else "none", "--workers", "1000"]
    options += [word for name in work.names for word in ("--limit", f"{name}={LIMIT.count}/{LIMIT.window:g}s")]
    options += ["--burst", str(CLIENTS)] if algorithm == "gcra" else []

    async def ours(client: httpx.AsyncClient, ms: float) -> None:
        await module.run_job_async(client, "sleep", {"ms": ms})

    async def both(first: int, second: int) -> list[tuple[float, int]]:
        return await asyncio.gather(
            finished(first, work, module.AsyncPaced, ours, JOBS),
            finished(second, work, lambda transport: transport, backoff_job, IN_FLIGHT),
        )

    with started(*SERVE, *options) as first, started(*SERVE, *options) as second:
        (seconds, rejected), (usual_s, usual) = asyncio.run(both(first.port, second.port))
    virtual = [Simulation(work, limits, limits.worlds[0], each, seed).run() for each in (policy, BACKOFF)]
    met = rejected <= 0.1 * usual and seconds <= 1.5 * usual_s
    return (
        f"{algorithm}, {'with' if stated else 'no'} Retry-After | {usual_s:.0f}, {usual} | {seconds:.0f}, {rejected} | "
        f"{1 - rejected / max(1, usual):.1%}, {seconds / usual_s:.2f} | {virtual[1].seconds:.0f}, "
        f"{virtual[1].rejections}; {virtual[0].seconds:.0f}, {virtual[0].rejections} | {'met' if met else 'missed'}"
    )


def main() -> None:
    """Measure four limiters at a time, and print. Exit with 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all limiters")
    parser.add_argument("seed", type=int, nargs="?", default=int(time.time()))
    arguments = parser.parse_args()
    chosen = LIMITERS if arguments.full else LIMITERS[:2]
    print(f"seed {arguments.seed}, {len(chosen)} of {len(LIMITERS)} limiters\n")
    print("limiter | backoff s, 429s | client s, 429s | fewer, × | virtual: backoff; client | bar")
    held = True
    with ProcessPoolExecutor(4) as pool:
        for found in [pool.submit(partial(measure, name, arguments.seed, stated=stated)) for name, stated in chosen]:
            print(found.result(), flush=True)
            held = held and found.result().endswith("met")
    sys.exit(not held)


if __name__ == "__main__":
    main()
