"""A generator that was the bottleneck knows it: each cause provoked for real, and what the run says of it."""

import time
from itertools import groupby
from typing import Any

import gevent
import pytest

from loadtest.analysis import load_record
from loadtest.analysis.findings import Findings, find
from loadtest.load.health import CpuLoop, Health, note_pause
from loadtest.record.progress import Progress, decode_progress
from loadtest.record.run_info import PauseInfo

CLASSES = """
import gc
import time

import gevent
from gevent import monkey
from loadtest.load.users import SyncRunUser

really_sleep = monkey.get_original("time", "sleep")


class Blocking(SyncRunUser):
    def perform(self, operation):
        super().perform(operation)
        if operation.arrival.number == 20:
            really_sleep(1.5)


class Slow(SyncRunUser):
    def perform(self, operation):
        super().perform(operation)
        really_sleep(0.1)


class Littering(SyncRunUser):
    def perform(self, operation):
        super().perform(operation)
        if operation.arrival.number == 40:
            litter = [[each] for each in range(500_000)]
            until = time.perf_counter() + 1.2
            while time.perf_counter() < until:
                gc.collect()


def burn():
    while True:
        until = time.perf_counter() + 0.03
        while time.perf_counter() < until:
            pass
        gevent.sleep(0.0005)


class Burning(SyncRunUser):
    burning = False

    def on_start(self):
        if not Burning.burning:
            Burning.burning = True
            gevent.spawn(burn)
"""


def run_with(offer: Any, api: Any, *users: str, duration: str = "1s") -> Findings:
    """What is found in a run with user classes of these."""
    (offer.folder / "classes.py").write_text(CLASSES)
    entries = [
        offer.entry(user.lower(), "sync_run", "50/s", duration, f'user = "classes:{user}"\nmax_users = 50\n')
        for user in users
    ]
    run = offer(offer.scenario(*entries), api.url).wait()
    run.check_conservation()
    return find(load_record(run.directory))


def broken(findings: Findings) -> dict[str, str]:
    """The checks that failed, and their words."""
    assert findings.verdict.word == "invalid"
    return {check.name: check.words for check in findings.checks if not check.ok}


def test_classes_that_block_and_litter_are_found_out(offer: Any, open_api: Any) -> None:
    """While the whole event loop is blocked, nothing is sent, and no answer is taken; while half a million objects are
    collected, again and again, neither.
    """
    findings = run_with(offer, open_api, "Blocking", "Littering")
    checks = broken(findings)
    assert "its event loop was blocked" in checks["event loop"]
    assert "garbage collections stopped it" in checks["garbage collection"]
    (own,) = findings.record.info.generators
    assert own.stalls.longest_ms >= 1400
    assert own.collections.count >= 2


@pytest.mark.heavy
def test_a_process_without_cpu_to_spare_is_found_out(offer: Any, open_api: Any) -> None:
    """Users that burn CPU, for longer than the five seconds that are let pass."""
    findings = run_with(offer, open_api, "Burning", duration="8s")
    seconds = findings.record.info.cpu
    assert all(0 <= second.machine <= 100 for second in seconds if second.machine is not None)
    runs = (len(list(alike)) for busy, alike in groupby(seconds, lambda each: each.percent > 90) if busy)
    if max(runs, default=0) < 5:
        pytest.skip("other processes took this machine's cores, so that there was no core to fill")
    assert "above 90 % CPU" in broken(findings)["generator CPU"]


def test_workers_that_fall_behind_say_so_while_the_run_goes_on(offer: Any, open_api: Any) -> None:
    """Each operation blocks its process for twice the time between two arrivals."""
    (offer.folder / "classes.py").write_text(CLASSES)
    slow = offer.entry("slow", "sync_run", "40/s", "60s", 'user = "classes:Slow"\n')
    run = offer(offer.scenario(slow), open_api.url, "--processes", "2")
    lines = map(decode_progress, run.process.stdout)
    first = next(line for line in lines if isinstance(line, Progress) and line.bottleneck)
    assert first.phase == "running"
    assert "cannot keep up" in first.bottleneck
    assert "--processes 3" in first.bottleneck


def test_pauses_that_are_too_short_do_not_count() -> None:
    """Counted from the threshold on; the longest and the sum are of those alone."""
    pauses = PauseInfo()
    for ms in (49, 50, 10, 70):
        note_pause(pauses, ms * 1_000_000, 50_000_000)
    assert (pauses.count, pauses.longest_ms, pauses.total_ms) == (2, 70, 120)


def test_a_watch_that_wakes_late_notes_a_stall() -> None:
    """Whether it wakes again or is stopped before it can; at rest there is none, and figures stay after the stop."""
    now = [time.monotonic_ns()]
    health = Health({}, worker=3, clock=lambda: now[0])
    health.start(now[0])
    gevent.sleep(0)
    now[0] += 250_000_000
    with gevent.Timeout(30):
        while not health.figures().stalls.count:
            gevent.sleep(0)
    assert health.figures().stalls.count == 1
    assert health.figures().stalls.longest_ms == 200
    now[0] += 550_000_000
    health.stop()
    now[0] += 10**9
    figures = health.figures()
    assert (figures.worker, figures.stalls.count, figures.stalls.longest_ms) == (3, 2, 500)
    assert figures.watched_s == 0.8
    health.stop()


def test_the_loop_is_timed_in_bounded_memory() -> None:
    """Its median and what that is uncertain by; of a long run every second time is kept, then every fourth."""
    times = iter([0.5] * 7 + [0.30 if k % 8 < 6 else 0.36 for k in range(5_000)])
    loop = CpuLoop(lambda: next(times))
    assert (loop.info.n, loop.info.p50_ms, loop.info.before_ms, loop.info.se) == (0, None, None, None)
    loop.measure_before()
    for _ in range(9):
        loop.measure()
    assert (loop.info.n, loop.info.before_ms, loop.info.p50_ms, loop.info.se) == (9, 0.5, 0.3, None)
    for _ in range(4_991):
        loop.measure()
    assert (loop.info.n, loop.info.p50_ms) == (5_000, 0.3)
    assert len(loop.kept) <= 600


def test_the_error_of_the_loop_grows_with_what_lasts() -> None:
    """Stretches of the run that differ make the median uncertain; times that differ within each do not."""
    drifting = iter([0.3] * 50 + [0.4] * 50)
    mixed = iter([0.3, 0.3, 0.4, 0.3, 0.3] * 20)
    found = []
    for times in (drifting, mixed):
        loop = CpuLoop(lambda times=times: next(times))
        for _ in range(100):
            loop.measure()
        found.append(loop.info.se)
    assert found == [pytest.approx(0.048, abs=0.002), 0.0]


def test_a_watched_process_times_the_loop() -> None:
    """A few times at the start, and once a second."""
    now = [time.monotonic_ns()]
    health = Health({}, clock=lambda: now[0])
    health.start(now[0])
    assert (health.figures().cpu_loop.before_ms or 0) > 0
    gevent.sleep(0)
    now[0] += 1_100_000_000
    with gevent.Timeout(30):
        while not health.figures().cpu_loop.n:
            gevent.sleep(0)
    health.stop()
    loop = health.figures().cpu_loop
    assert loop.n == 1
    assert (loop.p50_ms or 0) > 0
