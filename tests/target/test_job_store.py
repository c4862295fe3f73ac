"""The job store by itself, over a clock that the test moves."""

import asyncio
from typing import Any

import httpx
import pytest

from loadtest.target.app import WorkflowApi
from loadtest.target.bodies import DisconnectedError, until_disconnect
from loadtest.target.config import ServerConfig
from loadtest.target.execution import Outcome
from loadtest.target.jobs import STATUS, TRANSITIONS, Job, JobStore, QueueFullError, State
from loadtest.target.workflows import WORKFLOWS, Workflow

HELLO, SLEEP = WORKFLOWS["say-hello"], WORKFLOWS["sleep"]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", ["start", "succeed", "fail"])
def test_only_the_tables_transitions_exist(state: State, event: str) -> None:
    """A transition that isn't in the table raises and leaves the state alone."""
    job = Job(None, HELLO, None)
    job.state = state
    if (state, event) in TRANSITIONS:
        job.move(event)
        assert job.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(RuntimeError, match=event):
            job.move(event)
        assert job.state is state


def test_every_state_has_a_documented_status() -> None:
    """Callers see the three documented statuses and no other."""
    assert set(STATUS) == set(State)
    assert set(STATUS.values()) == {"pending", "completed", "failed"}


def test_a_job_that_finished_cannot_finish_again() -> None:
    """The first outcome stands."""
    job = Job(None, HELLO, None)
    job.move("start")
    job.finish(Outcome(b"{}", None, 1.0))
    with pytest.raises(RuntimeError):
        job.finish(Outcome(None, "late", 2.0))
    assert b"completed" in job.answer


def test_expired_jobs_leave_the_store_as_new_ones_come() -> None:
    """With submits going on, the store keeps no more than the retention's jobs."""
    now = 0.0

    async def run() -> list[int]:
        nonlocal now
        store, sizes = JobStore(10, 10, retention=50.0, clock=lambda: now), []
        for _ in range(300):
            now += 1
            store.submit(None, HELLO, HELLO.parse({}))
            await asyncio.sleep(0)
            sizes.append(len(store))
        return sizes

    assert max(asyncio.run(run())) <= 51


def test_ten_thousand_jobs_wait_in_turn() -> None:
    """With 10,000 in flight all ids resolve, the next submit is refused, and all of them end."""

    async def run() -> None:
        store = JobStore(workers=1, queue=9_999, retention=60.0)
        short = SLEEP.parse({"ms": 1})
        jobs = [store.submit(None, SLEEP, short)]
        jobs += [store.submit(None, HELLO, HELLO.parse({})) for _ in range(9_999)]
        with pytest.raises(QueueFullError):
            store.submit(None, HELLO, HELLO.parse({}))
        assert len(store) == 10_000
        assert all(b"pending" in (store.retrieve(None, job.id) or b"") for job in jobs)
        await asyncio.wait_for(asyncio.gather(*store._tasks), 20)
        assert all(job.state is State.COMPLETED for job in jobs)

    asyncio.run(run())


def test_work_is_cancelled_when_the_client_hangs_up() -> None:
    """The work sees its cancellation, and the caller is told that nobody waits."""
    events: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async def hang_up() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(DisconnectedError):
            await until_disconnect(work(), hang_up)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert events == ["cancelled"]


def test_a_broken_workflow_is_internal_and_shows_nothing(expect_error: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a workflow is 500 `internal` for a run and a failed job for a submit; the trace goes to the log only."""

    def broken(_parameters: Any) -> dict[str, Any]:
        raise ZeroDivisionError("the secret of the house")

    async def run() -> None:
        api = WorkflowApi(ServerConfig(), {"broken": Workflow("broken", dict, broken)})
        headers = {"x-api-key": "local-dev-key", "x-wf-endpoint": "e"}
        transport = httpx.ASGITransport(app=api)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            response = await client.post("/v1/workflows/run", json={"name": "broken"})
            expect_error(response, 500, "internal")
            assert "secret" not in response.text
            job = (await client.post("/v1/workflows/jobs", json={"name": "broken"})).json()["jobId"]
            await asyncio.gather(*api.jobs._tasks)
            answer = (await client.get(f"/v1/workflows/jobs/{job}")).json()
            assert (answer["status"], answer["error"]) == ("failed", "Internal error")

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text
