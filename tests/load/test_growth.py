"""Pools grow before they bind, and say what happened when they can't."""

from typing import Any

import psutil
import pytest

SLOW = """
import gevent
from loadtest.load.users import SyncRunUser


class Slow(SyncRunUser):
    def perform(self, operation):
        super().perform(operation)
        gevent.sleep(0.5)
"""
"""Takes longer than any deadline that the scenario knows of."""
SLOWLY = 'timeout = "100ms"\nuser = "slow:Slow"\n'


def test_a_pool_grows_before_it_binds_and_says_when_it_does(offer: Any, open_api: Any) -> None:
    """Users that are busy for longer than the deadline has it: others are made before an arrival has to wait.

    At its cap, arrivals wait, and leave late; how many and how long is known. All are sent, and their response times
    count from the schedule.
    """
    (offer.folder / "slow.py").write_text(SLOW)
    entries = [
        offer.entry(name, "sync_run", "100/s", "1s", SLOWLY + more)
        for name, more in (("free", ""), ("capped", "max_users = 20"))
    ]
    entries.append(offer.entry("single", "sync_run", "30/s", "1s", "max_users = 1\n" + offer.sleep(50)))
    run = offer(offer.scenario(*entries, drain="20s"), open_api.url).wait()
    outcomes = run.check_conservation()
    assert sum(outcomes.values()) == 230
    assert outcomes.keys() <= {"ok", "timed_out"}, "100 ms may be too short on a busy machine"
    assert {name: plan.users for name, plan in run.info.traffic.items()} == {"free": 11, "capped": 11, "single": 1}
    (own,) = run.info.generators
    free, capped = own.pools["free"], own.pools["capped"]
    assert (free.started, free.cap) == (11, 100)
    assert 50 <= free.size <= 100
    assert (capped.started, capped.size, capped.cap) == (11, 20, 20)
    rows = [row for row in run.operations if row["traffic"] == "capped"]
    late = [row["start"] - row["intended_start"] for row in rows if row["user_free"] > row["intended_start"]]
    assert capped.waited >= 70
    assert capped.waited <= len(late)
    assert capped.longest_wait_ms <= max(late) / 1e6
    assert capped.full_s >= 1
    rows = sorted((row for row in run.operations if row["traffic"] == "single"), key=lambda row: row["arrival"])
    assert [row["intended_start"] for row in rows] == [round(k / 30 * 1e9) for k in range(30)]
    for row in rows:
        # Arrival k is served after all before it, 50 ms each, whatever it cost them.
        assert row["end"] >= (row["arrival"] + 1) * 0.05e9
        assert row["user_free"] <= row["start"]
    assert rows[-1]["end"] - rows[-1]["intended_start"] >= 0.5e9


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="this system has no such limit")
def test_a_pool_grows_no_further_than_files_may_be_open(offer: Any, open_api: Any) -> None:
    """A user that could not connect for want of a file would be held against the target: there is none."""
    (offer.folder / "slow.py").write_text(SLOW)
    run = offer(offer.scenario(offer.entry("runs", "sync_run", "100/s", "1s", SLOWLY)), open_api.url, begin_warm=False)
    psutil.Process(run.process.pid).rlimit(psutil.RLIMIT_NOFILE, (80, 95))
    run.wait()
    assert run.check_conservation() == {"ok": 100}
    (own,) = run.info.generators
    pool = own.pools["runs"]
    assert pool.started < pool.size == pool.cap <= 31
    assert "no more files may be open (ulimit -n)" in run.log
