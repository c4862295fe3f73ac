"""CPU time of a request on the whole path, beside Locust's FastHttpUser at the same offered rates.

Both take turns and run the same workflow against one nginx. nginx has one core, and they have another. Ours is the load
process of ``loadtest run``: an open model that records each request and operation. Locust's is ``locust --headless``
with ``constant_throughput``, which keeps statistics. CPU time and the requests in nginx's log are counted between two
moments within the load. Each round gives a ratio of both sides. The median over the rounds is shown.

Then the bench searches for the highest rate at which a run by one process is valid. Exits with 1 if a bar is missed.
Run: ``python bench/whole_path.py``. ``--markdown`` prints the table of ``bench/README.md``.

Short form: shorter rounds, and for one process only the rate that has a bar.
"""

import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from exchanging import Server, cores, pin
from forms import SKIPPED, Options, judged
from offering import offered

from loadtest.analysis import load_record
from loadtest.analysis.findings import find
from loadtest.record import samples

PEER: Final = str(Path(__file__).parent / "peers" / "fasthttp.py")
PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
"""On Debian, nginx is in a folder that only root's PATH lists."""
BARS: Final = {500: 1.3, 2000: 0.8, 8000: 0.6}
"""Maximum CPU time per request ÷ that of FastHttpUser, by offered rate."""
MOST_LAG_MS: Final = 2.0
"""Maximum start lag p99 at the highest of these rates."""
LEAST_VALID: Final = 12_000
LADDER: Final = [6_000, 8_000, 10_000, 12_000, 14_000, 16_000]
TRIES: Final = 2
"""Each rate of the ladder is tried this many times, because other work of the machine may make a run invalid."""
SERVER_CORE, LOAD_CORE = cores()
PLAIN_USERS: Final = 50
TITLES: Final = (
    "offered/s", "ours, µs", "FastHttpUser, µs", "ratio", "start lag p50, p99 in ms", "FastHttpUser reached",
    "most in 10 ms, ÷ mean: ours", "FastHttpUser",
)  # fmt: skip
EDGE: Final = 1.0
"""Seconds at both ends of the load that are left out."""
NGINX: Final = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    log_format moment $msec;
    access_log {folder}/log moment;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/bodies;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location /v1/workflows/run {{ return 200 '{{"result":{{"greeting":"Hello, World!"}},"executionTime":1.5}}'; }}
    }}
}}
"""
SCENARIO: Final = """
title = "Even runs"
seed = 1
[traffic.runs]
operation = "sync_run"
workflow = "say-hello"
parameters = {{ name = "World" }}
timeout = "10s"
max_users = 1000
stages = [{{ name = "steady", rate = "{rate}/s", duration = "{seconds}s" }}]
"""


@dataclass(frozen=True)
class Figures:
    """One side's figures in one round."""

    cpu_us: float
    """CPU time per request."""
    rate: float
    """Requests per second that reached nginx."""
    most: float
    """Requests at nginx in the fullest 10 ms ÷ those of an even schedule."""
    lag_p50: float = float("nan")
    """Start lag in ms. This and the following values come from the record, so FastHttpUser has none."""
    lag_p99: float = float("nan")
    valid: bool = False


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Start an nginx that logs the times of requests, on its own core. Yields its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    command = [str(shutil.which("nginx", path=PATH)), "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with subprocess.Popen(command) as process:
        # This comes before nginx forks the worker that answers.
        pin(process.pid, SERVER_CORE)
        try:
            while not (folder / "pid").exists():
                time.sleep(0.01)
                if process.poll() is not None:
                    raise SystemExit("nginx did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def watched(load: "subprocess.Popen[bytes]", log: Path, seconds: float) -> Callable[[], Figures]:
    """Measure a process while it makes load. Return a function that returns the figures once the log is complete."""
    process = Server(load.pid, 0)
    while not log.stat().st_size and load.poll() is None:
        time.sleep(0.01)
    time.sleep(EDGE)
    if load.poll() is not None:
        raise SystemExit(f"the load ended with {load.returncode}: {load.args!r}")
    begun, before = time.time(), process.cpu_ns()
    time.sleep(seconds)
    ended, used = time.time(), process.cpu_ns() - before

    def figures() -> Figures:
        times = np.loadtxt(log)
        times = times[(times >= begun) & (times < ended)]
        in_bins = np.bincount(((times - begun) * 100).astype(int))
        return Figures(used / 1000 / len(times), len(times) / (ended - begun), in_bins.max() / in_bins.mean())

    return figures


def ours(url: str, folder: Path, rate: int, seconds: float) -> Figures:
    """Measure the load process of ``loadtest run``."""
    text = SCENARIO.format(rate=rate, seconds=seconds + 2 * EDGE)
    with offered(text, url, folder) as (load, directory):
        figures = watched(load, folder / "log", seconds)
    table = pa.Table.from_batches(list(samples.read_batches(directory))).to_pandas()
    rows = table[table["row"] == "operation"]
    if len(table) != 2 * rate * (seconds + 2 * EDGE) or not (rows["outcome"] == "ok").all():
        raise SystemExit(f"this measures the wrong thing: {rows['outcome'].value_counts()}")
    lags = (rows["start"] - rows["intended_start"]) / 1e6
    valid = find(load_record(directory)).verdict.word != "invalid"
    return replace(figures(), lag_p50=lags.quantile(0.5), lag_p99=lags.quantile(0.99), valid=valid)


def plain(url: str, folder: Path, rate: int, seconds: float) -> Figures:
    """Measure Locust with FastHttpUser."""
    command = [sys.executable, "-m", "locust", "-f", PEER, "--headless", "--only-summary", "--host", url]
    command += ["-u", str(PLAIN_USERS), "-r", str(PLAIN_USERS), "-t", f"{math.ceil(seconds + 2 * EDGE + 1)}s"]
    environment = {**os.environ, "BENCH_RATE": str(rate / PLAIN_USERS)}
    with (
        (folder / "locust.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as load,
    ):
        figures = watched(load, folder / "log", seconds)
    if load.returncode != 0:
        raise SystemExit((folder / "locust.log").read_text())
    return figures()


def measure(side: Callable[[str, Path, int, float], Figures], rate: int, seconds: float) -> Figures:
    """Measure one side with its own nginx."""
    with tempfile.TemporaryDirectory() as folder, nginx(Path(folder)) as url:
        return side(url, Path(folder), rate, seconds)


def middle(rounds: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(*(statistics.median(values) for values in zip(*map(astuple, rounds), strict=True)))


def compare(rate: int, rounds: int, seconds: float) -> tuple[tuple[str, ...], bool]:
    """Measure both in turns at one rate. Return the row of the table, and whether the bars of the rate hold."""
    found = [(measure(ours, rate, seconds), measure(plain, rate, seconds)) for _ in range(rounds)]
    own, theirs = (middle(list(side)) for side in zip(*found, strict=True))
    ratio = statistics.median(a.cpu_us / b.cpu_us for a, b in found)
    row = (
        f"{rate:,}", f"{own.cpu_us:.0f}", f"{theirs.cpu_us:.0f}", f"{ratio:.2f}",
        f"{own.lag_p50:.2f}, {own.lag_p99:.2f}", f"{theirs.rate:,.0f}", f"{own.most:.1f}", f"{theirs.most:.1f}",
    )  # fmt: skip
    print(*(f"{title} {value}" for title, value in zip(TITLES, row, strict=True)), sep=" · ", flush=True)
    held = True
    if rate in BARS:
        held &= judged(f"{ratio:.2f} × FastHttpUser's CPU", f"at most {BARS[rate]}", ok=ratio <= BARS[rate])
    if rate == max(BARS):
        lag = own.lag_p99
        held &= judged(f"start lag p99 {lag:.2f} ms", f"at most {MOST_LAG_MS:g}", ok=lag <= MOST_LAG_MS)
    return row, held


def highest_valid(ladder: list[int], seconds: float) -> int:
    """Return the highest valid rate of the ladder if all slower rates were also valid; 0 if there is none."""
    reached = 0
    for rate in ladder:
        for _ in range(TRIES):
            found = measure(ours, rate, seconds)
            word = "valid" if found.valid else "invalid"
            print(f"{rate:,}/s: {word}, {found.cpu_us:.0f} µs, start lag p99 {found.lag_p99:.2f} ms", flush=True)
            if found.valid:
                break
        else:
            return reached
        reached = rate
    return reached


def main() -> int:
    """Measure in turns, print, and return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--rounds", 3, 3, "rounds")
    parser.add_size("--seconds", 3.0, 6.0, "duration of a round")
    parser.add_size("--rates", list(BARS), list(BARS), "requests per second")
    parser.add_size("--ladder", [LEAST_VALID], LADDER, "rates of one process; none: leave them out")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    arguments = parser.begin()
    if shutil.which("nginx", path=PATH) is None or LOAD_CORE is None:
        print("skipped: two cores and nginx (Debian: nginx-light) are needed")
        return SKIPPED
    pin(0, LOAD_CORE)
    with suppress(OSError):
        # This process and its group get a high priority. They get no real-time priority, because the system limits
        # its share if other processes starve, and this would cause start lag.
        os.nice(-20)
        Path("/proc/self/autogroup").write_text("-20")
    found = [compare(rate, arguments.rounds, arguments.seconds) for rate in arguments.rates]
    held = all(each for _, each in found)
    if arguments.ladder:
        reached = highest_valid(arguments.ladder, arguments.seconds)
        held &= judged(f"one process is valid to {reached:,}/s", f"{LEAST_VALID:,}", ok=reached >= LEAST_VALID)
    if arguments.markdown:
        for row in (TITLES, ("---:",) * len(TITLES), *(row for row, _ in found)):
            print(f"| {' | '.join(row)} |")
    return not held


if __name__ == "__main__":
    sys.exit(main())
