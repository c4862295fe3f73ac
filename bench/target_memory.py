"""Growth of the reference API's memory with the number of requests, in a mixture of all kinds.

Jobs are kept for a second only, so that only leaks remain. The first tenth of the requests is a warm-up for buffers,
threads and the allocator. The command fails if memory then grows by more than two bytes per request. A small object
that leaks in every request of one kind would take as much. Run: ``python bench/target_memory.py``.

Short form: a minute instead of two.
"""

import sys
import time
from pathlib import Path
from typing import Final

from exchanging import NO_LIMITS, SERVE, Server, cores, exchange, get, pin, post, started
from forms import Options, judged

CONNECTIONS: Final = 16
BAR: Final = 2.0
"""Bytes per request."""
PLAIN: Final = str(Path(__file__).parent / "peers" / "plain.py")
RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
MIX: Final = (
    (get(f"{JOBS}/0123456789ab"), 30, b"404"),
    (post(RUN, b'{"name":"say-hello"}'), 10, b"200"),
    (post(RUN, b'{"name":"plain"}'), 4, b"200"),
    (post(JOBS, b'{"name":"say-hello"}'), 10, b"202"),
    (post(RUN, b'{"name":"nobody"}'), 2, b"404"),
    (get("/metrics"), 1, b"200"),
)
"""Each request, its number in a turn on each connection, and the status of its answer."""


def load(server: Server, seconds: float) -> int:
    """Send requests for this time, and return the number of answers."""
    connections = [server.connect() for _ in range(CONNECTIONS)]
    answered = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for request, turns, status in MIX:
                exchange(connections, request, turns, status, lambda: None)
                answered += turns * CONNECTIONS
    finally:
        for connection in connections:
            connection.close()
    time.sleep(2.5)  # until the last jobs have expired
    return answered


def main() -> int:
    """Load the server, and print its memory before and after. Return 1 if it grows with the requests."""
    parser = Options(__doc__)
    parser.add_size("--seconds", 60.0, 120.0, "duration of the load")
    seconds = parser.begin().seconds
    pin(0, cores()[1])
    with started(*SERVE, *NO_LIMITS, "--retention", "1", "--workflows", PLAIN) as server:
        load(server, seconds / 10)
        before, answered = server.resident(), 0
        for tenth in range(1, 10):
            answered += load(server, seconds / 10)
            print(f"{answered:10} requests{server.resident() / 1e6:9.1f} MB after {tenth + 1} of 10 parts", flush=True)
        grown = server.resident() - before
    text = f"{before / 1e6:.1f} MB before, {grown / 1e6:+.2f} MB after: {grown / answered:+.2f} bytes per request"
    return not judged(text, f"at most {BAR:g}", ok=grown / answered <= BAR)


if __name__ == "__main__":
    sys.exit(main())
