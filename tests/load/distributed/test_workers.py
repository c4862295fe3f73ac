"""Several workers make the load of one: the same arrivals, each exactly once, in one record."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugins.processes import PATIENCE, Fixture, clean_environment, until
from plugins.served import NO_LIMITS

from loadtest.errors import ExitCode


def workers_of(run: Any) -> list[psutil.Process]:
    """Return the worker processes that a load has started, in the order of their starts."""
    found = []
    for child in psutil.Process(run.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "loadtest.load.distributed" in child.cmdline():
                found.append(child)
    return sorted(found, key=lambda process: process.pid)


def started(run: Any) -> bool:
    """Whether its epoch has been set."""
    return run.epoch is not None


def shares(run: Any) -> Counter[int]:
    """Operations in the record so far, by the worker that sent them."""
    return Counter(row["worker"] for row in run.operations)


class Helpers:
    """Workers that tests start by themselves, as another machine would."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, port: int, *, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        """Start one, which a command may run for us."""
        command = [*prefix, sys.executable, "-m", "loadtest.cli", "worker", "--master", f"127.0.0.1:{port}"]
        process = subprocess.Popen(
            [*command, "--scenario-dir", "."],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(WORKFLOW_API_KEYS="local-dev-key", **environment),
        )
        self.processes.append(process)
        return process


@pytest.fixture
def worker() -> Iterator[Helpers]:
    """Start workers; what still runs at the end is killed."""
    helpers = Helpers()
    yield helpers
    for process in helpers.processes:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def mix(offer: Any, duration: str = "1s") -> str:
    """A scenario with even, ramped and Poisson arrivals, and of every operation."""
    poisson = offer.entry("jobs", "async_run", "30/s", duration, 'arrivals = "poisson"')
    return str(
        offer.scenario(
            offer.entry("runs", "sync_run", "81/s", duration),
            poisson,
            offer.entry("looks", "retrieval", "47/s", duration),
        )
    )


@pytest.mark.heavy
def test_any_number_of_workers_sends_the_same(offer: Any, open_api: Any) -> None:
    """With one seed, one process, and 1 and 3 workers offer the same arrivals at the same intended starts."""
    known: set[tuple[Any, ...]] | None = None
    # At once, since most of each is its begin.
    begun = {number: [offer(mix(offer), open_api.url, "--processes", str(number))] for number in (0, 1, 3)}
    for number, first in begun.items():

        def make(number: int = number, first: list[Any] = first) -> Any:
            return first.pop() if first else offer(mix(offer), open_api.url, "--processes", str(number))

        run = offer.undisturbed(make)
        outcomes = run.check_conservation()
        assert outcomes == {"ok": outcomes.total()}
        sent = {
            (row["traffic"], row["arrival"], row["intended_start"], row["stage"], row["key_index"])
            for row in run.operations
        }
        assert known in (None, sent)
        known = sent
        by_worker = shares(run)
        assert by_worker.keys() == (set(range(1, number + 1)) if number else {0})
        assert max(by_worker.values()) - min(by_worker.values()) <= 3, "each entry is shared evenly"
        assert run.info.workers == max(1, number)
        assert [each.end for each in run.info.worker_processes] == ["stayed"] * number
        (peer,) = run.info.peers.values()
        assert peer.connections >= sum(not row["connection_reused"] for row in run.requests) > 0, "all that were made"
        assert {row["request_id"] for row in run.requests}.__len__() == len(run.requests), "ids are never given twice"
        # With several workers, worker 0 is the master, which sends nothing.
        everybody = list(range(number + 1))
        assert [each.worker for each in run.info.generators] == everybody
        assert sum(each.samples for each in run.info.worker_processes) == sum(row["worker"] > 0 for row in run.rows)
        assert {sample.worker for sample in run.info.cpu} <= set(everybody)
        assert run.info.clock is not None


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_what_a_worker_had_not_sent_is_sent_or_lost(offer: Any, open_api: Any) -> None:
    """A worker is killed, leaves by itself, or sleeps and comes back."""
    replace_a_killed_worker(offer, open_api)
    take_over_from_a_leaving_worker(offer, open_api)
    double_nothing_of_a_worker_that_slept(offer, open_api)


def replace_a_killed_worker(offer: Any, open_api: Any) -> None:
    """SIGKILL: arrivals that it had not sent are recorded as lost; soon the remaining workers send the rest."""
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "90/s", "60s")), open_api.url, "--processes", "3")
    until(lambda: started(run) and min(shares(run)[number] for number in (1, 2, 3)) >= 10)
    workers_of(run)[1].kill()
    until(lambda: "is lost" in run.log)
    lost_s = psutil.time.time() - (run.epoch or 0) / 1e9
    until(lambda: len({row["worker"] for row in run.operations if row["intended_start"] / 1e9 > lost_s + 0.5}) == 2)
    assert run.stop(90).keys() == {"ok", "lost"}
    lost = [row for row in run.operations if row["outcome"] == "lost"]
    gone = next(each for each in run.info.worker_processes if each.end == "lost")
    assert {row["worker"] for row in lost} == {gone.worker}
    assert {row["reason"] for row in lost} == {"worker_lost"}
    first, second = run.info.assignments
    assert all(row["intended_start"] / 1e9 <= second.from_s for row in lost)
    assert (first.workers, second.workers) == ([1, 2, 3], [n for n in (1, 2, 3) if n != gone.worker])
    assert [each.lost for each in run.info.generators if each.worker == gone.worker] == [True]


def take_over_from_a_leaving_worker(offer: Any, open_api: Any) -> None:
    """SIGTERM: the remaining workers send its arrivals, also those that waited for its users."""
    entry = offer.entry("runs", "sync_run", "60/s", "6s", "max_users = 6\n" + offer.sleep(120))
    run = offer(offer.scenario(entry, drain="20s"), open_api.url, "--processes", "2")
    until(lambda: started(run) and min(shares(run)[number] for number in (1, 2)) >= 10)
    leaver = workers_of(run)[0]
    leaver.terminate()
    psutil.wait_procs([leaver], PATIENCE)
    run.wait()
    assert run.check_conservation() == {"ok": 360}
    assert sorted(each.end for each in run.info.worker_processes) == ["left", "stayed"]
    assert all(each.left_s is None or each.left_s > 0 for each in run.info.worker_processes)
    assert len(run.info.assignments) == 2


def double_nothing_of_a_worker_that_slept(offer: Any, open_api: Any) -> None:
    """A worker that was stopped until it counted as lost sends no arrival of another worker, and rejoins."""
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "60/s", "60s")), open_api.url, "--processes", "2")
    until(lambda: started(run) and min(shares(run)[number] for number in (1, 2)) >= 10)
    sleeper = workers_of(run)[0]
    sleeper.suspend()
    try:
        until(lambda: "is lost" in run.log)
    finally:
        sleeper.resume()
    awake_s = psutil.time.time() - (run.epoch or 0) / 1e9
    until(lambda: {row["worker"] for row in run.operations if row["intended_start"] / 1e9 > awake_s + 0.5} == {1, 2})
    outcomes = run.stop(60)
    assert outcomes.keys() == {"ok", "lost"}
    assert [len(each.workers) for each in run.info.assignments] == [2, 1, 2]
    assert sorted((each.end, each.returned) for each in run.info.worker_processes) == [("stayed", 0), ("stayed", 1)]


@pytest.mark.heavy
def test_a_worker_that_joins_gets_its_share(offer: Any, open_api: Any, worker: Helpers, free_port: int) -> None:
    """On Locust's own connection: it gets users, and its part of the schedule from a new assignment on."""
    text = offer.scenario(offer.entry("runs", "sync_run", "60/s", "60s"))
    run = offer(text, open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "1")
    first = worker(free_port)
    until(lambda: started(run) and shares(run)[1] >= 30)
    second = worker(free_port)
    until(lambda: shares(run)[2] >= 30)
    assert run.stop(60).keys() == {"ok"}
    assert [each.workers for each in run.info.assignments] == [[1], [1, 2]]
    for each in (first, second):
        assert (each.wait(PATIENCE), "Traceback" in each.communicate()[0]) == (0, False)


@pytest.mark.heavy
def test_a_run_ends_with_its_last_worker_and_with_its_master(offer: Any, open_api: Any) -> None:
    """SIGKILL of all workers aborts the run, which says why. SIGKILL of the master ends the workers, and the record has
    all but about the last second of what they sent.
    """
    text = offer.scenario(offer.entry("runs", "sync_run", "60/s", "60s"))
    orphan, empty = (offer(text, open_api.url, "--processes", "2") for _ in range(2))
    until(lambda: started(empty) and shares(empty).total() >= 40)
    for each in workers_of(empty):
        each.kill()
    until(lambda: started(orphan) and shares(orphan).total() >= 60)
    workers = workers_of(orphan)
    orphan.process.kill()
    empty.wait()
    outcomes = empty.check_conservation(lost=True)
    assert outcomes.keys() <= {"ok", "lost"}
    assert empty.info.end == "aborted"
    assert "every worker was lost" in (empty.info.end_reason or "")
    orphan.wait()
    assert not orphan.info.complete
    assert len(orphan.operations) >= 60
    assert psutil.wait_procs(workers, PATIENCE)[1] == []


@pytest.mark.heavy
def test_an_interrupt_reaches_workers(offer: Any, open_api: Any) -> None:
    """SIGINT to the master: no worker offers more arrivals, requests in flight end, and the record is whole."""
    text = offer.scenario(offer.entry("runs", "sync_run", "50/s", "60s", offer.sleep(40)), drain="30s")
    run = offer(text, open_api.url, "--processes", "2")
    until(lambda: started(run) and shares(run).total() >= 40)
    workers = workers_of(run)
    run.process.send_signal(signal.SIGINT)
    run.wait()
    outcomes = run.check_conservation(ragged=True)
    assert 0 < outcomes["ok"] == outcomes.total() < 3000
    assert (run.info.end, run.process.returncode) == ("interrupted", 0)
    assert psutil.wait_procs(workers, PATIENCE)[1] == []


def test_a_worker_without_a_recording_names_it(offer: Any, open_api: Any, worker: Helpers, free_port: int) -> None:
    """Both processes name the file as their reason, and Locust tries to start no users."""
    (offer.folder / "peak.txt").write_text("0.1 0\n0.2 0\n")
    entry = offer.entry("runs", "sync_run", "20/s", "1s").replace('rate = "20/s"', 'recorded = "peak.txt"')
    run = offer(offer.scenario(entry), open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "1")
    elsewhere = worker(free_port)
    assert elsewhere.wait(PATIENCE) == 2
    said = elsewhere.communicate()[0]
    assert "peak.txt" in said
    assert "Traceback" not in said
    run.process.wait(PATIENCE)
    assert run.info.end == "aborted"
    assert "peak.txt" in (run.info.end_reason or "")


@pytest.mark.heavy
def test_a_worker_with_other_keys_is_refused(offer: Any, open_api: Any, worker: Helpers, free_port: int) -> None:
    """Keys never travel, so they must be equal everywhere. The worker ends with this message; the master waits on."""
    text = offer.scenario(offer.entry("runs", "sync_run", "20/s", "1s"))
    run = offer(text, open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "1", keys="alpha,beta")
    refused = worker(free_port)
    assert refused.wait(PATIENCE) == 2
    said = refused.communicate()[0]
    assert "2 API key(s), this worker has 1" in said
    assert "Traceback" not in said
    run.process.send_signal(signal.SIGINT)
    run.wait()
    assert run.process.returncode == ExitCode.INTERRUPTED
    assert "0 of 1 workers" in run.said[-1].decode()


@pytest.mark.heavy
def test_the_ids_of_jobs_are_known_to_all_workers(offer: Any, open_api: Any, serve: Fixture) -> None:
    """Retrievals of every worker ask for jobs that another worker submitted.

    If the target gives the id of the job before, each submit of another job's is a failure, whichever worker sent it.
    """
    jobs = offer.entry("jobs", "async_run", "20/s", "3s")
    looks = offer.entry("looks", "retrieval", "31/s", "3s", 'job_ids = "run"\nworkflow = "echo"')
    asking = offer.undisturbed(lambda: offer(offer.scenario(jobs, looks), open_api.url, "--processes", "2"))
    target = serve(*NO_LIMITS, "--fault", "duplicate-result,what=id,probability=30%")
    text = offer.scenario(offer.entry("jobs", "async_run", "40/s", "2s", 'polling = { interval = "50ms" }'))
    doubled = offer.undisturbed(lambda: offer(text, target.url, "--processes", "2"))

    outcomes = doubled.check_conservation()
    submits = [row for row in doubled.requests if row["kind"] == "submit"]
    makers: dict[str, set[int]] = {}
    for row in submits:
        makers.setdefault(row["job_id"], set()).add(row["worker"])
    assert any(len(each) == 2 for each in makers.values())
    assert outcomes == {"ok": len(makers), "failed": len(submits) - len(makers)}
    assert {row["reason"] for row in doubled.operations} == {None, "duplicate_job_id"}

    asking.check_conservation()
    made = {row["job_id"]: row["worker"] for row in asking.requests if row["kind"] == "submit"}
    asked = [(row["worker"], made[row["job_id"]]) for row in asking.requests if row["kind"] == "retrieve"]
    assert {(asker, maker) for asker, maker in asked if asker != maker} == {(1, 2), (2, 1)}
    assert len((asking.directory / "job_ids.txt").read_text().splitlines()) == 60


@pytest.mark.heavy
def test_a_refused_key_ends_the_run_and_is_written_nowhere(offer: Any, open_api: Any) -> None:
    """Three refusals in a row of any workers end the run. The key is neither in their arguments nor in its files."""
    key = "a-secret-that-nobody-may-see"
    text = offer.scenario(offer.entry("runs", "sync_run", "40/s", "30s"))
    run = offer(text, open_api.url, "--processes", "2", keys=key)
    seen: set[str] = set()
    while run.process.poll() is None and not started(run):
        seen |= {word for each in workers_of(run) for word in each.cmdline()}
    run.wait()
    run.check_conservation(ragged=True)
    assert run.info.end == "aborted"
    assert "refused the key" in (run.info.end_reason or "")
    assert any(re.fullmatch(r"127\.0\.0\.1:\d+", word) for word in seen)
    texts = [*seen, *(path.read_bytes().decode("latin-1") for path in Path(run.directory).iterdir() if path.is_file())]
    assert all(key not in text for text in texts)


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a clock of its own needs a time namespace")
def test_a_worker_with_another_clock_is_on_time(offer: Any, open_api: Any, worker: Helpers, free_port: int) -> None:
    """Its monotonic clock is 1000 s ahead, as another machine's might be; its sends are where they belong."""
    unshare = ("unshare", "--time", "--monotonic", "1000", "--fork")
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no time namespace")
    text = offer.scenario(offer.entry("runs", "sync_run", "40/s", "3s"))
    run = offer(text, open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "2")
    worker(free_port)
    worker(free_port, prefix=unshare)
    run.wait()
    assert run.check_conservation() == {"ok": 120}
    ahead = next(each for each in run.info.worker_processes if not each.shared_clock)
    assert abs(ahead.offset_ms - 1_000_000) <= ahead.uncertainty_ms + 0.01
    late = sorted((row["start"] - row["intended_start"]) / 1e6 for row in run.operations)
    assert late[0] >= -2 * ahead.uncertainty_ms
    assert late[len(late) // 2] < 1000
