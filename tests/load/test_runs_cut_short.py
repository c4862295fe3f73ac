"""Runs that somebody or something ends before their time: what there is of a record is whole and says so."""

import contextlib
import os
import resource
import signal
import time
from typing import Any

from plugins.processes import Fixture, until


def test_an_interrupted_run_is_whole(offer: Any, open_api: Any) -> None:
    """SIGINT in mid-run: no further arrival is offered, those offered have outcomes, and the record says so."""
    text = offer.scenario(offer.entry("runs", "sync_run", "100/s", "60s", offer.sleep(40)), drain="30s")
    run = offer(text, open_api.url)
    until(lambda: run.epoch and len(run.operations) >= 20)
    run.process.send_signal(signal.SIGINT)
    run.wait()
    outcomes = run.check_conservation()
    assert 0 < outcomes["ok"] == outcomes.total() < 6000
    assert (run.info.end, run.process.returncode) == ("interrupted", 0)


def test_an_interrupt_ends_a_drain_early(offer: Any, open_api: Any) -> None:
    """While the end waits for what is in flight, an interrupt shortens the waiting."""
    text = offer.scenario(
        offer.entry("runs", "sync_run", "10/s", "500ms", 'timeout = "60s"\n' + offer.sleep(50_000)), drain="60s"
    )
    run = offer(text, open_api.url)
    while b'"draining"' not in run.process.stdout.readline():
        pass
    run.process.send_signal(signal.SIGTERM)
    run.wait()
    assert run.check_conservation() == {"timed_out": 5}
    assert run.info.end == "interrupted"


def test_an_interrupt_ends_seeding(offer: Any, peer: Fixture) -> None:
    """A target that never answers cannot hold up whoever wants to leave before the run began."""
    server = peer(lambda talk: (talk.read(), talk.wait()))
    run = offer(
        offer.scenario(offer.entry("looks", "retrieval", "10/s", "1s", 'timeout = "60s"')),
        f"http://127.0.0.1:{server.port}",
    )
    until(lambda: server.requests)
    run.process.send_signal(signal.SIGINT)
    run.wait()
    assert run.check_conservation().total() == 0
    assert (run.info.end, run.process.returncode) == ("interrupted", 0)


def test_a_parent_that_does_not_read_holds_up_nothing_and_its_end_ends_the_run(offer: Any, open_api: Any) -> None:
    """Progress is dropped where nobody reads it; the load goes on as scheduled. Once our input is closed, it ends by
    itself, with its record closed.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "40/s", "60s")), open_api.url, stdout=writing)
    os.close(writing)
    try:
        until(lambda: run.epoch and len(run.operations) >= 40)
        run.process.stdin.close()
        until(lambda: run.process.poll() is not None)
    finally:
        os.close(reading)
    assert run.check_conservation().keys() == {"ok"}
    assert run.info.end == "interrupted"


def test_a_killed_run_keeps_all_but_its_last_second(offer: Any, open_api: Any) -> None:
    """SIGKILL: every arrival up to about a second before it is in the record, which says that it is incomplete."""
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "200/s", "60s")), open_api.url)
    until(lambda: run.epoch and len(run.operations) >= 300)
    lived = (time.time_ns() - (run.epoch or 0)) / 1e9
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    assert not run.info.complete
    assert run.info.end == "running"
    kept = sorted(row["arrival"] for row in run.operations)
    assert kept == list(range(len(kept)))
    assert len(kept) >= (lived - 1.5) * 200 - 1
    assert len((run.directory / "job_ids.txt").read_text()) == 0


def test_a_full_disk_ends_the_run_with_a_sentence(offer: Any, open_api: Any) -> None:
    """What cannot be recorded is not sent any longer, and the exit code says that the record is not whole."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        run = offer(offer.scenario(offer.entry("runs", "sync_run", "200/s", "30s")), open_api.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run.wait()
    assert run.process.returncode == 3
    assert b"cannot write the record" in run.said[-1]
    assert len(run.operations) < 3000
    assert (run.info.end, run.info.end_reason.endswith("File too large")) == ("aborted", True)
