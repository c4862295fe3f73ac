"""Clients that hang up, runs that take too long, servers that stop: nobody's work goes on for nobody."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plugins.openapi_answers import expect_error
from plugins.processes import until
from plugins.wire import RUN, connect, post

JOBS = "/v1/workflows/jobs"
MODULE = '''
import asyncio
import time
from pathlib import Path

from loadtest.reference_api import cancelled

MARKS = Path(__file__).with_name("marks")


def _mark(text):
    with MARKS.open("a") as marks:
        marks.write(text + "\\n")


def ask(label: str):
    """Works until nobody waits any more."""
    _mark(f"start {label}")
    while not cancelled():
        sum(range(1000))
    _mark(f"stopped {label}")
    return {}


async def nap(label: str):
    """Waits for ever."""
    _mark(f"start {label}")
    try:
        await asyncio.Event().wait()
    finally:
        _mark(f"left {label}")
    _mark(f"end {label}")


async def deaf(label: str):
    """Won't be told, once."""
    _mark(f"start {label}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        _mark(f"left {label}")
    return {}


async def deafest():
    """Won't ever be told."""
    _mark("start deafest")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


def block(seconds: float):
    """Sits in C code, where nothing can reach it."""
    _mark("start block")
    time.sleep(seconds)
    _mark("end block")
    return {}


def quick(label: str = "quick"):
    _mark(f"start {label}")
    return {}
'''


class Slow:
    """A server whose workflows leave marks, and which has one thread."""

    def __init__(self, launch: Any, folder: Path, *options: str) -> None:
        (folder / "slow.py").write_text(MODULE)
        options = ("--limit", "sync_run=1000000/s", *options)
        self.served = launch("--workflows", str(folder / "slow.py"), "--threads", "1", *options)
        self.folder = folder

    def marks(self, *labels: str) -> list[str]:
        """What was left, by workflows with these labels, in order."""
        file = self.folder / "marks"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.split()[-1] in labels]

    @contextmanager
    def asking(self, workflow: str, label: str) -> Iterator[socket.socket]:
        """A run that was sent, and whose client is gone at the end."""
        with connect(self.served) as connection:
            connection.sendall(post({"name": workflow, "parameters": {"label": label}}))
            yield connection

    def caught_up(self) -> None:
        """Return when the server has seen all that was sent, and who hung up: the loop takes events in order."""
        assert self.served.client().get("/healthz").status_code == 200

    def run(self, name: str, **parameters: Any) -> Any:
        return self.served.client().post(RUN, json={"name": name, "parameters": parameters})


@pytest.fixture(scope="module")
def slow(launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Slow:
    return Slow(launch, tmp_path_factory.mktemp("slow"))


@pytest.fixture(scope="module")
def brief(launch: Any, tmp_path_factory: pytest.TempPathFactory) -> Slow:
    """One with a time limit of 400 ms."""
    return Slow(launch, tmp_path_factory.mktemp("brief"), "--run-timeout", "0.4")


WAYS = [("ask", "stopped ask"), ("nap", "left nap"), ("deaf", "left deaf")]


@pytest.mark.parametrize(("workflow", "says"), WAYS)
def test_a_hung_up_clients_run_is_stopped(slow: Slow, workflow: str, says: str) -> None:
    """Wherever it is: it leaves, doesn't end, and its thread is free for the next."""
    with slow.asking(workflow, workflow):
        until(lambda: slow.marks(workflow) == [f"start {workflow}"])
    until(lambda: len(slow.marks(workflow)) > 1)
    assert slow.run("quick", label=f"after-{workflow}").status_code == 200
    assert slow.marks(workflow, f"after-{workflow}") == [f"start {workflow}", says, f"start after-{workflow}"]


def test_a_run_that_waits_for_a_thread_never_starts(slow: Slow) -> None:
    """Its client hung up while another one's run had the only thread."""
    with slow.asking("ask", "first"):
        until(lambda: slow.marks("first"))
        with slow.asking("quick", "second"):
            slow.caught_up()
        slow.caught_up()
    assert slow.run("quick", label="third").status_code == 200
    assert slow.marks("first", "second", "third") == ["start first", "stopped first", "start third"]


def test_clients_that_hang_up_by_the_hundred_leave_a_whole_server(slow: Slow) -> None:
    """Their runs wait for the thread, have it, or end just then; afterwards it is there for the next."""
    for number in range(200):
        with slow.asking(("ask", "nap", "quick")[number % 3], str(number)):
            if number % 4 == 0:
                slow.caught_up()
    assert slow.run("quick", label="last").status_code == 200
    assert slow.run("sleep", ms=1).status_code == 200


def test_jobs_go_on_without_their_client(slow: Slow) -> None:
    """A submit's connection may end: its job is for later."""
    client = slow.served.client()
    job = client.post(JOBS, json={"name": "sleep", "parameters": {"ms": 100}}).json()["jobId"]
    client.close()
    client = slow.served.client()
    until(lambda: client.get(f"{JOBS}/{job}").json()["status"] == "completed")


@pytest.mark.parametrize(("workflow", "says"), WAYS)
def test_a_run_beyond_the_time_limit_is_stopped_and_answered(brief: Slow, workflow: str, says: str) -> None:
    """500 `run_timeout`, with the limit and the time that it took; the work does not go on."""
    details = expect_error(brief.run(workflow, label=workflow), 500, "run_timeout")
    assert (details["workflow"], details["timeLimitMs"]) == (workflow, 400)
    assert details["executionTime"] > 0
    until(lambda: len(brief.marks(workflow)) > 1)
    # On a busy machine even this one may need more than the limit.
    until(lambda: brief.run("quick", label=f"after-{workflow}").status_code == 200)
    assert brief.marks(workflow, f"after-{workflow}")[:3] == [f"start {workflow}", says, f"start after-{workflow}"]


def test_a_job_has_the_time_that_it_needs_until_the_server_stops(launch: Any, tmp_path: Path) -> None:
    """The time in the queue for a thread counts, so that a caller gets its answer in time; jobs have no limit.

    A server that stops tells jobs in threads and on the loop to leave, and exits with 0.
    """
    slow = Slow(launch, tmp_path, "--run-timeout", "0.1")
    client = slow.served.client()
    job = client.post(JOBS, json={"name": "ask", "parameters": {"label": "job"}}).json()["jobId"]
    client.post(JOBS, json={"name": "nap", "parameters": {"label": "nap"}})
    until(lambda: len(slow.marks("job", "nap")) == 2)
    details = expect_error(slow.run("quick"), 500, "run_timeout")
    assert details == {"workflow": "quick", "timeLimitMs": 100, "executionTime": 0}
    assert client.get(f"{JOBS}/{job}").json()["status"] == "pending"
    assert slow.served.stop()[::2] == (0, "")
    assert slow.marks("quick") == []
    assert [len(slow.marks(label)) for label in ("job", "nap")] == [2, 2]
    assert {"stopped job", "left nap"} < set(slow.marks("job", "nap"))


@pytest.mark.parametrize(("workflow", "parameters"), [("block", {"seconds": 3600}), ("deafest", {})])
def test_a_stopping_server_does_not_wait_for_what_cannot_be_stopped(launch, tmp_path, workflow, parameters):
    """A function in blocking C code, or a coroutine that ignores its end, ends with the process, and that is said."""
    slow = Slow(launch, tmp_path)
    slow.served.client().post(JOBS, json={"name": workflow, "parameters": parameters})
    until(lambda: slow.marks(workflow) == [f"start {workflow}"])
    code, _, errors = slow.served.stop()  # it would wait 20 s
    assert code == 0
    assert "1 workflow function did not stop" in errors
