"""CPU per request and requests/s of the client beside Locust's FastHttpUser, both as fast as one core lets them.

Both ask one nginx, held to another core, for the same runs, from the same number of users in a closed loop; the same
recorder takes in a sample of each request, and Locust's statistics are on. They take turns, so that a change of the
machine's speed meets both; a ratio is the median over the rounds of both sides of the same round. ``wrk`` is the floor
(a client in C, which records nothing); the last row are the harness's own users, which carry out and record operations,
too. Exits with 1 where a bar doesn't hold, with 0 and the reason where nginx or wrk are missing.
Run: ``python bench/client_cpu.py``.
"""

import argparse
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchanging import cores, pin

SIDE: Final = str(Path(__file__).parent / "peers" / "closed_loop.py")
PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
"""Debian has nginx where others than root do not look."""
USERS: Final = 50
MOST_CPU, LEAST_RATE = 0.35, 2.5
"""Of FastHttpUser's: CPU per request at most, requests/s at least."""
NGINX: Final = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/bodies;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        default_type application/json;
        location /v1/workflows/run {{ return 200 '{{"result":{{"greeting":"Hello, World!"}},"executionTime":1.5}}'; }}
    }}
}}
"""
WRK: Final = """
wrk.method = "POST"
wrk.body = '{"name":"say-hello","parameters":{"name":"World"}}'
wrk.headers["x-api-key"] = "local-dev-key"
wrk.headers["x-wf-endpoint"] = "bench"
wrk.headers["content-type"] = "application/json"
"""


@dataclass(frozen=True)
class Figures:
    """What one side did in one round."""

    cpu_us: float
    """CPU time per request."""
    rate: float
    """Requests per second."""
    samples: float = 0.0
    """Recorded, per request."""


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Start an nginx on its core; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = [
        str(shutil.which("nginx", path=PATH)),
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
        "-e",
        "stderr",
    ]
    with subprocess.Popen(command, preexec_fn=lambda: pin(0, cores()[0])) as process:  # noqa: PLW1509 - no threads here
        try:
            for _ in range(500):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()


def side(name: str, port: int, seconds: float) -> Figures:
    """One of ours, or of Locust's."""
    command = [sys.executable, SIDE, name, str(port), str(USERS), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    said = json.loads(done.stdout)
    if said["failures"] or not said["requests"]:
        raise SystemExit(f"this measures the wrong thing: {said}")
    return Figures(
        said["cpu_s"] / said["requests"] * 1e6, said["requests"] / said["seconds"], said["samples"] / said["requests"]
    )


def wrk(port: int, script: Path, seconds: float) -> Figures:
    """The floor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    url = f"http://127.0.0.1:{port}/v1/workflows/run"
    command = ["wrk", "-t1", f"-c{USERS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s*([\d.]+)", said)
    if requests is None or rate is None or "Non-2xx" in said:
        raise SystemExit(f"this measures the wrong thing: {said}")
    return Figures(used / int(requests[1]) * 1e6, float(rate[1]))


def table(rounds: list[dict[str, Figures]]) -> tuple[float, float]:
    """Print it; gives the client's ratios: CPU per request, and requests/s."""
    ratios = {}
    print(f"{'':28}{'CPU µs/request':>16}{'ratio':>8}{'requests/s':>13}{'ratio':>8}{'samples/request':>18}")
    for name, label in ROWS.items():
        own, theirs = [one[name] for one in rounds], [one["fasthttp"] for one in rounds]
        cpu = statistics.median(a.cpu_us / b.cpu_us for a, b in zip(own, theirs, strict=True))
        rate = statistics.median(a.rate / b.rate for a, b in zip(own, theirs, strict=True))
        middle = [
            statistics.median(values) for values in zip(*((a.cpu_us, a.rate, a.samples) for a in own), strict=True)
        ]
        print(f"{label:28}{middle[0]:16.1f}{cpu:8.3f}{middle[1]:13.0f}{rate:8.2f}{middle[2]:18.1f}")
        ratios[name] = cpu, rate
    return ratios["client"]


ROWS: Final = {
    "fasthttp": "Locust's FastHttpUser",
    "client": "WorkflowClient",
    "wrk": "wrk",
    "whole": "the harness's own users",
}


def main() -> int:
    """Measure in turns, print, and say whether the bars hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk") if shutil.which(tool, path=PATH) is None]
    if missing or cores()[1] is None:
        why = f"{' and '.join(missing)} not installed (Debian: nginx-light, wrk)" if missing else "two cores are needed"
        print(f"skipped: {why}")
        return 0
    pin(0, cores()[1])
    rounds = []
    with tempfile.TemporaryDirectory() as folder, nginx(Path(folder)) as port:
        script = Path(folder) / "post.lua"
        script.write_text(WRK)
        for _ in range(arguments.rounds):
            figures = {name: side(name, port, arguments.seconds) for name in ("fasthttp", "client", "whole")}
            rounds.append({**figures, "wrk": wrk(port, script, arguments.seconds)})
    cpu, rate = table(rounds)
    held = cpu <= MOST_CPU and rate >= LEAST_RATE
    print(f"CPU per request {cpu:.3f} × FastHttpUser's (at most {MOST_CPU} wanted), requests/s {rate:.2f} × its own "
          f"(at least {LEAST_RATE} wanted): {'held' if held else 'NOT HELD'}")  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
