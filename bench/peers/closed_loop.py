"""One side of ``bench/client_cpu.py``: Locust users that ask again as soon as they are answered, and record it.

Run: ``python bench/peers/closed_loop.py SIDE PORT USERS SECONDS``. Prints requests, failures and samples, seconds and
CPU seconds as JSON. ``client`` asks through WorkflowClient, ``fasthttp`` through Locust's FastHttpUser; around both are
the same Locust loop, the same recorder and Locust's statistics. ``whole`` are the harness's own users, which carry out
arrivals and record operations, too.
"""

import locust  # isort: skip - first, since it patches the interpreter

import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import gevent
import msgspec
from locust.env import Environment

from loadtest.load.client import RunAnswer, WorkflowClient
from loadtest.load.operation import request_sample
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import SyncRunUser
from loadtest.prepare import prepare_run
from loadtest.record.samples import Sample
from loadtest.scenario import load_scenario
from loadtest.schedule import Arrival
from loadtest.targets import allow

SCENARIO: Final = """
title = "Closed loop"
seed = 1
[traffic.runs]
operation = "sync_run"
workflow = "say-hello"
parameters = { name = "World" }
max_users = {users}
stages = [{ name = "steady", rate = "1/s", duration = "600s" }]
"""
ENTRY, STAGE, KEY, WHO = "runs", "steady", "local-dev-key", "bench"
SETTLE_S: Final = 1.0
"""From the begin to where measuring begins: connections are made, and code is warm."""
_sessions: list[Session] = []


class Lean(locust.User):
    """Asks through the harness's client."""

    wait_time = locust.constant(0)

    def on_start(self) -> None:
        """Have a connection of its own."""
        self.session = _sessions[0]
        self.entry = self.session.entries[ENTRY]
        self.client = WorkflowClient(self.session.endpoint, self.entry.timeouts)
        self.body = self.entry.bodies.of(0)

    @locust.task
    def ask(self) -> None:
        """Send one run and record it; Locust is told by the session."""
        session = self.session
        trace = session.traceparent(session.trace_id(self.entry, 0))
        begun = session.since_epoch(time.monotonic_ns())
        answer = self.client.post("run", self.body, 0, trace)
        session.record(
            request_sample(
                session, self.entry, answer, kind="run", trace=trace, stage=STAGE, key_index=0, intended=begun
            )
        )


class Plain(locust.FastHttpUser):
    """Asks through Locust's fastest client."""

    wait_time = locust.constant(0)

    def on_start(self) -> None:
        """Have everything at hand that does not change."""
        self.session = _sessions[0]
        self.entry = self.session.entries[ENTRY]
        self.body = self.entry.bodies.of(0)
        self.headers = {"x-api-key": KEY, "x-wf-endpoint": WHO, "content-type": "application/json"}
        self.decode = msgspec.json.Decoder(RunAnswer).decode

    @locust.task
    def ask(self) -> None:
        """Send one run and record it; Locust is told by its client."""
        session = self.session
        trace = session.traceparent(session.trace_id(self.entry, 0))
        start = session.since_epoch(time.monotonic_ns())
        answer = self.client.post(
            "/v1/workflows/run", data=self.body, headers={**self.headers, "traceparent": trace}, name=ENTRY
        )
        end = session.since_epoch(time.monotonic_ns())
        content = answer.content
        said = self.decode(content)
        session.recorder.append(
            Sample(
                row="request",
                traffic=ENTRY,
                operation="sync_run",
                stage=STAGE,
                outcome="ok",
                kind="run",
                attempt=1,
                intended_start=start,
                start=start,
                first_byte=end,
                end=end,
                connection_reused=True,
                status=answer.status_code,
                execution_time_ms=said.execution_time,
                bytes_sent=len(self.body),
                bytes_received=len(content),
                key_index=0,
                request_id=trace,
            )
        )


class Whole(SyncRunUser):
    """Carries out arrivals, as in a run, which come as soon as it is free."""

    traffic_name = ENTRY

    def wait_time(self) -> float:
        """Take an arrival that is intended now."""
        self.free_ns = time.monotonic_ns()
        self._arrival = Arrival(ENTRY, 0, STAGE, self.free_ns - self.session.epoch_ns)
        return 0.0


def measured(session: Session, seconds: float) -> dict[str, float]:
    """Let them ask, and count between two moments."""
    stats = session.environment.stats  # made anew at the begin, so that its total is asked for when it is wanted

    def recorded() -> int:
        return session.recorder.count + len(session.recorder._buffer)  # noqa: SLF001 - what waits to be written counts

    gevent.sleep(SETTLE_S)
    gc.collect()
    gc.freeze()
    requests, samples = stats.total.num_requests, recorded()
    begun, used = time.monotonic_ns(), time.process_time_ns()
    gevent.sleep(seconds)
    used, took = time.process_time_ns() - used, time.monotonic_ns() - begun
    return {
        "requests": stats.total.num_requests - requests,
        "failures": stats.total.num_failures,
        "samples": recorded() - samples,
        "seconds": took / 1e9,
        "cpu_s": used / 1e9,
    }


def main() -> None:
    """Be the side that is asked for."""
    side, port, users, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "closed.toml"
        path.write_text(SCENARIO.replace("{users}", str(users)))
        loaded = load_scenario(path)
        directory, info = prepare_run(
            loaded, url=url, embedded=False, keys=1, command=["bench"], output_dir=Path(folder)
        )
        environment = Environment(user_classes=[{"client": Lean, "fasthttp": Plain, "whole": Whole}[side]], host=url)
        endpoint = make_endpoint(allow(url), [KEY], WHO, info)
        session = Session(environment, directory, info, loaded.scenario, endpoint, base=Path(folder))
        session.epoch_ns = time.monotonic_ns()
        _sessions.append(session)
        runner = environment.create_local_runner()
        runner.start(users, spawn_rate=users)
        print(json.dumps(measured(session, seconds)), flush=True)
        runner.quit()
        session.recorder.close()


if __name__ == "__main__":
    main()
