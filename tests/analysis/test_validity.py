"""Budgets of what generators know of themselves: beyond one, a run is invalid, and says which and what to do."""

from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.record.run_info import GeneratorInfo, PauseInfo, PoolInfo, WorkerInfo


def found(directory: Path, *, bunched: bool = False, offered: int = 1000, **changes: Any) -> Findings:
    """A run of 100/s for 10 s that nothing else is wrong with; bunched: sent ten at a time, each at its turn's end."""
    made = []
    for k in range(1000):
        intended = k * 10.0
        start = (k // 30 + 1) * 300.0 if bunched else intended
        # A user that was busy until then is no lateness of ours.
        made += [
            maker.request("t", k, start, start + 5),
            maker.operation("t", k, intended, start + 5, start_ms=start, user_free=round(start * 1e6)),
        ]
    run = maker.info(
        {"t": maker.plan("sync_run", [maker.stage("within", 0, 10, 100)], offered=offered)}, thresholds=[], **changes
    )
    return maker.findings(directory, run, made)


def pauses(count: int, longest_ms: float, total_ms: float) -> PauseInfo:
    """Some pauses."""
    return PauseInfo(count=count, longest_ms=longest_ms, total_ms=total_ms)


def own(**changes: Any) -> list[GeneratorInfo]:
    """One process, watched for 100 s."""
    return [GeneratorInfo(watched_s=100.0, **changes)]


def pool(waited: int, size: int = 20, cap: int = 20) -> dict[str, PoolInfo]:
    """A pool in which some arrivals waited."""
    return {"t": PoolInfo(started=20, size=size, cap=cap, waited=waited, longest_wait_ms=300.0, full_s=1.5)}


@pytest.mark.parametrize(
    ("generators", "words"),
    [
        (own(stalls=pauses(1, 1200, 900)), "its event loop was blocked for 0.9 s in all, 1.2 s at most; look for"),
        (own(stalls=pauses(20, 100, 1100)), "its event loop was blocked for 1.1 s in all"),
        (own(collections=pauses(30, 40, 1100)), "garbage collections stopped it for 1.1 s in all, 0.04 s at most;"),
        (own(pools=pool(11)), "the pool of 20 users of t was full: for 1.5 s, 11 arrivals waited up to 300 ms; raise"),
        (own(pools=pool(11, cap=50)), "the pool of t grew too slowly"),
        ([*own(), GeneratorInfo(worker=2, watched_s=2.0, stalls=pauses(9, 90, 600))], "bottleneck of worker 2"),
    ],
    ids=["one long stall", "many stalls", "garbage", "full pool", "slow growth", "one of two"],
)
def test_beyond_a_budget_a_run_is_invalid(tmp_path: Path, generators: list[GeneratorInfo], words: str) -> None:
    """The reason says which budget, by how much, and what to do about it."""
    verdict = found(tmp_path / "run", generators=generators).verdict
    assert verdict.word == "invalid"
    assert [words in reason for reason in verdict.reasons] == [True]


@pytest.mark.parametrize(
    "generators",
    [
        own(stalls=pauses(10, 990, 990), collections=pauses(10, 990, 990), pools=pool(10)),
        [GeneratorInfo(watched_s=1.0, stalls=pauses(4, 150, 490), collections=pauses(4, 150, 490))],
        [],
    ],
    ids=["at the edge", "a short run", "an older record"],
)
def test_within_its_budgets_a_run_is_valid(tmp_path: Path, generators: list[GeneratorInfo]) -> None:
    """Pauses and waits that don't reach the p99 are told, not judged; a short run may have some."""
    assert found(tmp_path / "run", generators=generators).verdict.word == "pass"


def test_a_pool_that_was_full_says_so_though_it_is_within_its_budget(tmp_path: Path) -> None:
    """One arrival that waited is told."""
    checks = found(tmp_path / "run", generators=own(pools=pool(1))).checks
    (users,) = [check for check in checks if check.name == "users"]
    assert users.ok
    assert "1 arrival waited up to 300 ms" in users.words


def test_bursts_that_the_schedule_does_not_have_are_invalid(tmp_path: Path) -> None:
    """Thirty at a time, three times a second: a limiter would refuse what it lets through evenly."""
    verdict = found(tmp_path / "run", bunched=True).verdict
    assert verdict.word == "invalid"
    assert any("t was sent in bursts that the schedule does not have" in reason for reason in verdict.reasons)


def test_a_lost_worker_makes_a_run_invalid(tmp_path: Path) -> None:
    """Even if nothing that it was to send is missing; one that left as it should does not."""
    workers = [WorkerInfo(worker=k, host="h", joined_s=0.0) for k in (1, 2)]
    workers[0].end, workers[0].left_s = "left", 3.0
    assert found(tmp_path / "left", worker_processes=workers).verdict.word == "pass"
    workers[1].end, workers[1].left_s = "lost", 4.25
    verdict = found(tmp_path / "lost", worker_processes=workers).verdict
    assert verdict.word == "invalid"
    assert any("worker 2 died or was cut off at 4.2 s" in reason for reason in verdict.reasons)


def test_a_worker_that_came_back_makes_a_run_invalid_by_name(tmp_path: Path) -> None:
    """Meanwhile nobody knew of it, and what it was to send then may be missing."""
    workers = [WorkerInfo(worker=k, host="h", joined_s=0.0, returned=k - 1) for k in (1, 2)]
    reasons = found(tmp_path / "back", worker_processes=workers).verdict.reasons
    assert [reason.partition(":")[0] for reason in reasons] == ["worker 2 was cut off temporarily"]
    reasons = found(tmp_path / "missing", offered=1003, worker_processes=workers).verdict.reasons
    assert "(worker 2 on h, was lost and came back" in reasons[0]
