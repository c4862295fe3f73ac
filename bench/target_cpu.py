"""CPU time per request of the reference API, beside a bare uvicorn "hello".

The servers run on one core and the client on another. All use the same kind of connections (keep-alive, with one
request in flight on each). Rounds take turns, so that a change of the machine's speed affects all. A ratio is a case's
CPU time ÷ that of the hello in the same round. The median over the rounds is shown. Rows without a bar are for
information. Exits with 1 if a bar is missed. Run: ``python bench/target_cpu.py``.

Short form: fewer requests.
"""

import json
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchanging import NO_LIMITS, SERVE, UNLIMITED, Server, ask, cores, exchange, get, pin, post, started
from forms import Options

CONNECTIONS: Final = 8
PEERS: Final = Path(__file__).parent / "peers"
BARE: Final = str(PEERS / "hello.py")
RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
HELLO: Final = b'{"name":"say-hello","parameters":{"name":"World"}}'
THREADED: Final = b'{"name":"plain","parameters":{"name":"World"}}'
WAITING: Final = b'{"name":"sleep","parameters":{"ms":1}}'
SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """One row of the table. It has a request, its server, and the bar as a multiple of the hello's time."""

    name: str
    server: Server
    request: bytes
    bar: float | None = None
    status: bytes = b"200"
    share: float = 1.0
    scraped: bool = False


def body_of(answer: bytes) -> dict[str, str]:
    """Return the JSON of an answer."""
    body: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return body


def job(server: Server) -> str:
    """Submit a job that says hello, and return the path of its retrieval."""
    with server.connect() as connection:
        return f"{JOBS}/{body_of(ask(connection, post(JOBS, HELLO)))['jobId']}"


def scraper(connection: socket.socket | None) -> Callable[[], None]:
    """Return a function that requests ``/metrics`` once a second on ``connection``, if there is one."""
    last = 0.0

    def scrape() -> None:
        nonlocal last
        if connection is not None and time.monotonic() - last >= 1:
            last = time.monotonic()
            ask(connection, SCRAPE)

    return scrape


def measure(case: Case, count: int) -> float:
    """Return the CPU time per request in µs, over about ``count`` requests."""
    rounds = max(1, int(count * case.share) // CONNECTIONS)
    connections = [case.server.connect() for _ in range(CONNECTIONS + case.scraped)]
    scrape = scraper(connections.pop() if case.scraped else None)
    try:
        exchange(connections, case.request, 25, case.status, lambda: None)  # warm up
        before = case.server.cpu_ns()
        exchange(connections, case.request, rounds, case.status, scrape)
        time.sleep(0.05)  # the last jobs are executed, because execution is part of a submit's cost
        used = case.server.cpu_ns() - before
    finally:
        for connection in connections:
            connection.close()
    return used / (rounds * CONNECTIONS) / 1000


@contextmanager
def cases() -> Iterator[list[Case]]:
    """Start every server, and yield every case. The hello comes first."""
    with ExitStack() as stack:

        def serving(*options: str) -> Server:
            return stack.enter_context(started(*SERVE, *options))

        hello, reading = (stack.enter_context(started(BARE, *mode)) for mode in ((), ("reading",)))
        api = serving(*NO_LIMITS, "--workflows", str(PEERS / "plain.py"))
        submits = ("--retention", "2", "--queue", "100000")
        headed = serving(*NO_LIMITS, "--rate-headers", "ietf", "--retry-after", "seconds")
        refusing = serving(*UNLIMITED, "--limit", "retrieval=1/168h")
        found, refused = get(job(api)), get(job(refusing))
        with refusing.connect() as connection:
            ask(connection, refused)  # the only one within the limit
        yield [
            Case("bare hello", hello, get("/")),
            Case("bare hello that reads a body", reading, post(RUN, HELLO)),
            Case("retrieval", api, found, 1.5),
            Case("submit, and its job", serving(*NO_LIMITS, *submits), post(JOBS, HELLO), 1.8, b"202"),
            Case("sync run, async function", api, post(RUN, HELLO), 2.0),
            Case("sync run, plain function in a thread", api, post(RUN, THREADED), 3.0),
            Case("sync run that waits 1 ms", api, post(RUN, WAITING), share=0.2),
            Case("retrieval beyond its limit (429)", refusing, refused, status=b"429"),
            Case("retrieval, IETF rate headers", headed, get(job(headed))),
            Case("retrieval, metrics scraped every second", api, found, scraped=True),
        ]


def line(name: str, values: list[float], ratio: float, bar: float | None) -> str:
    """Format a row of the table."""
    verdict = "" if bar is None else f"{bar:8.2f}  {'held' if ratio <= bar else 'MISSED'}"
    return f"{name:42}{statistics.median(values):8.1f}{min(values):8.1f}{max(values):8.1f}{ratio:8.2f}{verdict}"


def main() -> int:
    """Measure each case in turn, and print the table. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--requests", 8_000, 16_000, "requests of each case in each round")
    parser.add_size("--rounds", 5, 5, "rounds")
    arguments = parser.begin()
    pin(0, cores()[1])
    with cases() as rows:
        figures: list[list[float]] = [[] for _ in rows]
        for _ in range(arguments.rounds):
            for case, values in zip(rows, figures, strict=True):
                values.append(measure(case, arguments.requests))
    held = True
    print(f"{'CPU µs per request':42}{'median':>8}{'least':>8}{'most':>8}{'ratio':>8}{'bar':>8}")
    for case, values in zip(rows, figures, strict=True):
        ratio = statistics.median(own / bare for own, bare in zip(values, figures[0], strict=True))
        print(line(case.name, values, ratio, case.bar))
        held = held and (case.bar is None or ratio <= case.bar)
    return not held


if __name__ == "__main__":
    sys.exit(main())
