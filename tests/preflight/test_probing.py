"""A probe over real HTTP of other programs' limiters: the reference API's, nginx's and a package's."""

import asyncio
import contextlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from plugins import warm, workers
from plugins.nginx import installed, need, running
from plugins.processes import free_ports
from plugins.served import KEYS, Served
from plugins.stubs import UNKNOWN, Answer, Stub, submitted

from loadtest.contract import LimitName
from loadtest.limits import AlgorithmName, LimiterSpec, make
from loadtest.limits.probing.results import Found, LimitFinding, ProbeMessage, ProbeOrder, ProbeProgress, Standing
from loadtest.preflight.client import Reply
from loadtest.preflight.probing import Sender, probe, probe_limit
from loadtest.units import Limit

UNAVAILABLE = (503, {"error": "Too many", "code": "busy", "jobId": "made-all-the-same"})
NGINX = """
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    default_type application/json;
    root {folder};
    limit_req_zone $http_x_api_key zone=keys:1m rate=15r/s;
    limit_req_status 429;
    server {{ listen 127.0.0.1:{port}; error_page 404 @unknown;
        location /v1/workflows/jobs/ {{ limit_req zone=keys burst=10 {how}; }}
        location @unknown {{ return 404 '{{"error": "no", "code": "unknown_job", "details": {{}}}}'; }}
    }}
}}
"""


@dataclass(frozen=True)
class Truth:
    """A limiter of 15 a second: its count, or its burst, and whether all requests share a quota."""

    algorithm: AlgorithmName
    count: int
    shared: bool = False


CASES = {
    "reference token-bucket": Truth("token-bucket", 10),
    "limits moving window": Truth("sliding-log", 15, shared=True),
    # The first request is counted as none, the burst's as one each.
    "nginx": Truth("leaky-queue", 11),
    "nginx nodelay": Truth("token-bucket", 11),
}


def moving_window() -> Callable[[str, str, int], Answer]:
    """An app with the `limits` package, which refuses with 503: all keys and all names share one window."""
    limiter, lock = MovingWindowRateLimiter(MemoryStorage()), threading.Lock()

    def answer(_method: str, _path: str, _number: int) -> Answer:
        with lock:
            return UNKNOWN if limiter.hit(RateLimitItemPerSecond(15)) else UNAVAILABLE

    return answer


@pytest.fixture
def urls(serve: Callable[..., Served], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server of each case. Without nginx its two cases are missing."""
    options = ("--limit", "retrieval=15/s", "--algorithm", "token-bucket", "--burst", "10")
    found = {"reference token-bucket": serve(*options, WORKFLOW_API_KEYS=",".join(KEYS)).url}
    with contextlib.ExitStack() as stack:
        app = Stub(moving_window())
        stack.callback(app.close)
        found["limits moving window"] = app.url
        for how in ("", "nodelay") if installed("nginx") else ():
            (folder := tmp_path / f"nginx{how}").mkdir()
            (port,) = free_ports(1)
            stack.enter_context(running(folder, NGINX.format(folder=folder, port=port, how=how), port))
            found[f"nginx {how}".strip()] = f"http://127.0.0.1:{port}"
        yield found


def probed(urls: dict[str, str]) -> dict[str, LimitFinding]:
    """Return the finding of a probe of each server. They run at the same time in processes, as they mostly wait."""
    environment = {**os.environ, "WORKFLOW_API_KEYS": ",".join(KEYS), "WORKFLOW_ENDPOINT": "tests"}
    probes = {}
    for name, url in urls.items():
        order = ProbeOrder(url=url, listed=False, documented={LimitName.RETRIEVAL: (15, 1.0)})
        command = [sys.executable, "-m", "loadtest.preflight.probing"]
        probes[name] = warm.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        stdin = probes[name].stdin
        assert stdin is not None
        stdin.write(msgspec.json.encode(order))
        stdin.close()
        probes[name].stdin = None
    found = {}
    for name, each in probes.items():
        last = msgspec.json.decode(each.communicate()[0].splitlines()[-1], type=ProbeMessage)
        assert isinstance(last, Found), last
        found[name] = last.finding
    return found


def fits(one: Standing, count: int) -> bool:
    """Whether a limiter's numbers hold the truth: ± 1, and of the rate a tenth for an answer's 50 ms, twice."""
    least, most = one.burst or one.count
    slowest, fastest = one.count[0] / one.window_s[1], one.count[1] / one.window_s[0]
    return least - 1 <= count <= most + 1 and slowest <= 15 * 1.1 and fastest >= 15 * 0.9


@pytest.mark.heavy
@pytest.mark.timeout(600)  # a probe of a busy machine repeats its experiments
def test_nothing_wrong_is_said_of_a_real_server(urls: dict[str, str]) -> None:
    """The documented limit is never named wrong, and the true numbers are among those that stand.

    If answers came too late to conclude anything, the probe reports this and excludes no limiter. It may identify no
    limiter of nginx, whose first request counts as none.
    """
    with workers.alone():  # other tests would delay requests by more than windows of a second allow
        findings = probed(urls)
    for name, found in findings.items():
        check_finding(name, found)
    need("nginx")


def check_finding(name: str, found: LimitFinding) -> None:
    """Compare a finding with the limiter that the server has."""
    truth = CASES[name]
    assert found.verdict in {"as documented", "can't tell"}, found
    # Whether requests are held is not seen unless the queue was long; how a bucket rounds is one of its details.
    own = {truth.algorithm, "token-bucket" if truth.algorithm == "leaky-queue" else truth.algorithm}
    standing = [each for each in found.standing if each.algorithm in own and not each.count_rejected]
    late = found.why.endswith("busy") and found.verdict == "can't tell" and not found.fits
    # nginx counts its first request as none, as no known limiter does.
    unsure = late or (found.why and name.startswith("nginx"))
    assert any(fits(each, truth.count) for each in standing) or unsure, found
    assert set(found.shared.values()) <= {None, truth.shared}
    assert sum(passed for passed, _ in found.facts.windows) <= found.requests - found.rejected
    assert found.requests <= 5.5 * 15
    assert found.executed == 0
    assert set(found.statuses) <= {503 if name.startswith("limits") else 429}
    assert found.jobs_of_rejected == found.statuses.get(503, 0)


@pytest.mark.parametrize(
    ("requests", "workflow", "most", "executes", "why"),
    [
        (None, "sleep", 55, True, ""),
        (40, "sleep", 40, False, "too few to run sleep"),
        (None, None, 55, False, "--workflow NAME"),
    ],
)
def test_a_workflow_gets_the_rest_of_the_budget(
    stub: Callable[..., Stub],
    monkeypatch: pytest.MonkeyPatch,
    *,
    requests: int | None,
    workflow: str | None,
    most: int,
    executes: bool,
    why: str,
) -> None:
    """Both probes together keep the budget, and a probe without rejections and runs proves nothing."""
    monkeypatch.setenv("WORKFLOW_API_KEYS", ",".join(KEYS))
    server, told = stub(lambda _method, _path, number: submitted(number)), list[ProbeMessage]()
    limits = {LimitName.ASYNC_SUBMIT: (10, 1.0)}
    order = ProbeOrder(url=server.url, listed=False, documented=limits, requests=requests, workflow=workflow)
    asyncio.run(probe(order, told.append))
    found = told[-1]
    assert isinstance(found, Found)
    assert len(server.asked) == found.finding.requests <= most
    # A busy machine may repeat the first probe, which leaves no requests for the second.
    assert bool(found.finding.executed) == executes or "began" in "".join(found.finding.seen)
    assert why in found.finding.why
    if not executes:
        assert found.finding.verdict == "can't tell"


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer."""

    seconds = 0.0

    def time(self) -> float:
        return self.seconds

    def _run_once(self) -> None:
        timers = [each.when() for each in self._scheduled if not each.cancelled()]  # type: ignore[attr-defined] # asyncio's
        if timers and not self._ready:  # type: ignore[attr-defined] # likewise
            self.seconds = max(self.seconds, min(timers))
        super()._run_once()  # type: ignore[misc] # likewise


class _Server:
    """A fixed window of 8 per second, and the way to it: 5 ms, and 50 ms of computing while this machine is busy."""

    keys = ("one",)

    def __init__(self, clock: _Clock, busy_s: float) -> None:
        self._clock, self._busy_s = clock, busy_s
        self.limiter = make(LimiterSpec(), Limit(8, 1.0))
        self.asked: list[float] = []

    def now(self) -> float:
        return 1.7e9 + self._clock.seconds

    async def ask(self, *_: object, **__: object) -> Reply:
        self.asked.append(sent := self.now())
        self._clock.seconds += 0.05 * (self._clock.seconds < self._busy_s)
        await asyncio.sleep(0.005)
        status = 404 if self.limiter.decide(self.now()).allowed else 429
        return Reply(sent, self.now() - sent, status=status, body={"error": "unknown", "code": "unknown_job"})


@pytest.mark.parametrize(("busy_s", "begun"), [(1.5, 2), (math.inf, 3)])
def test_a_probe_of_a_busy_machine_begins_again_within_its_budget(busy_s: float, begun: int) -> None:
    """It begins again after two windows of silence, until the machine is idle or its requests or time are used up."""
    clock, told = _Clock(), list[ProbeMessage]()
    server = _Server(clock, busy_s)
    order = ProbeOrder(url="", listed=False, documented={LimitName.RETRIEVAL: (8, 1.0)})
    sender = Sender(server)  # type: ignore[arg-type] # without a network
    found = clock.run_until_complete(probe_limit(sender, order, LimitName.RETRIEVAL, 1, told.append))
    clock.close()
    notes = [each.note for each in told if isinstance(each, ProbeProgress) and each.note]
    assert len(notes) == begun - 1
    assert sum(later - sent >= 2 for sent, later in pairwise(server.asked)) == begun - 1
    assert f"began {begun} times" in found.seen[-1]
    assert len(server.asked) == found.requests <= 5.5 * 8
    assert clock.seconds <= 8
