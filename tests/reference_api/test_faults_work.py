"""Executions and jobs that misbehave, by themselves: what they cost, and what they bear."""

import asyncio
from collections import deque
from functools import partial
from typing import Any

import pytest
from plugins.processes import until_async

from loadtest.faults import parse
from loadtest.reference_api.execution import Threads
from loadtest.reference_api.faults import ActiveFaults, WorkFaults, spoil
from loadtest.reference_api.jobs import Job, JobStore, State
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_settings import ServerConfig

SLEEP = load_workflows(ServerConfig(), Threads(1))["sleep"]
OTHER, STARVED = object(), object()


class _Looks(WorkFaults):
    """Counts how often all that waits was looked through."""

    count = 0

    def take(self, waiting: deque[Job]) -> Job | None:
        self.count += 1
        return super().take(waiting)


def test_starved_jobs_are_looked_through_once_for_all_idle_workers() -> None:
    """Not once for each of them: a server with many workers would do nothing else."""

    async def run() -> int:
        active = ActiveFaults(1, 2)
        active.add([parse("starve,key=0,by=1")], active.clock())
        work = _Looks(active)
        store = JobStore(50, 1000, 10, hooks=work)
        work.attach({STARVED: 0, OTHER: 1}, store.wake)
        long: Any = SLEEP.call({"ms": 60_000})
        store.submit(OTHER, SLEEP, long)
        for _ in range(100):
            store.submit(STARVED, SLEEP, long)
        await asyncio.sleep(0)
        assert [*store.counts.values()] == [100, 1, 0, 0]
        before = work.count
        store.wake()
        looks = work.count - before
        active.remove()
        await until_async(lambda: store.counts[State.RUNNING] == 50)
        store.close()
        return looks

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("starved_first", [True, False])
def test_a_job_passes_those_that_are_starved(starved_first: bool) -> None:
    """Whoever is not starved is executed in its turn, past those that are."""
    active = ActiveFaults(1, 2)
    active.add([parse("starve,key=0,by=1")], active.clock())
    work = WorkFaults(active)
    work.attach({STARVED: 0, OTHER: 1}, lambda: None)
    owners = [STARVED, OTHER] if starved_first else [OTHER, STARVED]
    waiting = deque(Job(owner, SLEEP, None) for owner in owners)
    for job in waiting:
        work.submitted(job)
    taken = work.take(waiting)
    assert taken.owner is OTHER


def test_what_comes_while_others_are_starved_is_taken_in_its_order() -> None:
    """Those that were seen to be starved are looked at again only after a moment; who comes meanwhile needn't wait."""

    async def run() -> list[int]:
        active = ActiveFaults(1, 2)
        active.add([parse("starve,key=0,by=1")], active.clock())
        work = WorkFaults(active)
        work.attach({STARVED: 0, OTHER: 1}, lambda: None)
        waiting: deque[Job] = deque()

        def come(owner: object, number: int) -> None:
            waiting.append(Job(owner, SLEEP, partial(int, number)))
            work.submitted(waiting[-1])

        come(OTHER, 0)
        taken = [work.take(waiting)]
        for number in (1, 2):
            come(STARVED, number)
        assert work.take(waiting) is None
        for owner, number in ((STARVED, 3), (OTHER, 4), (OTHER, 5)):
            come(owner, number)
        taken += [work.take(waiting), work.take(waiting)]
        assert work.take(waiting) is None
        assert [job.call() for job in waiting if job.call] == [1, 2, 3]
        return [job.call() for job in taken if job is not None and job.call]

    assert asyncio.run(run()) == [0, 4, 5]


def test_a_result_of_any_depth_can_be_made_wrong() -> None:
    """A workflow's result may be nested as deeply as the stack allows; every value is another one."""
    result: Any = "end"
    for _ in range(950):
        result = [result]
    assert spoil(result) != result
    assert spoil({"a": [1, True, "x", {}]}) == {"a": [2, False, "not x", {"wrong": True}]}
