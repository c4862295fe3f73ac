"""``loadtest probe`` of other projects' limiters over HTTP: nginx, HAProxy, and packages of Python and npm.

Each limit is documented correctly, as ``--limit`` requests per window at 5 a second. ``--together`` probes all servers
at the same time, and ``--busy`` keeps every core busy. ``--packages PYTHON`` is an interpreter with the packages, and
``--modules FOLDER`` has the npm packages (``bench/peers/limiting.js``). nginx and HAProxy are skipped if they are
missing. Prints a Markdown table. Exits with 1 if the true limiter is excluded, or if the true numbers are outside of
stated bounds. Run: ``python bench/probe_servers.py --packages PYTHON --modules FOLDER``.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
RATE: Final = 5
UNKNOWN: Final = '{"error": "no", "code": "unknown_job", "details": {}}'
NGINX: Final = """daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    default_type application/json;
    root {folder};
    limit_req_zone $http_x_api_key zone=keys:1m rate=5r/s;
    limit_req_status 429;
    server {{ listen 127.0.0.1:{port}; error_page 404 @unknown;
        location /v1/workflows/jobs/ {{ limit_req zone=keys burst=10 {how}; }}
        location @unknown {{ return 404 '{unknown}'; }}
    }}
}}
"""
HAPROXY: Final = """defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend probed
    bind 127.0.0.1:{port}
    stick-table type string len 64 size 1k expire 60s store http_req_rate({window}s)
    http-request track-sc0 hdr(x-api-key)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {count} }}
    http-request return status 404 content-type application/json string '{unknown}'
"""
PYTHON: Final = {
    "limits-fixed": "fixed-window-from-first",
    "limits-moving": "sliding-log",
    "limits-counter": "sliding-counter",
    "throttled-fixed-window": "fixed-window",
    "throttled-sliding-window": "sliding-counter",
    "throttled-token-bucket": "token-bucket",
    "throttled-leaking-bucket": "token-bucket",
    "throttled-gcra": "token-bucket",
    "slowapi": "fixed-window-from-first",
}
NODE: Final = dict.fromkeys(("express-rate-limit", "rate-limiter-flexible"), "fixed-window-from-first")
TRUTHS: Final = {
    "nginx limit_req": "token-bucket",
    "nginx limit_req nodelay": "token-bucket",
    "HAProxy http_req_rate": "sliding-counter-from-first",
    **PYTHON,
    **NODE,
}
"""The algorithm that decides like each server."""
NGINX_BURST: Final = 11
"""nginx does not count the first request."""


def free_port() -> int:
    """Return a port of 127.0.0.1 without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], port: int, folder: str = ".") -> Iterator[None]:
    """Run a server in a folder until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended with {process.returncode}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def servers(packages: str | None, modules: str | None, count: int) -> Iterator[dict[str, str]]:
    """Start every installed server, and yield the base URLs by name."""
    urls = {}
    with contextlib.ExitStack() as stack:
        nginx, haproxy = (shutil.which(name, path=PATH) for name in ("nginx", "haproxy"))
        for how in ("", "nodelay") if nginx else ():
            folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            user = "user root;" if os.geteuid() == 0 else ""
            text = NGINX.format(folder=folder, port=port, how=how, unknown=UNKNOWN, user=user)
            (folder / "nginx.conf").write_text(text)
            command = [str(nginx), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
            stack.enter_context(started(command, port))
            urls[f"nginx limit_req {how}".strip()] = f"http://127.0.0.1:{port}"
        if haproxy:
            folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            (folder / "haproxy.cfg").write_text(
                HAPROXY.format(port=port, unknown=UNKNOWN, count=count, window=count // RATE)
            )
            stack.enter_context(started([haproxy, "-q", "-f", str(folder / "haproxy.cfg")], port))
            urls["HAProxy http_req_rate"] = f"http://127.0.0.1:{port}"
        peers = [(packages, "limiting.py", ".", PYTHON)] if packages else []
        peers += [("node", "limiting.js", modules, NODE)] if modules else []
        for runner, file, where, truths in peers:
            port = free_port()
            command = [runner, str(HERE / "peers" / file), str(port), str(count), str(count // RATE)]
            stack.enter_context(started(command, port, where))
            urls |= {name: f"http://127.0.0.1:{port}/{name}" for name in truths}
        yield urls


def probed(url: str, count: int) -> dict[str, Any]:
    """Probe one server."""
    command = [sys.executable, "-m", "loadtest.cli", "probe", "retrieval", "--json", "--host", url]
    command += ["--documented", f"retrieval={count}/{count // RATE}s"]
    environment = {**os.environ, "WORKFLOW_API_KEYS": "one,two", "WORKFLOW_ENDPOINT": "bench"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, cwd=HERE.parent, check=False)
    (found,) = json.loads(done.stdout)
    return dict(found)


def row(name: str, found: dict[str, Any], count: int) -> bool:
    """Print a row, and return whether its answers are right."""
    algorithm, stated = TRUTHS[name], found["stated"]
    names = {each["algorithm"] for each in found["standing"]}
    own = {algorithm, "leaky-queue" if algorithm == "token-bucket" else algorithm}
    right = "among others" if found["why"] or names - own else "right"
    named = "–" if not names else right if own & names else "wrong"
    numbers = "–"
    if stated:
        least, most = stated["burst"] or stated["count"]
        slowest, fastest = (each / stated["window_s"] for each in stated["count"])
        at_once = NGINX_BURST if name.startswith("nginx") else count
        within = least - 1 <= at_once <= most + 1 and slowest * 0.98 <= RATE <= fastest * 1.02
        numbers = "right" if within else "wrong"
    busy = "yes" if any("busy" in each for each in found["seen"]) else "no"
    cells = (name, algorithm, found["verdict"], named, f"{len(names)}", numbers)
    cost = (f"{found['requests'] / count:.1f}", f"{found['seconds']:.0f}", busy)
    print("|", " | ".join((*cells, *cost)), "|", flush=True)
    if "wrong" in {named, numbers}:
        print(json.dumps(found), file=sys.stderr)
    return "wrong" not in {named, numbers}


def main() -> int:
    """Probe all servers, and return 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", help="an interpreter with limits, slowapi, throttled-py, fastapi and uvicorn")
    parser.add_argument("--modules", help="a folder with express, express-rate-limit and rate-limiter-flexible of npm")
    parser.add_argument("--limit", type=int, default=20, help="requests per window (20)")
    parser.add_argument("--together", action="store_true", help="probe all servers at a time")
    parser.add_argument("--busy", action="store_true", help="keep every core busy")
    options = parser.parse_args()
    print("| server | decides as | verdict | limiter | algorithms left | numbers | requests, N | s | busy |")
    print("| --- | --- | --- | --- | ---: | --- | ---: | ---: | --- |")
    with servers(options.packages, options.modules, options.limit) as urls, contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1 if options.busy else 0):
            burner = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(burner.terminate)
        with ThreadPoolExecutor(len(urls) if options.together else 1) as threads:
            findings = threads.map(lambda url: probed(url, options.limit), urls.values())
            met = [row(name, found, options.limit) for name, found in zip(urls, findings, strict=True)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
