"""Memory of a finished job that is kept for retrieval, as growth of the real server's resident memory.

Each job echoes about 90 bytes. Exits with 1 if a job takes more than 1,000 bytes. These include the job, its
id, its answer, its entries in the store, and the allocator's loss.

Short form: fewer jobs. Run: ``python bench/job_memory.py``.
"""

import asyncio
import json
import sys
import time
import tracemalloc
from typing import Final

from exchanging import NO_LIMITS, SERVE, Server, ask, cores, exchange, get, pin, post, started
from forms import Options, judged

BAR: Final = 1000.0
CONNECTIONS: Final = 32
JOBS: Final = "/v1/workflows/jobs"
TEXT: Final = "x" * 80
REQUEST: Final = post(JOBS, json.dumps({"name": "echo", "parameters": {"text": TEXT}}).encode())


def fill(server: Server, count: int) -> None:
    """Submit ``count`` jobs, and wait until the last one ends."""
    connections = [server.connect() for _ in range(CONNECTIONS)]
    exchange(connections, REQUEST, count // CONNECTIONS, b"202", lambda: None)
    job = json.loads(ask(connections[0], REQUEST).partition(b"\r\n\r\n")[2])["jobId"]
    while b'"pending"' in (answer := ask(connections[0], get(f"{JOBS}/{job}"))):
        time.sleep(0.01)
    if len(answer.partition(b'"result":')[2].partition(b',"executionTime"')[0]) > 100:
        raise SystemExit(f"this measures the wrong thing: {answer!r}")
    for connection in connections:
        connection.close()


def resident(count: int) -> float:
    """Return the growth of the server's resident memory in bytes per job, over ``count`` jobs."""
    with started(*SERVE, *NO_LIMITS, "--retention", "86400") as server:
        fill(server, 5_000)  # warm up: buffers, code, the allocator's first arenas
        before = server.resident()
        fill(server, count)
        return (server.resident() - before) / count


def traced(count: int) -> float:
    """Return the bytes per job that Python allocates for a store in this process."""
    from loadtest.reference_api.execution import Threads  # noqa: PLC0415
    from loadtest.reference_api.jobs import JobStore, State  # noqa: PLC0415
    from loadtest.reference_api.loading import load_workflows  # noqa: PLC0415
    from loadtest.reference_settings import ServerConfig  # noqa: PLC0415 -- the servers are measured without it here

    echo, owner = load_workflows(ServerConfig(), Threads(1))["echo"], object()

    async def run() -> float:
        store = JobStore(64, 10_000, 86400.0)

        async def fill(more: int) -> None:
            for _ in range(more):
                store.submit(owner, echo, echo.call({"text": TEXT + ""}))
                await asyncio.sleep(0)
            while store.counts[State.RUNNING]:  # noqa: ASYNC110 -- it waits for all of them
                await asyncio.sleep(0)

        await fill(1_000)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await fill(count)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        store.close()
        return (after - before) / count

    return asyncio.run(run())


def main() -> int:
    """Measure and print."""
    parser = Options(__doc__)
    parser.add_size("--jobs", 100_000, 200_000, "jobs")
    jobs = parser.begin().jobs
    pin(0, cores()[1])
    memory = resident(jobs)
    print(f"{traced(20_000):7.0f} bytes allocated by Python in memory, as tracemalloc counts them")
    text = f"{memory:.0f} bytes of resident memory per kept job, over {jobs:,} jobs"
    return not judged(text, f"less than {BAR:.0f}", ok=memory < BAR)


if __name__ == "__main__":
    sys.exit(main())
