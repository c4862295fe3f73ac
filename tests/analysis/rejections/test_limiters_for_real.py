"""Real servers, each with another limiter, asked at random: what their answers were is what a replay expects."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from plugins import record_maker as maker
from plugins import warm, workers

from loadtest.analysis.rejections.observed_429 import look_into
from loadtest.analysis.run_record import load_record
from loadtest.limits import ALGORITHMS
from loadtest.record.run_info import ClockInfo, RunInfo, TargetInfo
from loadtest.units import Limit

KEYS = ("alpha", "beta")
SECONDS, RATE = 3.5, 30.0
ALONE, CALM_S = 2, 0.03  # what takes longer to be sent or refused is out of the order in which a limiter saw it
LIMITS = {"sync_run": (4, 1.0), "async_submit": (4, 1.0), "retrieval": (4, 1.0), "all": (9, 1.0)}
pytestmark = pytest.mark.judged  # when a request arrived decides what became of it
CASES: dict[str, dict[str, Any]] = {
    "fixed-window": {"scope": "name"},
    "fixed-window-from-first": {"scope": "key"},
    "sliding-log": {"scope": "key-and-name"},
    "sliding-counter": {"scope": "global"},
    "sliding-counter-from-first": {"scope": "key-and-name"},
    "token-bucket": {"scope": "name", "burst": 6},
    "gcra": {"scope": "key", "burst": 3, "count_rejected": True},
    "leaky-queue": {"scope": "global", "burst": 4},
    "concurrency": {"scope": "key-and-name"},
}


@dataclass
class RequestLog:
    """One request to a server: what, by which key, when it was due and sent (unix s), and what became of it."""

    limit: str
    key: int
    due: float
    start: float = 0.0
    end: float = 0.0
    status: int = 0


def arguments(name: str, scope: str, burst: int | None = None, count_rejected: bool = False) -> list[str]:
    """The options of a server."""
    limits = {each: limit for each, limit in LIMITS.items() if (each == "all") == (scope in ("key", "global"))}
    said = ["--algorithm", name, "--limit-scope", scope, *(["--burst", str(burst)] if burst else [])]
    said += ["--count-rejected"] if count_rejected else []
    return said + [part for each, (n, w) in limits.items() for part in ("--limit", f"{each}={n}/{w:g}s")]


class Lane:
    """Keep-alive connections to one server. As lean as can be: on a busy machine a client that is late sees nothing."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, connections: int) -> None:
        """Connect, so that no request has to."""
        self._idle = [await asyncio.open_connection(*self._address) for _ in range(connections)]

    async def send(self, each: RequestLog) -> None:
        """Send a request, and note when, and what was answered when."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        body = b'{"name": "sleep", "parameters": {"ms": 600}}' if each.limit == "sync_run" else b""
        line = b"POST /v1/workflows/run" if body else b"GET /v1/workflows/jobs/none"
        head = b"%b HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\nx-wf-endpoint: t\r\ncontent-length: %d\r\n\r\n"
        each.start = time.time()
        writer.write(head % (line, KEYS[each.key].encode(), len(body)) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        await reader.readexactly(int(length[1]))
        each.end, each.status = time.time(), int(answer.split(maxsplit=2)[1])
        self._idle.append((reader, writer))

    def close(self) -> None:
        """Hang up."""
        for _, writer in self._idle:
            writer.close()


async def ask(lane: Lane, seed: int) -> list[RequestLog]:
    """Ask one server for runs and for jobs that it doesn't have, at random moments."""
    chance, asked, begin, due = random.Random(seed), list[RequestLog](), time.time(), 0.0
    async with asyncio.TaskGroup() as under_way:
        while (due := due + chance.expovariate(RATE)) < SECONDS:
            await asyncio.sleep(begin + due - time.time())
            asked.append(RequestLog(chance.choice(("sync_run", "retrieval")), chance.randrange(len(KEYS)), begin + due))
            under_way.create_task(lane.send(asked[-1]))
    return asked


async def ask_all(urls: list[str]) -> list[list[RequestLog]]:
    """Ask every server at the same time, so that it takes no longer than for one."""
    lanes = [Lane(url) for url in urls]
    for lane in lanes:
        await lane.open(60)
    asked = await asyncio.gather(*(ask(lane, seed) for seed, lane in enumerate(lanes)))
    for lane in lanes:
        lane.close()
    return asked


def ask_new_servers() -> dict[str, list[RequestLog]]:
    """What each server was asked, and what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WORKFLOW_", "LOADTEST_"))}
    command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0"]
    servers = [
        warm.start(
            [*command, *arguments(name, **case)],
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "WORKFLOW_API_KEYS": ",".join(KEYS)},
        )
        for name, case in CASES.items()
    ]
    try:
        urls = []
        for server in servers:
            match = re.search(r"http://\S+$", server.stdout.readline().strip())
            urls.append(match[0])
        return dict(zip(CASES, asyncio.run(ask_all(urls)), strict=True))
    finally:
        for server in servers:
            server.kill()
            server.wait()
            server.stdout.close()


def disturbance(answers: dict[str, list[RequestLog]]) -> float:
    """How long this machine held up a request: the most by which one was sent late, or a quick answer took. Seconds."""
    late = max(each.start - each.due for asked in answers.values() for each in asked)
    # A leaky queue takes its time on purpose.
    quick = (each for name, asked in answers.items() if name != "leaky-queue" for each in asked if each.status != 200)
    return max(late, *(each.end - each.start for each in quick))


@pytest.fixture(scope="module")
def answers() -> dict[str, list[RequestLog]]:
    """The answers of a calm moment, if one comes: what a busy machine reorders says nothing of a limiter.

    Where other tests took the cores, servers are asked again while none runs.
    """
    rounds = [ask_new_servers()]
    if disturbance(rounds[0]) >= CALM_S:
        with workers.alone():
            while len(rounds) <= ALONE and disturbance(rounds[-1]) >= CALM_S:
                rounds.append(ask_new_servers())
    return min(rounds, key=disturbance)


def save(directory: Path, name: str, asked: list[RequestLog]) -> None:
    """Write what was seen as a record."""
    case, epoch = CASES[name], maker.EPOCH / 1e9
    info: RunInfo = maker.info(
        {op: maker.plan(op, [maker.stage("s", 0, SECONDS, RATE)]) for op in ("sync_run", "retrieval")},
        clock=ClockInfo(offset_s=0.0, uncertainty_s=0.01, answers=9),
        epoch_unix_ns=maker.EPOCH,
        target=TargetInfo(
            url="http://127.0.0.1:1",
            embedded=True,
            limits={each: Limit(n, w) for each, (n, w) in LIMITS.items() if each != "all"},
            limit_scope=case["scope"],
            limit_all=Limit(LIMITS["all"][0], LIMITS["all"][1]),
        ),
    )
    # Whole seconds between the record's epoch and now leave the windows where they are.
    moved = round(min(each.start for each in asked) - epoch)
    rows = [
        maker.request(
            each.limit, number, (each.start - moved - epoch) * 1e3, (each.end - moved - epoch) * 1e3, stage="s",
            operation=each.limit, kind={"sync_run": "run"}.get(each.limit, "retrieve"), key_index=each.key,
            status=each.status, outcome={429: "throttled", 404: "failed"}.get(each.status, "ok"),
        )
        for number, each in enumerate(asked)
    ]  # fmt: skip
    maker.save(directory, info, rows)


def agreements(directory: Path, name: str) -> tuple[dict[str, float], float, float]:
    """How much each algorithm explains of what was seen; and the expected and observed share of the right one."""
    case, found, shares = CASES[name], {}, (0.0, 0.0)
    for other, algorithm in ALGORITHMS.items():
        record = load_record(directory)
        record.info.target.limiter = other
        record.info.target.burst = case.get("burst") if algorithm.has_burst else None
        record.info.target.count_rejected = case.get("count_rejected", False) and algorithm.can_count_rejected
        expectation = record.expectation
        found[other] = expectation.agreement or 0.0
        if other == name:
            shares = float(np.nanmean(expectation.rejected)), float((record.sent_requests["status"] == 429).mean())
    return found, *shares


@pytest.mark.parametrize("name", CASES)
def test_a_replay_of_its_own_limiter_explains_a_server(tmp_path, answers, name):
    """The share of 429s is the expected one, and no other algorithm with the same limits explains as much."""
    save(tmp_path / "run", name, answers[name])
    found, expected, observed = agreements(tmp_path / "run", name)
    assert 0.1 < observed < 0.95
    assert expected == pytest.approx(observed, abs=0.05)
    assert found[name] > 0.8  # a busy machine reorders a burst or two
    assert found[name] == max(found.values())


@pytest.mark.parametrize("name", CASES)
def test_a_servers_answers_tell_its_limiter(tmp_path: Path, answers: dict[str, list[RequestLog]], name: str) -> None:
    """It is the one that is named, or among those that cannot be told apart, whatever was assumed."""
    save(tmp_path / "run", name, answers[name])
    record = load_record(tmp_path / "run")
    record.info.target.limiter = "fixed-window" if name != "fixed-window" else "sliding-log"
    told = look_into(record)
    case, explained = CASES[name], []
    for limit, found in told.limits.items():
        if found.inference.word == "nothing":
            continue
        burst = case.get("burst") or {"gcra": 1}.get(name, LIMITS[limit][0] if ALGORITHMS[name].has_burst else None)
        true = next(
            fit
            for fit in found.inference.every
            if (fit.spec.algorithm, fit.spec.burst) == (name, burst)
            and fit.spec.count_rejected == case.get("count_rejected", False)
            and "count" not in fit.fitted
        )
        explained.append(true.explained or 0.0)
        if explained[-1] > 0.97:  # else the machine was too busy to send in order
            assert name in {fit.spec.algorithm for fit in found.inference.named}
    assert max(explained) > 0.9


def test_every_limiter_is_tried() -> None:
    """None is left out."""
    assert set(CASES) == set(ALGORITHMS)
