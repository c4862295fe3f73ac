"""Records for tests. Traffic against fixed windows is simulated, and written like a real run."""

import functools
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.analysis.findings import Findings, find
from loadtest.analysis.run_record import load_record
from loadtest.limits.limiters import FixedWindow
from loadtest.record import run_directory
from loadtest.record.run_info import (
    ClockInfo,
    CpuSample,
    RunInfo,
    ScenarioInfo,
    StagePlan,
    TargetInfo,
    TrafficPlan,
)
from loadtest.record.samples import Sample, SampleWriter
from loadtest.units import Limit

EPOCH = 1_753_000_000_250_000_000
KIND = {"sync_run": "run", "async_run": "submit", "retrieval": "retrieve"}
LIMIT = {"run": "sync_run", "submit": "async_submit", "poll": "retrieval", "retrieve": "retrieval"}
DOCUMENTED = {"sync_run": (100, 60.0), "async_submit": (1000, 60.0), "retrieval": (500, 60.0)}


def info(traffic: dict[str, TrafficPlan], **changes: Any) -> RunInfo:
    """Return the ``run.json`` of a finished run. ``changes`` replace its values."""
    thresholds = changes.pop("thresholds", [])
    values: dict[str, Any] = {
        "id": "20250720T082640Z-tour-0a1b2c",
        "scenario": ScenarioInfo(
            name="tour", title="Within the limits, then above", hash="3f9c2a7d51e0", effective={"threshold": thresholds}
        ),
        "seed": 7,
        "target": TargetInfo(
            url="http://127.0.0.1:43210",
            embedded=True,
            limits={name: Limit(count, window) for name, (count, window) in DOCUMENTED.items()},
        ),
        "keys": 1,
        "workers": 1,
        "traffic": traffic,
        "versions": {"loadtest": "0.1.0", "locust": "2.47.0", "python": "3.11.9"},
        "machine": {"os": "Linux 6.1", "cpu": "AMD EPYC 7R13", "cores": "2"},
        "command": ["loadtest", "run", "tour"],
        "started": "2025-07-20T08:26:40Z",
        "epoch_unix_ns": EPOCH,
        "ended": "2025-07-20T08:29:45Z",
        "elapsed_s": max((s.start_s + s.duration_s for t in traffic.values() for s in t.stages), default=0.0),
        "end": "finished",
        "clock": ClockInfo(offset_s=0.05, uncertainty_s=0.5, answers=40),
    }
    values.update(changes)
    return RunInfo(**values)


def plan(operation: str, stages: list[StagePlan], offered: int | None = None) -> TrafficPlan:
    """Return the plan of a traffic entry with even arrivals."""
    return TrafficPlan(operation=operation, workflow="sleep", arrivals="even", users=50, offered=offered, stages=stages)


def stage(name: str, start_s: float, duration_s: float, rate: float, **more: Any) -> StagePlan:
    """Return a stage with a constant rate (1/s)."""
    return StagePlan(name=name, start_s=start_s, duration_s=duration_s, rate=rate, rate_to=rate, **more)


def save(directory: Path, run: RunInfo, rows: list[Sample], *, batch: int = 500) -> Path:
    """Write a record. Unless the run is still running, set ``run.samples`` to the number of rows."""
    directory.mkdir(parents=True, exist_ok=True)
    tell_operations(rows)
    writer = SampleWriter(directory)
    for begin in range(0, len(rows), batch):
        writer.write(rows[begin : begin + batch])
    if run.end != "running":
        writer.close()
        if run.samples is None:
            run.samples = len(rows)
    run_directory.save(run, directory)
    return directory


def findings(directory: Path, run: RunInfo, rows: list[Sample], *, batch: int = 500) -> Findings:
    """Write a record, and return its findings."""
    return find(load_record(save(directory, run, rows, batch=batch)))


def tell_operations(rows: list[Sample]) -> None:
    """Set the fields of operation rows that a real run takes from their requests."""
    operations = {(row.traffic, row.arrival): row for row in rows if row.row == "operation"}
    for row in sorted((row for row in rows if row.row == "request"), key=lambda row: row.start or 0):
        mine = operations.get((row.traffic, row.parent_arrival))
        if mine is None or row.outcome != "ok" or row.start is None:
            continue
        if row.kind != "poll":
            mine.accepted_start, mine.accepted_end = row.start, row.end
        if row.operation == "async_run" and (row.kind == "submit" or row.job_state not in ("completed", "failed")):
            mine.pending_seen = row.start


def operation(name: str, number: int, intended_ms: float, end_ms: float | None, **more: Any) -> Sample:
    """Return an operation row of traffic ``name`` in stage ``within``. By default, it starts as intended."""
    start_ms = more.pop("start_ms", intended_ms)
    values: dict[str, Any] = {
        "row": "operation", "traffic": name, "operation": "sync_run", "stage": "within", "outcome": "ok",
        "arrival": number, "attempt": 1, "poll": None, "intended_start": round(intended_ms * 1e6), "user_free": 0,
        "start": None if start_ms is None else round(start_ms * 1e6),
        "end": None if end_ms is None else round(end_ms * 1e6), "status": 200,
    }  # fmt: skip
    return Sample(**{**values, **more})


def request(name: str, parent: int, start_ms: float, end_ms: float | None, **more: Any) -> Sample:
    """Return a request row of traffic ``name`` in stage ``within``."""
    values: dict[str, Any] = {
        "row": "request", "traffic": name, "operation": "sync_run", "stage": "within", "outcome": "ok", "kind": "run",
        "parent_arrival": parent, "attempt": 1, "intended_start": round(start_ms * 1e6),
        "start": round(start_ms * 1e6), "first_byte": None if end_ms is None else round(end_ms * 1e6) - 1000,
        "end": None if end_ms is None else round(end_ms * 1e6), "status": 200, "key_index": 0,
    }  # fmt: skip
    return Sample(**{**values, **more})


def both(
    name: str, number: int, start_ms: float, end_ms: float | None, *, intended_ms: float | None = None, **more: Any
) -> list[Sample]:
    """Return a request, and the operation that consists of it. By default, it starts as intended."""
    intended_ms = start_ms if intended_ms is None else intended_ms
    mine = operation(name, number, intended_ms, end_ms, start_ms=start_ms, **more)
    return [request(name, number, start_ms, end_ms, **more), mine]


@dataclass
class Simulation:
    """A simulation of traffic against a server with aligned fixed windows. Its clock is ``shift_s`` ahead of ours."""

    traffic: dict[str, TrafficPlan]
    seed: int = 1
    shift_s: float = 0.3
    poll_s: float = 2.0
    limits: dict[str, tuple[int, float]] = field(default_factory=lambda: dict(DOCUMENTED))
    error_share: float = 0.0
    frozen_s: tuple[float, float] | None = None
    rows: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # a simulation: not for secrets
        self.limiters = {n: FixedWindow(Limit(c, w)) for n, (c, w) in self.limits.items()}
        self.heap: list[tuple[float, int, Callable[[float], None]]] = []
        self.pushed = 0

    def run(self) -> list[Sample]:
        """Simulate all traffic, and return the rows in the order in which they ended."""
        for name, entry in self.traffic.items():
            number = 0
            for part in entry.stages:
                for k in range(round(part.rate * part.duration_s)):
                    self.at(part.start_s + k / part.rate, self.arrival(name, entry.operation, part.name, number))
                    number += 1
            entry.offered = number
        while self.heap:
            time, _, action = heapq.heappop(self.heap)
            action(time)
        self.rows.sort(key=lambda row: row.end or 0)
        return self.rows

    def at(self, time: float, action: Callable[[float], None]) -> None:
        """Schedule an action at a time."""
        heapq.heappush(self.heap, (time, self.pushed, action))
        self.pushed += 1

    def ask(self, time: float, kind: str, service_s: float, common: dict[str, Any]) -> Sample:
        """Send a request. The limiter decides on it, and the answer comes after ``service_s``."""
        allowed = self.limiters[LIMIT[kind]].decide(EPOCH / 1e9 + time + self.shift_s).allowed
        if self.frozen_s and self.frozen_s[0] <= time < self.frozen_s[1]:
            service_s += self.frozen_s[1] - time
        status, outcome, reason = 200, "ok", None
        if not allowed:
            status, outcome, reason, service_s = 429, "throttled", "throttled", 0.0006
        elif self.random.random() < self.error_share:
            status, outcome, reason = 500, "failed", "unexpected_status"
        row = Sample(
            row="request", outcome=outcome, kind=kind, attempt=1, status=status, reason=reason, key_index=0,
            intended_start=ns(time), start=ns(time + 0.00015), first_byte=ns(time + service_s - 0.0001),
            end=ns(time + 0.00015 + service_s), connection_reused=True, bytes_sent=210, bytes_received=90, **common,
        )  # fmt: skip
        self.rows.append(row)
        return row

    def arrival(self, traffic: str, operation: str, stage_name: str, number: int) -> Callable[[float], None]:
        """Return the action that an arrival starts at its time."""
        common = {"traffic": traffic, "operation": operation, "stage": stage_name, "parent_arrival": number}
        own = {"traffic": traffic, "operation": operation, "stage": stage_name, "arrival": number}

        def done(time: float, first: Sample, last: Sample, polls: int | None, *, gave_up: bool = False) -> None:
            self.rows.append(
                Sample(
                    row="operation",
                    outcome="timed_out" if gave_up else last.outcome,
                    attempt=1,
                    poll=polls,
                    intended_start=ns(time),
                    user_free=max(0, ns(time - 0.5)),
                    start=first.start,
                    end=last.end,
                    status=last.status,
                    reason="give_up" if gave_up else last.reason,
                    execution_time_ms=last.execution_time_ms,
                    **own,
                )
            )

        def start(time: float) -> None:
            execution = 0.25 * math.exp(self.random.gauss(0, 0.4))
            quick = 0.0008 + self.random.expovariate(1 / 0.0004)
            service = execution + quick if operation == "sync_run" else quick
            first = self.ask(time, KIND[operation], service, common)
            if operation != "async_run" or first.status != 200:
                if first.status == 200:
                    first.execution_time_ms = execution * 1e3
                done(time, first, first, None)
                return
            first.status = 202
            ready = time + service + execution * 1.6

            def poll(at: float, k: int) -> None:
                quick = 0.0007 + self.random.expovariate(1 / 0.0003)
                answer = self.ask(at, "poll", quick, common)
                answer.poll = k
                if answer.status == 200 and at >= ready:
                    answer.job_state, answer.execution_time_ms = "completed", execution * 1.6e3
                    done(time, first, answer, k)
                elif k >= 10:
                    done(time, first, answer, k, gave_up=True)
                else:
                    answer.job_state = "pending" if answer.status == 200 else None
                    self.at(at + self.poll_s, lambda t: poll(t, k + 1))

            self.at(time + service + self.poll_s, lambda t: poll(t, 1))

        return start


def ns(seconds: float) -> int:
    """Convert seconds to ns."""
    return round(seconds * 1e9)


def tour_traffic(scale: float = 1.0) -> dict[str, TrafficPlan]:
    """Return the tour's traffic: three operations, a minute within their limits, two above. ``scale`` shortens it."""

    def stages(within: float, above: float) -> list[StagePlan]:
        return [
            stage("warmup", 0, 5 * scale, within, warmup=True),
            stage("within", 5 * scale, 60 * scale, within),
            stage("above", 65 * scale, 120 * scale, above, over=["sync_run"], expect_429=True),
        ]

    return {
        "greetings": plan("sync_run", stages(80 / 60, 250 / 60)),
        "jobs": plan("async_run", stages(200 / 60, 1200 / 60)),
        "lookups": plan("retrieval", stages(100 / 60, 750 / 60)),
    }


@functools.cache
def _tour(only: str | None, scale: float) -> tuple[dict[str, TrafficPlan], list[Sample]]:
    traffic = {name: entry for name, entry in tour_traffic(scale).items() if only in {None, name}}
    return traffic, Simulation(traffic).run()


def tour(directory: Path, only: str | None = None, *, scale: float = 1.0, **changes: Any) -> Path:
    """Write a record of the tour, or of one of its entries. It has about 8000 rows, and its thresholds pass.

    Args:
        directory: the run's directory.
        only: the only entry to record; None for all.
        scale: a factor below 1 shortens the stages. Their 429s then take less time to explain.
        changes: values to replace in run.json.
    """
    traffic, rows = _tour(only, scale)
    cpu = [CpuSample(t_s=float(t), percent=6 + 3 * math.sin(t)) for t in range(1, 186)]
    thresholds = [
        {"require": "requests.throttled == 0", "traffic": "greetings", "stage": "within"},
        {"require": "response_time.p50 < 800ms", "traffic": "greetings", "stage": "within"},
        {"require": "time_to_result.p50 < 5s", "traffic": "jobs", "stage": "within"},
        {"require": "response_time.p95 < 250ms", "traffic": "lookups", "stage": "within"},
        {"require": "throttled_rate within 5% of expected", "traffic": "greetings", "stage": "above"},
        {"require": "throttled_rate within 5% of expected", "traffic": "jobs", "stage": "above"},
    ]
    return save(directory, info(traffic, cpu=cpu, thresholds=changes.pop("thresholds", thresholds), **changes), rows)
