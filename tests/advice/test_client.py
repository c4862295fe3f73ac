"""The client to take home, as its user uses it: real servers in real time, and limiters in virtual time."""

import asyncio
import contextlib
import heapq
import importlib.util
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
from plugins import nginx
from plugins.processes import free_ports
from plugins.served import KEYS, NO_LIMITS, Served

from loadtest.advice.compare import compare
from loadtest.advice.take_home import client_text
from loadtest.advice.work import Candidate, Limits, Work
from loadtest.contract import LimitName, Operation
from loadtest.limits import ALGORITHMS, CONCURRENCY, Limiter, LimiterSpec, make
from loadtest.units import Limit

COUNTING = [name for name in ALGORITHMS if name != CONCURRENCY]
Start = Callable[..., Served]
_NUMBERS: Iterator[int] = itertools.count()


def taken_home(folder: Path, spec: LimiterSpec, limit: Limit, clients: int = 1) -> ModuleType:
    """The module that a user copies, for a known limiter on every limit."""
    limits = Limits(dict.fromkeys(LimitName, (Candidate(spec, limit),)))
    work = Work(Operation.ASYNC_RUN, 200, clients=clients, execution_s=np.array([0.05]))
    path = folder / f"client{next(_NUMBERS)}.py"
    path.write_text(client_text(compare(work, limits, source="a test"), limits))
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def counted(module: Any) -> Counter[int]:
    """The statuses that a module's clients get."""
    statuses: Counter[int] = Counter()
    answered = module.LimitPace.answered

    def counting(pace: Any, start: float, response: httpx.Response | None) -> bool:
        statuses[0 if response is None else response.status_code] += 1
        return bool(answered(pace, start, response))

    module.LimitPace.answered = counting
    return statuses


def all_jobs(module: ModuleType, url: str, count: int = 200) -> Counter[int]:
    """Do jobs in two tasks that share a client, and return the statuses."""
    statuses = counted(module)

    async def half(client: httpx.AsyncClient) -> None:
        jobs = [module.run_job_async(client, "sleep", {"ms": 50}) for _ in range(count // 2)]
        assert {job["status"] for job in await asyncio.gather(*jobs)} == {"completed"}

    async def both() -> None:
        async with httpx.AsyncClient(base_url=url, transport=module.AsyncPaced(), timeout=30) as client:
            await asyncio.gather(half(client), half(client))

    asyncio.run(both())
    return statuses


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_API_KEY", KEYS[0])
    monkeypatch.setenv("WORKFLOW_ENDPOINT", "tests")


@pytest.mark.judged
def test_it_keeps_within_the_reference_apis_limits(tmp_path: Path, launch: Start) -> None:
    """Two hundred jobs of two tasks that share it take two windows of each limit, without a 429."""
    arguments = [word for name in ("async_submit", "retrieval") for word in ("--limit", f"{name}=120/2s")]
    url = launch(*arguments, "--algorithm", "sliding-log").url
    module = taken_home(tmp_path, LimiterSpec("sliding-log"), Limit(120, 2.0))
    statuses = all_jobs(module, url)
    assert statuses[202] == 200
    assert statuses[429] == 0


@pytest.mark.judged
def test_it_keeps_within_nginxs_limit(tmp_path: Path, launch: Start) -> None:
    """nginx's ``limit_req`` with ``nodelay`` is a token bucket of its burst and one more."""
    upstream, (port,) = launch(*NO_LIMITS).url, free_ports(1)
    http = f"""http {{
  limit_req_zone $http_x_api_key zone=all:1m rate=100r/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      limit_req zone=all burst=20 nodelay;
      limit_req_status 429;
      proxy_pass {upstream};
    }}
  }}
}}
"""
    module = taken_home(tmp_path, LimiterSpec("token-bucket", 21), Limit(100, 1.0))
    module.SHARED = True  # nginx counts both kinds of requests together
    with nginx.running(tmp_path, http, port):
        statuses = all_jobs(module, f"http://127.0.0.1:{port}")
    assert statuses[202] == 200
    assert statuses[429] == 0


class Impatient:
    """A module whose ``sleep`` raises an error instead of a long sleep, so that clients that pause end."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def sleep(self, seconds: float) -> Any:
        """Sleep for at most a second."""
        if seconds > 1:
            raise TimeoutError
        return self._module.sleep(seconds)


async def tasks_of(module: Any, url: str, clients: int, requests: int) -> None:
    """Send requests in tasks, a client's all at once."""
    module.asyncio = Impatient(asyncio)
    async with contextlib.AsyncExitStack() as stack:
        made = [httpx.AsyncClient(base_url=url, transport=module.AsyncPaced(), timeout=30) for _ in range(clients)]
        opened = [await stack.enter_async_context(each) for each in made]
        sent = [client.post("/v1/workflows/run", json={"name": "echo"}) for client in opened for _ in range(requests)]
        await asyncio.gather(*sent, return_exceptions=True)


def threads_of(module: Any, url: str, clients: int, requests: int) -> None:
    """Send requests in threads, a client's all at once."""
    module.time = Impatient(time)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(clients * requests) as pool:
        made = [httpx.Client(base_url=url, transport=module.Paced(), timeout=30) for _ in range(clients)]
        for client in [stack.enter_context(each) for each in made]:
            for _ in range(requests):
                pool.submit(client.post, "/v1/workflows/run", json={"name": "echo"})
        pool.shutdown()


@pytest.mark.judged
@pytest.mark.parametrize("tasks", [True, False])
def test_clients_that_do_not_know_of_each_other(tmp_path: Path, launch: Start, *, tasks: bool) -> None:
    """Three clients share a limit that each takes for its own. Each slows down after its first rejected requests."""
    url = launch("--limit", "sync_run=30/120s", "--algorithm", "sliding-log", "--fault", "latency,ms=30").url
    module = taken_home(tmp_path, LimiterSpec("sliding-log"), Limit(30, 120.0))
    statuses = counted(module)
    if tasks:
        asyncio.run(tasks_of(module, url, 3, 30))
    else:
        threads_of(module, url, 3, 30)
    assert statuses[200] == 30
    assert 3 <= statuses[429] <= 9


def test_a_cancelled_task_holds_nobody_up(tmp_path: Path, launch: Start) -> None:
    """A task that is cancelled while it waits takes no place, and the tasks behind it go on."""
    url = launch("--limit", "sync_run=6/1s", "--algorithm", "sliding-log").url
    module = taken_home(tmp_path, LimiterSpec("sliding-log"), Limit(6, 1.0))

    async def work() -> list[int]:
        async with httpx.AsyncClient(base_url=url, transport=module.AsyncPaced(), timeout=30) as client:
            body = {"name": "echo", "parameters": {}}
            tasks = [asyncio.create_task(client.post("/v1/workflows/run", json=body)) for _ in range(12)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[6:10]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            return [each.status_code for each in answers if isinstance(each, httpx.Response)]

    assert asyncio.run(work()) == [200] * 8


class Clock:
    """Virtual time: a sleep moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The present time in s."""
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.now += seconds


class Limited(httpx.BaseTransport):
    """A service in virtual time that answers after 5 ms."""

    def __init__(self, clock: Clock, limiter: Limiter, *, retry_after: bool = False) -> None:
        self.clock, self.limiter, self.retry_after = clock, limiter, retry_after
        self.sent: list[tuple[float, bool]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        decision = self.limiter.decide(self.clock.now)
        self.sent.append((self.clock.now, decision.allowed))
        self.clock.now += 0.005
        headers = {"retry-after": f"{decision.retry_after:.0f}"} if self.retry_after else {}
        return httpx.Response(200 if decision.allowed else 429, headers=headers)

    def rejected(self, since: float = 0.0) -> int:
        """429s since a time."""
        return sum(at >= since and not allowed for at, allowed in self.sent)


def virtual(module: Any, limiter: Limiter, **options: bool) -> tuple[Clock, Limited, httpx.Client]:
    """A client of a module, in virtual time."""
    clock = Clock()
    module.time = clock
    service = Limited(clock, limiter, **options)
    return clock, service, httpx.Client(base_url="http://virtual", transport=module.Paced(service))


@pytest.mark.parametrize("algorithm", COUNTING)
def test_it_is_never_faster_than_a_limiter(tmp_path: Path, algorithm: str) -> None:
    """Four windows of requests get no 429, and take no more than seven windows."""
    spec, limit = LimiterSpec(algorithm), Limit(50, 10.0)
    clock, service, client = virtual(taken_home(tmp_path, spec, limit), make(spec, limit))
    for _ in range(200):
        client.post("/v1/workflows/run")
    assert service.rejected() == 0
    assert clock.now - 1000 < 70


@pytest.mark.parametrize("algorithm", COUNTING)
def test_numbered_clients_send_in_turns(tmp_path: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients that share a limit get no 429, and use at least two thirds of it."""
    spec, limit, clock = LimiterSpec(algorithm), Limit(50, 10.0), Clock()
    limiter, paces, sent = make(spec, limit), [], 0
    for number in range(3):
        monkeypatch.setenv("WORKFLOW_CLIENT", str(number))
        module: Any = taken_home(tmp_path, spec, limit, clients=3)
        module.time = clock
        paces.append(module.LimitPace(None, *module.LIMITS["sync_run"]))
    due = [(clock.now, number) for number in range(3)]
    while clock.now < 1060:
        clock.now, number = heapq.heappop(due)
        if not (wait := paces[number].wait()):
            assert limiter.decide(clock.now).allowed
            paces[number].answered(clock.now, httpx.Response(200))
            sent += 1
        heapq.heappush(due, (clock.now + wait, number))
    assert sent > 200


@pytest.mark.parametrize("retry_after", [True, False])
def test_an_api_that_gets_stricter(tmp_path: Path, *, retry_after: bool) -> None:
    """It slows down to the new limit with few 429s, and recovers when the limit does."""
    limit = Limit(50, 10.0)
    module = taken_home(tmp_path, LimiterSpec("sliding-log"), limit)
    clock, service, client = virtual(module, make(LimiterSpec("sliding-log"), limit), retry_after=retry_after)

    def seconds(count: int) -> float:
        begun = clock.now
        for _ in range(count):
            assert client.post("/v1/workflows/run").status_code == 200
        return clock.now - begun

    seconds(200)
    assert service.rejected() == 0
    service.limiter, changed = make(LimiterSpec("sliding-log"), Limit(10, 10.0)), clock.now
    assert seconds(100) < 200
    assert service.rejected(changed) < 30
    service.limiter, changed = make(LimiterSpec("sliding-log"), limit), clock.now
    seconds(200)
    assert seconds(200) < 60
    clock.now += 86_400
    assert seconds(1) < 1
    assert service.rejected(changed) == 0


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    """A clock that is set back stands still, and delays nothing by more than a period."""
    spec, limit = LimiterSpec("sliding-log"), Limit(50, 10.0)
    clock, service, client = virtual(taken_home(tmp_path, spec, limit), make(spec, limit))
    for _ in range(30):
        client.post("/v1/workflows/run")
    clock.now -= 5
    begun = clock.now
    for _ in range(60):
        client.post("/v1/workflows/run")
    assert clock.now - begun < 30
    assert service.rejected() == 0


def test_a_post_that_timed_out_is_not_repeated(tmp_path: Path) -> None:
    """The service may have done it; the error reaches the caller, and later requests go on."""
    module = taken_home(tmp_path, LimiterSpec("sliding-log"), Limit(50, 10.0))
    sent = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        if sent == 1:
            raise httpx.ReadTimeout("late", request=request)
        return httpx.Response(200)

    with httpx.Client(base_url="http://virtual", transport=module.Paced(httpx.MockTransport(answer))) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/workflows/run")
        assert sent == 1
        assert client.post("/v1/workflows/run").status_code == 200
