"""CPU time per request of workers and of their master, beside one process alone.

All send requests to a minimal server and take turns on the same two or more cores. Compare the CPU time per request,
not the throughput. The command fails unless the record has each arrival of the schedule exactly once, with any number
of workers. Then the bench measures a master alone. It adds packed batches, as workers send them, to a record as fast as
one core can. This is the maximum number of rows per second of one master.

Short form: one rate. Run: ``python bench/workers.py``.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from forms import Options, judged
from offering import cpu_s, known_job, noting, offered, operations, quantile, retrievals

from loadtest.load.distributed.assignment import Collector, Outbox
from loadtest.load.distributed.protocol import Batch
from loadtest.load.live import LiveFigures
from loadtest.load.recorder import Recorder
from loadtest.record import run_directory
from loadtest.record.samples import Sample
from loadtest.schedule import Arrival

EDGE = 1.0
"""Seconds at both ends of the load in which CPU time is not measured."""
BATCH, BATCHES = 1000, 400


def measure(rate: int, workers: int, seconds: float) -> tuple[str, bool]:
    """Return a line of the table, and whether the record is exact. Without workers, one process makes the load."""
    arguments = ["--processes", str(workers)] if workers else []
    with noting() as server, tempfile.TemporaryDirectory() as folder:
        text = known_job(retrievals(rate, seconds, 400), Path(folder))
        with offered(text, server.url, Path(folder), *arguments) as (load, directory):
            first = psutil.Process(load.pid)
            while (epoch := run_directory.load(directory).epoch_unix_ns) is None:
                time.sleep(0.01)
            time.sleep(max(0.0, epoch / 1e9 + EDGE - time.time()))
            others = first.children(recursive=True)
            before, begun = [cpu_s(each) for each in (first, *others)], time.time_ns() - epoch
            time.sleep(max(0.0, epoch / 1e9 + seconds - EDGE - time.time()))
            after, ended = [cpu_s(each) for each in (first, *others)], time.time_ns() - epoch
        rows = operations(directory)
    never = sum(row["start"] is None for row in rows)
    rows = [row for row in rows if row["start"] is not None]
    used = [(b - a) * 1e6 for a, b in zip(before, after, strict=True)]
    sent = sum(begun <= row["start"] < ended for row in rows)
    lags = [(row["start"] - row["intended_start"]) / 1e6 for row in rows]
    exact = [row["arrival"] for row in rows] == list(range(round(rate * seconds)))
    ours, master = (sum(used[1:]), used[0]) if workers else (used[0], 0.0)
    line = f"{rate:6}{workers or 'none':>9}{len(rows):9}{never:7}{'yes' if exact else 'NO':>7}"
    line += f"{ours / sent:10.0f}{master / sent:8.0f}{quantile(lags, 0.5):13.2f}{quantile(lags, 0.99):8.2f}"
    return line, exact


def pairs(first: int) -> list[Sample]:
    """Return samples of retrievals as a worker records them. Requests and their operations take turns."""
    common = {"traffic": "lookups", "operation": "retrieval", "stage": "steady", "status": 200, "key_index": 0}
    return [
        Sample(row=row, outcome="ok", arrival=k, intended_start=k, start=k, end=k, kind="retrieve", **common)  # type: ignore[arg-type]
        for k in range(first, first + BATCH // 2)
        for row in ("request", "operation")
    ]


def packed() -> list[Batch]:
    """Return batches as a worker sends them."""
    outbox, batches = Outbox(), []
    for number in range(BATCHES):
        outbox.write(pairs(number * BATCH // 2))
        batch = outbox.take()
        if batch is None:
            raise SystemExit("the outbox gives nothing away")
        outbox.acknowledged(batch.number)
        batches.append(batch)
    return batches


def take_in() -> str:
    """Describe a master's CPU time for a row of the record."""
    batches = packed()
    with tempfile.TemporaryDirectory() as folder:
        live = LiveFigures()

        def count(recorded: Iterator[Arrival | Sample]) -> None:
            for sample in recorded:
                if isinstance(sample, Sample):
                    live.count(sample)
            live.fold()

        recorder = Recorder(Path(folder), count)
        collector = Collector(recorder, lambda _worker, _jobs: None)
        begun = time.process_time()
        for batch in batches:
            collector.take("w", batch)
            recorder.flush()
        each = (time.process_time() - begun) / (BATCH * BATCHES)
        recorder.close()
        size = (Path(folder) / "samples.arrows").stat().st_size / (BATCH * BATCHES)
    sent = sum(len(packed) for batch in batches for packed in batch.samples) / (BATCH * BATCHES)
    return (
        f"a master takes in a row in {each * 1e6:.1f} µs of CPU: {1 / each:,.0f} rows/s fill one core. "
        f"A row is {sent:.0f} bytes on the way, and {size:.0f} in the record."
    )


def main() -> int:
    """Measure each rate with each number of workers, and print the table."""
    parser = Options(__doc__)
    parser.add_size("--rates", [2000], [500, 2000], "requests per second")
    parser.add_size("--workers", [0, 1, 2, 4], [0, 1, 2, 4], "numbers of workers")
    parser.add_size("--seconds", 5.0, 8.0, "duration of each load")
    arguments = parser.begin()
    print(f"{'CPU µs per request':>56}{'start lag ms':>21}")
    print(
        f"{'rate':>6}{'workers':>9}{'sent':>9}{'not':>7}{'exact':>7}{'workers':>10}{'master':>8}{'p50':>13}{'p99':>8}"
    )
    whole = True
    for rate in arguments.rates:
        for workers in arguments.workers:
            line, exact = measure(rate, workers, arguments.seconds)
            whole &= exact
            print(line, flush=True)
    print(take_in())
    return not judged("each arrival is in the record exactly once", "in each run", ok=whole)


if __name__ == "__main__":
    sys.exit(main())
