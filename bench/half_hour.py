"""Memory of the load process, with its web UI, and of the reference API during half an hour, by minute.

A third of the arrivals each are runs, polled jobs, and retrievals of the run's own jobs. Two clients stand for
browsers: they read the live page's events and poll the URLs of Locust's page. The command fails if the resident memory
of a process grows by 10 MB or more. The measurement starts a minute after the retention, because from then on as many
finished jobs expire as end. Run: ``python bench/half_hour.py``.

Short form: five minutes at 1,000 arrivals a second. With --full, half an hour at 300, which takes a sixth of a core.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import psutil
from exchanging import NO_LIMITS, SERVE, Server, started
from forms import Options, judged

BAR_MB: Final = 10.0
SCENARIO: Final = """
title = "A mixture for half an hour"
seed = 1
[breakers]
pending_jobs = 1_000_000
""" + "".join(
    f"""
[traffic.{name}]
operation = "{operation}"
{"job_ids = 'run'" if name == "lookups" else "workflow = 'say-hello'"}
{"polling = {{ interval = '500ms', give_up = '20s' }}" if name == "jobs" else ""}
stages = [{{{{ name = "steady", rate = "{{rate}}/s", duration = "{{seconds}}s" }}}}]
"""
    for name, operation in (("runs", "sync_run"), ("jobs", "async_run"), ("lookups", "retrieval"))
)


def watch_events(url: str) -> None:
    """Read the live page's events for as long as they come."""
    with suppress(httpx.HTTPError), httpx.stream("GET", f"{url}/workflow/events", timeout=None) as answer:
        for _ in answer.iter_bytes():
            pass


def watch_locust(url: str) -> None:
    """Request the URLs that Locust's page requests, until the web UI ends."""
    with suppress(httpx.HTTPError), httpx.Client(base_url=url) as client:
        while True:
            for path in ("/stats/requests", "/exceptions", "/runs.json"):
                client.get(path)
            time.sleep(2)


def answers(url: str) -> bool:
    """Whether the web UI answers."""
    with suppress(httpx.HTTPError):
        return httpx.get(url).is_success
    return False


def memory_mb(pid: int) -> tuple[float, float]:
    """Return a process's RSS and its anonymous part in MB. Mapped files do not change the anonymous part."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return tuple(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1e3 for name in ("Rss", "Anonymous"))


def measure(server: Server, rate: float, minutes: int, folder: Path) -> list[dict[str, tuple[float, float]]]:
    """Run the load. Return RSS and anonymous memory of both processes in MB, at each full minute."""
    path = folder / "mixture.toml"
    path.write_text(SCENARIO.format(rate=rate / 3, seconds=minutes * 60 + 5))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "loadtest.cli", "ui", str(path), "--host", server.url]
    command += ["--port", str(port), "--output-dir", str(folder), "--no-preflight", "--no-plots"]
    url = f"http://127.0.0.1:{port}"
    found = []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKFLOW_")}
    with (
        (folder / "ui.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as ui,
    ):
        try:
            while not answers(url):
                time.sleep(0.1)
            load = max(psutil.Process(ui.pid).children(recursive=True), key=lambda each: each.memory_info().rss)
            httpx.post(f"{url}/swarm", data={"host": server.url}, timeout=60).raise_for_status()
            begun = time.monotonic()
            for watch in (watch_events, watch_locust):
                threading.Thread(target=watch, args=(url,), daemon=True).start()
            for minute in range(1, minutes + 1):
                time.sleep(max(0.0, begun + minute * 60 - time.monotonic()))
                found.append({"load and web UI": memory_mb(load.pid), "reference API": memory_mb(server.pid)})
                text = " · ".join(
                    f"{name} RSS {rss:.1f}, anonymous {own:.1f} MB" for name, (rss, own) in found[-1].items()
                )
                print(f"minute {minute:2}: {text} · CPU s {sum(load.cpu_times()[:2]):.0f}", flush=True)
            counts = httpx.get(f"{server.url}/metrics").text
            print(*re.findall(r"^workflow_(?:requests_total|jobs)\{.*", counts, re.MULTILINE), sep="\n", flush=True)
        finally:
            ui.terminate()
            ui.wait()
    for record in folder.glob("*/run.json"):
        # A pool grows while the machine is busy, and each user takes memory.
        pools = json.loads(record.read_text())["generators"][0]["pools"]
        print("users:", *(f"{name} {pool['started']} to {pool['size']}" for name, pool in pools.items()), sep="  ")
    return found


def main() -> int:
    """Measure, print, and say whether the bar holds."""
    parser = Options(__doc__)
    parser.add_size("--rate", 1000.0, 300.0, "arrivals per second")
    parser.add_size("--minutes", 5, 30, "duration")
    parser.add_size("--retention", 60.0, 600.0, "seconds that finished jobs are kept")
    arguments = parser.begin()
    with (
        tempfile.TemporaryDirectory() as folder,
        started(*SERVE, *NO_LIMITS, "--retention", str(arguments.retention)) as server,
    ):
        found = measure(server, arguments.rate, arguments.minutes, Path(folder))
    settled = min(round(arguments.retention / 60) + 1, len(found) - 1) - 1
    held = True
    for name in found[0]:
        rss, own = (found[-1][name][kind] - found[settled][name][kind] for kind in (0, 1))
        text = f"{name}: RSS {rss:+.1f} MB, anonymous {own:+.1f} MB since minute {settled + 1}"
        held &= judged(text, f"RSS less than {BAR_MB:g} MB", ok=rss < BAR_MB)
    return not held


if __name__ == "__main__":
    sys.exit(main())
