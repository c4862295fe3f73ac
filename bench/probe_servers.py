"""``loadtest probe`` of other projects' limiters over HTTP: nginx, HAProxy, limits, slowapi and throttled-py.

Each has 20 requests per 4 s, which is also documented. The probes run one after the other; ``--busy`` keeps every core
busy meanwhile. Prints a Markdown table; exit code 1 if a wrong limiter is named, or if the true numbers are outside of
stated ones. ``--packages PYTHON`` is an interpreter that has the packages; nginx and HAProxy are skipped where they are
missing. Run: ``python bench/probe_servers.py --packages PYTHON``.
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
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
COUNT: Final = 20
WINDOW_S: Final = 4
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
    stick-table type string len 64 size 1k expire 60s store http_req_rate(4s)
    http-request track-sc0 hdr(x-api-key)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 20 }}
    http-request return status 404 content-type application/json string '{unknown}'
"""
TRUTHS: Final = {
    # nginx counts the first request as none
    "nginx limit_req": ("token-bucket", 11),
    "nginx limit_req nodelay": ("token-bucket", 11),
    "HAProxy http_req_rate": ("sliding-counter-from-first", COUNT),
    "limits-fixed": ("fixed-window-from-first", COUNT),
    "limits-moving": ("sliding-log", COUNT),
    "limits-counter": ("sliding-counter", COUNT),
    "throttled-fixed-window": ("fixed-window", COUNT),
    "throttled-sliding-window": ("sliding-counter", COUNT),
    "throttled-token-bucket": ("token-bucket", COUNT),
    "throttled-leaking-bucket": ("token-bucket", COUNT),
    "throttled-gcra": ("token-bucket", COUNT),
    "slowapi": ("fixed-window-from-first", COUNT),
}


def free_port() -> int:
    """A port of 127.0.0.1 without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
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
def servers(packages: str | None) -> Iterator[dict[str, str]]:
    """Start every server that is installed, and give their base URLs."""
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
            (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, unknown=UNKNOWN))
            stack.enter_context(started([haproxy, "-q", "-f", str(folder / "haproxy.cfg")], port))
            urls["HAProxy http_req_rate"] = f"http://127.0.0.1:{port}"
        if packages:
            port = free_port()
            command = [packages, str(HERE / "peers" / "limiting.py"), str(port), str(COUNT), str(WINDOW_S)]
            stack.enter_context(started(command, port))
            urls |= {name: f"http://127.0.0.1:{port}/{name}" for name in TRUTHS if " " not in name}
        yield urls


def probed(url: str) -> dict[str, Any]:
    """Probe one server."""
    command = [sys.executable, "-m", "loadtest.cli", "probe", "retrieval", "--json", "--host", url]
    command += ["--documented", f"retrieval={COUNT}/{WINDOW_S}s"]
    environment = {**os.environ, "WORKFLOW_API_KEYS": "one,two", "WORKFLOW_ENDPOINT": "bench"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, cwd=HERE.parent, check=False)
    (found,) = json.loads(done.stdout)
    return dict(found)


def row(name: str, found: dict[str, Any]) -> bool:
    """Print a row, and return whether it is free of errors."""
    algorithm, count = TRUTHS[name]
    standing, stated = found["standing"], found["stated"]
    names = sorted({each["algorithm"] for each in standing})
    own = {algorithm, "leaky-queue" if algorithm == "token-bucket" else algorithm}
    named = "–" if not names else "right" if set(names) <= own else "among others" if own & set(names) else "wrong"
    numbers = "–"
    if stated:
        least, most = stated["burst"] or stated["count"]
        rate = [each / stated["window_s"] for each in stated["count"]]
        right = least - 1 <= count <= most + 1 and rate[0] * 0.98 <= COUNT / WINDOW_S <= rate[1] * 1.02
        numbers = "right" if right or (stated["burst"] is None and stated["window_s"] == WINDOW_S) else "wrong"
    busy = "yes" if any("busy" in each for each in found["seen"]) else "no"
    cells = (name, algorithm, found["verdict"], named, f"{len(names)}", numbers)
    print(
        "|", " | ".join((*cells, f"{found['requests'] / COUNT:.1f}", f"{found['seconds']:.0f}", busy)), "|", flush=True
    )
    return "wrong" not in {named, numbers}


def main() -> int:
    """Probe all servers, and return 1 if something wrong was said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", help="an interpreter with limits, slowapi, throttled-py, fastapi and uvicorn")
    parser.add_argument("--busy", action="store_true", help="keep every core busy")
    options = parser.parse_args()
    print("| server | decides as | verdict | limiter | algorithms left | numbers | requests, N | s | busy |")
    print("| --- | --- | --- | --- | ---: | --- | ---: | ---: | --- |")
    with servers(options.packages) as urls, contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1 if options.busy else 0):
            burner = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(burner.terminate)
        met = [row(name, probed(url)) for name, url in urls.items()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
