"""CPU time of a submit and of a retrieval with 100 and with 9,000 jobs in flight.

Two servers take turns on one core. The ratio of their CPU times per request is the median over the rounds. Exits with 1
if a request takes over 25 % more CPU time with 9,000 jobs. Run: ``python bench/jobs_in_flight.py``.

Short form: fewer requests.
"""

import json
import statistics
import sys
from typing import Final

from exchanging import NO_LIMITS, SERVE, Server, ask, cores, exchange, get, pin, post, started
from forms import Options, judged

FEW, MANY = 100, 9_000
CONNECTIONS: Final = 8
ROUNDS: Final = 7
BAR: Final = 1.25
JOBS: Final = "/v1/workflows/jobs"
SLEEP: Final = post(JOBS, b'{"name":"sleep","parameters":{"ms":600000}}')
HELLO: Final = post(JOBS, b'{"name":"say-hello"}')


def put_in_flight(server: Server, count: int) -> bytes:
    """Submit jobs that sleep for ten minutes, each in a worker. Return a retrieval of the first job."""
    with server.connect() as connection:
        first = json.loads(ask(connection, SLEEP).partition(b"\r\n\r\n")[2])["jobId"]
        exchange([connection], SLEEP, count - 1, b"202", lambda: None)
    return get(f"{JOBS}/{first}")


def cost(server: Server, request: bytes, status: bytes, count: int) -> float:
    """Return the CPU time per request in µs."""
    connections = [server.connect() for _ in range(CONNECTIONS)]
    exchange(connections, request, 20, status, lambda: None)
    before = server.cpu_ns()
    exchange(connections, request, count // CONNECTIONS, status, lambda: None)
    used = server.cpu_ns() - before
    for connection in connections:
        connection.close()
    return used / (count // CONNECTIONS * CONNECTIONS) / 1000


def main() -> int:
    """Measure and print the table."""
    parser = Options(__doc__)
    parser.add_size("--requests", 4_000, 8_000, "requests in each round")
    requests = parser.begin().requests
    pin(0, cores()[1])
    bounds = ("--queue", "1000000", "--retention", "1")
    # There are workers for all of these jobs and for those that are submitted during the measurement.
    with (
        started(*SERVE, *NO_LIMITS, *bounds, "--workers", str(MANY + 1000)) as one,
        started(*SERVE, *NO_LIMITS, *bounds, "--workers", str(MANY + 1000)) as other,
    ):
        retrievals = [put_in_flight(one, FEW), put_in_flight(other, MANY)]
        kinds = {"submit": ((HELLO, HELLO), b"202"), "retrieval, pending": (retrievals, b"200")}
        held = True
        for name, (pair, status) in kinds.items():
            costs = [
                (cost(one, pair[0], status, requests), cost(other, pair[1], status, requests)) for _ in range(ROUNDS)
            ]
            ratio = statistics.median(many / few for few, many in costs)
            few, many = (statistics.median(each) for each in zip(*costs, strict=True))
            text = f"{name:20}{few:6.1f} µs with {FEW} in flight, {many:6.1f} µs with {MANY}: ratio {ratio:.2f}"
            held &= judged(text, f"at most {BAR:.2f}", ok=ratio <= BAR)
    return not held


if __name__ == "__main__":
    sys.exit(main())
