"""How evenly requests leave at 500/s, beside plain Locust's constant_throughput, against the same target by turns.

The shape of arrivals decides how many 429s a limiter gives, so that a sender must be as even as its schedule says.
Both sides' sends are taken by the sender, just before the request. Run: ``python bench/evenness.py``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from offering import offered, operations, quantile, retrievals, target

RATE, SECONDS, LOCUST_USERS = 500, 8, 50
PLAIN = """
import json, os, time
import locust
from locust import FastHttpUser, constant_throughput, events, task

SENT = []
HEADERS = {{"x-api-key": "local-dev-key", "x-wf-endpoint": "x"}}

class Plain(FastHttpUser):
    wait_time = constant_throughput({rate} / {users})

    @task
    def retrieve(self):
        SENT.append(time.monotonic_ns())
        self.client.get(os.environ["BENCH_PATH"], name="retrieve", headers=HEADERS)

@events.quit.add_listener
def _keep(**_):
    with open(os.environ["BENCH_SENT"], "w") as file:
        json.dump(SENT, file)
"""


def ours(url: str, folder: Path) -> tuple[list[int], list[float]]:
    """Sends (ns) and start lags (ms) of the harness."""
    with offered(retrievals(RATE, SECONDS, 200), url, folder) as (_, directory):
        pass
    rows = operations(directory)
    return [row["start"] for row in rows], [(row["start"] - row["intended_start"]) / 1e6 for row in rows]


def plain_locust(url: str, folder: Path) -> list[int]:
    """Sends (ns) of a plain Locust with as many users as its authors' advice has it."""
    headers = {"x-api-key": "local-dev-key", "x-wf-endpoint": "x"}
    body = {"name": "echo"}
    job = httpx.post(f"{url}/v1/workflows/jobs", json=body, headers=headers, trust_env=False).json()["jobId"]
    (folder / "plain.py").write_text(PLAIN.format(rate=RATE, users=LOCUST_USERS))
    sent = folder / "sent.json"
    command = [sys.executable, "-m", "locust", "-f", str(folder / "plain.py"), "--headless", "--only-summary"]
    command += ["-u", str(LOCUST_USERS), "-r", str(LOCUST_USERS), "-t", f"{SECONDS + 1}s", "--host", url]
    environment = {**os.environ, "BENCH_PATH": f"/v1/workflows/jobs/{job}", "BENCH_SENT": str(sent)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    times: list[int] = json.loads(sent.read_text())
    # The users' start is not the steady state.
    return [each for each in times if each >= times[0] + 1e9]


def counts(times: list[int], width_ms: int) -> list[int]:
    """How many fall into each whole bin of this width."""
    width = width_ms * 1_000_000
    bins = [0] * int((max(times) - min(times)) // width)
    for each in times:
        at = (each - min(times)) // width
        if at < len(bins):
            bins[at] += 1
    return bins


def line(name: str, times: list[int], lags: list[float] | None) -> str:
    """One line of the table."""
    bins = counts(times, 100)
    rate = (len(times) - 1) / (max(times) - min(times)) * 1e9
    spread = statistics.pstdev(bins) / statistics.mean(bins)
    lag = f"{quantile(lags, 0.5):12.2f}{quantile(lags, 0.99):10.2f}" if lags else f"{'–':>12}{'–':>10}"
    return f"{name:38}{len(times):7}{rate:9.1f}{spread:16.3f}{max(counts(times, 10)):15}{lag}"


def main() -> None:
    """Run both by turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    title = f"{'':38}{'n':>7}{'rate/s':>9}{'sd/mean 100 ms':>16}{'most in 10 ms':>15}"
    print(f"{title}{'lag p50 ms':>12}{'p99 ms':>10}")
    print(f"{'ideal':38}{'':7}{RATE:9.1f}{0:16.3f}{RATE // 100:15}{0:12.2f}{0:10.2f}")
    with target() as api:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                print(line("loadtest", *ours(api.url, Path(folder))), flush=True)
                sent = plain_locust(api.url, Path(folder))
                print(line(f"locust, {LOCUST_USERS} users, constant_throughput", sent, None), flush=True)


if __name__ == "__main__":
    main()
