"""Whole runs of the load in its own process: nothing that was offered is lost, whatever the target does."""

import random
import signal
import threading
from typing import Any

from plugins.processes import Fixture, until


def some_scenario(offer: Any, seed: int) -> str:
    """A scenario that a seed decides on: entries of all operations, of any rate, pool and duration of work."""
    dice = random.Random(seed)
    entries = []
    for number in range(6):
        # An async_run at least, whose jobs a retrieval of the run's own can ask for.
        operation = dice.choice(["sync_run", "async_run", "retrieval"]) if number else "async_run"
        lines = [f'arrivals = "{dice.choice(["even", "poisson"])}"']
        lines.append(f"max_users = {dice.choice([1, 3, 50])}")
        lines.append(f'timeout = "{dice.choice(["50ms", "5s"])}"')
        lines.append(dice.choice(['workflow = "echo"', 'workflow = "fail"', offer.sleep(dice.choice([5, 100, 3000]))]))
        if operation == "async_run":
            lines.append(f'polling = {{ interval = "{dice.choice([20, 300])}ms", give_up = "{dice.choice([1, 9])}s" }}')
        if operation == "retrieval":
            lines = [line for line in lines if "workflow" not in line]
            lines += [f'job_ids = "{dice.choice(["seeded", "run"])}"', 'workflow = "echo"']
        rates = [dice.choice([0, 7, 60, 200]) for _ in range(3)]
        stages = [
            f'{{ name = "one", rate = "{rates[0]}/s", ramp_to = "{rates[1] + 1}/s", duration = "700ms" }}',
            f'{{ name = "two", rate = "{rates[2]}/s", duration = "{dice.choice([300, 500])}ms" }}',
        ]
        body = "\n".join(lines)
        entries.append(f'[traffic.t{number}]\noperation = "{operation}"\n{body}\nstages = [{", ".join(stages)}]\n')
    return f'title = "t"\nseed = {seed}\nwarmup = "200ms"\ndrain = "1s"\n' + "".join(entries)


def test_every_arrival_ends_in_exactly_one_outcome(offer: Any, serve: Fixture) -> None:
    """Whatever the scenario, pools too small and limits among it: numbers 0 to n-1 of each entry appear once each."""
    limits = ("--limit", "sync_run=30/1s", "--limit", "async_submit=40/1s", "--limit", "retrieval=60/1s")
    runs = [offer(some_scenario(offer, seed), serve(*limits).url) for seed in (40, 53)]
    for run in runs:
        run.wait().check_conservation()
        assert run.process.returncode == 0
        # Workflows that fail may have been too many for the breaker of 5xx: then nothing is lost either.
        assert run.info.end == "finished" or "5xx" in (run.info.end_reason or "")
        for row in run.requests:
            assert row["start"] <= (row["first_byte"] or row["start"]) <= row["end"]
        for row in run.operations:
            if row["start"] is not None:
                assert row["start"] >= row["intended_start"]


def test_no_omission_is_coordinated(offer: Any, serve: Fixture) -> None:
    """The target freezes for a second: the schedule goes on, and who arrived meanwhile waited as long as it took.

    A closed loop would have sent nothing, and shown one slow request for each of its users.
    """
    target = serve("--limit", "retrieval=1000000/s")
    text = offer.scenario(offer.entry("looks", "retrieval", "200/s", "3s", "max_users = 300"))
    run = offer(text, target.url)
    until(lambda: run.epoch)
    target.signal(signal.SIGSTOP)
    threading.Timer(1.0, target.signal, [signal.SIGCONT]).start()
    run.wait()
    assert run.check_conservation() == {"ok": 600}
    assert sum(row["end"] - row["intended_start"] >= 0.5e9 for row in run.operations) >= 60
    assert sum(row["end"] - row["start"] >= 0.5e9 for row in run.operations) >= 60, "sent while it was frozen"


def test_a_target_frozen_beyond_the_drain_loses_nothing(offer: Any, serve: Fixture) -> None:
    """Frozen to the end: what was in flight is timed out by the drain, what waited is dropped, and the run ends."""
    target = serve("--limit", "retrieval=1000000/s", "--limit", "async_submit=1000000/s")
    text = offer.scenario(
        offer.entry("looks", "retrieval", "50/s", "2s", "max_users = 10"),
        offer.entry("jobs", "async_run", "20/s", "2s", 'polling = { interval = "50ms", give_up = "5s" }'),
        drain="300ms",
    )
    run = offer(text, target.url)
    until(lambda: run.epoch)
    target.signal(signal.SIGSTOP)
    try:
        run.wait()
    finally:
        target.signal(signal.SIGCONT)
    outcomes = run.check_conservation()
    assert outcomes["timed_out"] >= 10
    assert outcomes["dropped"] >= 10
    cut = [row for row in run.operations if row["outcome"] == "timed_out"]
    assert {row["reason"] for row in cut} == {"drain"}
    assert all(row["end"] >= row["start"] >= 0 for row in cut)
    sent = [row for row in run.requests if row["outcome"] == "timed_out"]
    assert len(sent) >= 10
    assert all(row["status"] is None and row["bytes_sent"] >= 0 for row in sent)


def test_a_target_that_dies_is_data(offer: Any, serve: Fixture) -> None:
    """Killed in mid-run: the rest is failed with a reason, the load ends well, and nobody raised."""
    target = serve("--limit", "sync_run=1000000/s")
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "150/s", "3s", offer.sleep(30))), target.url)
    until(lambda: run.epoch and run.operations)
    target.signal(signal.SIGKILL)
    run.wait()
    outcomes = run.check_conservation()
    assert outcomes["ok"] > 0
    assert outcomes["failed"] > 50
    assert outcomes["ok"] + outcomes["failed"] == 450
    reasons = {row["reason"] for row in run.operations if row["outcome"] == "failed"}
    assert "connection_refused" in reasons
    # A connection that was being made when the target died is reset: it failed to connect, and was not refused.
    broken = {"connect_failed", "connection_reset", "connection_closed", "hung_up", "truncated"}
    assert reasons <= {"connection_refused", *broken}


def test_a_target_that_answers_anything_is_data(offer: Any, peer: Fixture) -> None:
    """Garbage, resets, silence, half answers by turns, over Locust and gevent: outcomes with reasons, no exception."""
    answers = [
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<b>no",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        b"",
    ]

    def script(talk: Any) -> None:
        talk.read()
        turn = len(talk.peer.requests)
        talk.send(answers[turn % len(answers)])
        if turn % 3 == 0:
            talk.reset()
        elif turn % 3 == 1:
            talk.wait()

    server = peer(script)
    text = offer.scenario(offer.entry("runs", "sync_run", "120/s", "1s", 'timeout = "200ms"'), drain="2s")
    run = offer(text, f"http://127.0.0.1:{server.port}").wait()
    outcomes = run.check_conservation()
    assert outcomes.keys() == {"failed", "timed_out"}
    reasons = {row["reason"] for row in run.operations}
    assert reasons >= {"malformed_http", "wrong_shape", "invalid_json", "redirect", "unexpected_status", "timeout"}
    assert len(server.requests) <= 120, "nothing is sent twice, and no redirect is followed"
