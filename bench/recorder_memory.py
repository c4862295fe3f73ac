"""Memory growth of the load process with the number of samples that are recorded in one run.

The bench makes samples with the code of real operations. They pass the session with its recorder, live figures and
Locust's statistics. Nothing is sent, so that samples come faster than from any client, and they are written in batches
of the usual size. The command fails if resident memory ever grows by 30 MB or more. It also fails if memory grows by
three bytes a sample or more after the first tenth, so that a short form sees growth. A run remembers the ids of its
jobs, so its memory grows with submits. The bench also prints the memory of each job.
Run: ``python bench/recorder_memory.py`` (with --full it takes a few minutes, and 2 GB of disk).

Short form: two million samples instead of ten.
"""

import locust  # isort: skip  # noqa: F401 - first, since it patches the interpreter

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import gevent
import psutil
from forms import Options, judged
from locust.env import Environment

from loadtest.load.client import Answer
from loadtest.load.exchange import HttpConnection, HttpExchange
from loadtest.load.operation import RunningOperation
from loadtest.load.session import Session, make_endpoint
from loadtest.prepare import prepare_run
from loadtest.scenario import load_scenario
from loadtest.schedule import Arrival
from loadtest.targets import NamedEntry, allow

BAR_MB: Final = 30.0
BAR_BYTES: Final = 3.0
"""Bytes per sample. This is 30 MB in ten million samples."""
BATCH: Final = 500
"""The event loop runs after this many operations."""
BETWEEN_FLUSHES: Final = 10_000
"""Samples between two flushes. The fastest client makes about as many in half a second, the real interval."""
URL: Final = "http://127.0.0.1:9"
ENTRY: Final = """
[traffic.{name}]
operation = "{operation}"
workflow = "echo"
stages = [{{ name = "steady", rate = "1/s", duration = "600s" }}]
"""
SCENARIO: Final = 'title = "Many samples"\nseed = 1\n' + "".join(
    ENTRY.format(name=name, operation=operation) for name, operation in (("runs", "sync_run"), ("jobs", "async_run"))
)


def exchange(number: int) -> HttpExchange:
    """Return an answer that took about a millisecond."""
    start = time.monotonic_ns()
    took = 1_000_000 + number % 1_000_003
    return HttpExchange(
        start=start,
        first_byte=start + took,
        end=start + took,
        bytes_sent=300,
        bytes_received=250,
        status=200,
        body=b'{"result":{},"executionTime":1.5}',
    )


def run(session: Session, wire: HttpConnection, number: int) -> int:
    """Record a sync run, which has two samples."""
    entry = session.entries["runs"]
    operation = RunningOperation(
        session, entry, Arrival("runs", number, "steady", number * 1000), session.epoch_ns, wire
    )
    answer = Answer(exchange=exchange(number), outcome="ok", execution_time_ms=number % 977 / 8)
    operation.finish_as(operation.begin("run", lambda _: answer))
    return 2


def job(session: Session, wire: HttpConnection, number: int) -> int:
    """Record a job that its first poll finds completed. It has three samples."""
    entry, job_id = session.entries["jobs"], f"{number:032x}"
    operation = RunningOperation(
        session, entry, Arrival("jobs", number, "steady", number * 1000), session.epoch_ns, wire
    )
    accepted = Answer(exchange=exchange(number), outcome="ok", job_id=job_id, job_state="pending")
    operation.begin("submit", lambda _: accepted)
    session.recorder.job(job_id, 0)
    session.own_jobs.add(job_id, 0)
    done = Answer(
        exchange=exchange(number), outcome="ok", job_id=job_id, job_state="completed", execution_time_ms=number % 977
    )
    operation.finish_as(operation.request("poll", lambda _: done, intended_ns=done.exchange.start, poll=1))
    return 3


def feed(
    session: Session, samples: int, operate: Callable[[Session, HttpConnection, int], int], say: bool
) -> tuple[int, int, int]:
    """Record samples. Return the growth of memory in bytes after a tenth, at the end, and at its maximum."""
    wire, process = HttpConnection(session.endpoint.address), psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    early = highest = put = number = written = 0
    while put < samples:
        for _ in range(BATCH):
            put += operate(session, wire, number)
            number += 1
        if put - written >= BETWEEN_FLUSHES:
            session.recorder.flush()
            written = put
        gevent.sleep(0)
        grown = process.memory_info().rss - before
        highest = max(highest, grown)
        early = grown if put <= samples // 10 else early
        if say and put % (samples // 10) < BATCH * 2:
            print(f"{put:12,} samples{grown / 1e6:10.1f} MB", flush=True)
    session.recorder.flush()
    gevent.sleep(1.0)  # the recorder may still be writing a batch
    gc.collect()
    return early, process.memory_info().rss - before, highest


def make_session(folder: Path) -> Session:
    """Return the session of a run that has not begun, as its load process makes it."""
    path = folder / "many.toml"
    path.write_text(SCENARIO)
    loaded = load_scenario(path)
    directory, info = prepare_run(loaded, url=URL, chosen=NamedEntry(), keys=1, command=["bench"], output_dir=folder)
    environment = Environment(host=URL)
    environment.create_local_runner()
    endpoint = make_endpoint(info, ["local-dev-key"], "bench", allow(URL))
    session = Session(environment, directory, info, endpoint, base=folder)
    session.epoch_ns = time.monotonic_ns()
    return session


def main() -> int:
    """Record, print, and return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--samples", 2_000_000, 10_000_000, "samples")
    samples = parser.begin().samples
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(Path(folder))
        begun = time.monotonic()
        early, grown, highest = feed(session, samples, run, say=True)
        took = time.monotonic() - begun
        if session.recorder.failure is not None or session.recorder.count < samples:
            raise SystemExit(f"this measures the wrong thing: {session.recorder.failure}")
        counted = session.environment.stats.total.num_requests
        print(f"{session.recorder.count:,} samples in {took:.0f} s, {counted:,} requests in Locust's statistics")
        text = f"{grown / 1e6:+.1f} MB, {highest / 1e6:.1f} MB at most"
        held = judged(text, f"less than {BAR_MB:.0f} MB", ok=max(grown, highest) / 1e6 < BAR_MB)
        each = (grown - early) / (samples * 0.9)
        held &= judged(
            f"{each:.2f} bytes a sample after the first tenth", f"less than {BAR_BYTES:g}", ok=each < BAR_BYTES
        )
        jobs = samples // 30
        _, of_jobs, _ = feed(session, jobs * 3, job, say=False)
        print(f"and {of_jobs / jobs:.0f} bytes for each of {jobs:,} jobs")
        session.recorder.close()
    return not held


if __name__ == "__main__":
    sys.exit(main())
