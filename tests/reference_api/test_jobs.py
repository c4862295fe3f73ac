"""The job store by itself, over a clock that the test moves: case by case, and against a simple model of it."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from plugins.openapi_answers import expect_error
from plugins.processes import until_async

from loadtest.reference_api import jobs
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.execution import ExecutionOutcome, Threads, Workflow
from loadtest.reference_api.jobs import Job, JobStore, QueueFullError, State, WorkHooks
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_settings import ServerConfig

WORKFLOWS = load_workflows(ServerConfig(), Threads(1))
HELLO, SLEEP = WORKFLOWS["say-hello"], WORKFLOWS["sleep"]


def test_the_documented_table_is_the_one_in_code() -> None:
    """docs/reference-api.md names every state with its documented status, and a 404 after the last."""
    text = (Path(__file__).parents[2] / "docs" / "reference-api.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (?:`(\w+)`|–) \| .* \|$", text, re.MULTILINE))
    assert rows == dict.fromkeys(State, "pending") | {"completed": "completed", "failed": "failed", "expired": ""}


def test_expired_jobs_are_freed_though_no_submit_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer frees them in steps of a bounded size, until none is left whose retention is over."""
    monkeypatch.setattr(jobs, "FREED_PER_STEP", 7)
    monkeypatch.setattr(jobs, "SWEEP_EVERY", 0.01)
    now = 0.0

    async def run() -> None:
        nonlocal now
        store = JobStore(200, 0, retention=0.1, clock=lambda: now)
        ids = [store.submit(None, HELLO, HELLO.call({})).id for _ in range(100)]
        await asyncio.gather(*store._tasks)
        assert (len(store), store.counts[State.COMPLETED]) == (100, 100)
        now = 0.1
        assert not any(store.retrieve(None, each) for each in ids)
        assert store.expire()
        assert store.counts[State.COMPLETED] == 93
        await until_async(lambda: not len(store))
        assert set(store.counts.values()) == {0}

    asyncio.run(run())


def test_a_job_whose_retention_is_not_over_stays() -> None:
    """Only what is due is freed, however often one looks; a running job never is."""
    now = 0.0

    async def run() -> None:
        nonlocal now
        store = JobStore(10, 0, retention=50.0, clock=lambda: now)
        running = store.submit(None, SLEEP, SLEEP.call({"ms": 60_000}))
        kept = []
        for _ in range(100):
            now += 1
            kept.append(store.submit(None, HELLO, HELLO.call({})).id)
            await until_async(lambda: store.counts[State.RUNNING] == 1)
            assert not store.expire()
        assert [bool(store.retrieve(None, each)) for each in kept] == [False] * 50 + [True] * 50
        assert len(store) == 51
        assert b"pending" in (store.retrieve(None, running.id) or b"")
        store.close()

    asyncio.run(run())


@pytest.mark.parametrize(("setting", "shown"), [("elapsed", 1500), ("zero", 0), ("omitted", None)])
def test_a_pending_job_shows_the_execution_time_that_was_chosen(setting: Any, shown: float | None) -> None:
    """The time so far, 0, or no such field; in the queue there is no time so far."""
    now = 0.0

    async def run() -> None:
        nonlocal now
        store = JobStore(1, 1, 60.0, lambda: now, pending_time=setting)
        long = SLEEP.call({"ms": 60_000})
        running, waiting = store.submit(None, SLEEP, long), store.submit(None, SLEEP, long)
        await until_async(lambda: running.started is not None)
        now = 1.5
        answers = [msgspec.json.decode(store.retrieve(None, each.id) or b"") for each in (running, waiting)]
        assert [answer["status"] for answer in answers] == ["pending", "pending"]
        assert [answer.get("executionTime") for answer in answers] == [shown, None if shown is None else 0]
        store.close()

    asyncio.run(run())


def test_ten_thousand_jobs_wait_in_turn() -> None:
    """With 10,000 in flight all ids resolve, the next submit is refused, and all of them end."""

    async def run() -> None:
        store = JobStore(workers=1, queue=9_999, retention=60.0)
        short = SLEEP.call({"ms": 1})
        submitted = [store.submit(None, SLEEP, short)]
        submitted += [store.submit(None, HELLO, HELLO.call({})) for _ in range(9_999)]
        with pytest.raises(QueueFullError):
            store.submit(None, HELLO, HELLO.call({}))
        assert (len(store), *store.counts.values()) == (10_000, 9_999, 1, 0, 0)
        assert all(b"pending" in (store.retrieve(None, job.id) or b"") for job in submitted)
        await asyncio.wait_for(asyncio.gather(*store._tasks), 20)
        assert [*store.counts.values()] == [0, 0, 10_000, 0]

    asyncio.run(run())


def test_a_broken_workflow_is_internal_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a workflow is 500 `internal` for a run and a failed job for a submit; the trace goes to the log only."""

    async def broken() -> dict[str, Any]:
        raise ZeroDivisionError("the secret of the house")

    async def run() -> None:
        api = WorkflowApi(ServerConfig(), {"broken": Workflow("broken", lambda _: broken, None)})
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


WORKERS, QUEUE, RETENTION = 2, 3, 10.0
OWNERS = {b"alpha": object(), b"beta": object()}


class Gates(WorkHooks):
    """Hooks that end a job when they are told to."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Future[ExecutionOutcome]] = {}

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        self.open[job.id] = asyncio.get_running_loop().create_future()
        return await self.open[job.id]


class JobMachine(RuleBasedStateMachine):
    """The model: who owns each job, in which order they wait or run, and how and until when each has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.owner: dict[str, bytes] = {}
        self.pending: list[str] = []
        self.ended: dict[str, tuple[bool, float]] = {}
        self.answers: dict[str, bytes] = {}
        self.gates = Gates()
        self.store = JobStore(WORKERS, QUEUE, RETENTION, lambda: self.now, hooks=self.gates)

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    @rule(keys=st.lists(st.sampled_from(sorted(OWNERS)), min_size=1, max_size=4))
    def submit(self, keys: list[bytes]) -> None:
        for key in keys:
            self.submit_one(key)

    def submit_one(self, key: bytes) -> None:
        async def run() -> Job:
            job = self.store.submit(OWNERS[key], HELLO, HELLO.call({}))
            await self.settle()
            return job

        if len(self.pending) >= WORKERS + QUEUE:
            with pytest.raises(QueueFullError):
                self.loop.run_until_complete(run())
            return
        job = self.loop.run_until_complete(run())
        assert job.id not in self.owner
        self.owner[job.id] = key
        self.pending.append(job.id)

    @precondition(lambda self: self.pending)
    @rule(which=st.integers(0, WORKERS - 1), good=st.booleans())
    def end(self, which: int, good: bool) -> None:
        job = self.pending[: min(WORKERS, len(self.pending))][which % min(WORKERS, len(self.pending))]
        self.gates.open.pop(job).set_result(
            ExecutionOutcome(b'{"a":1}', None, 1.5) if good else ExecutionOutcome(None, "no", 2.5)
        )
        self.loop.run_until_complete(self.settle())
        self.pending.remove(job)
        self.ended[job] = (good, self.now + RETENTION)

    @rule(seconds=st.integers(1, 7))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        while self.store.expire():
            pass
        self.ended = {job: (good, until) for job, (good, until) in self.ended.items() if until > self.now}
        self.loop.run_until_complete(self.settle())

    @invariant()
    def numbers_are_the_models(self) -> None:
        running = min(WORKERS, len(self.pending))
        counts = self.store.counts
        assert (counts[State.RUNNING], counts[State.QUEUED]) == (running, len(self.pending) - running)
        assert len(self.store) == len(self.pending) + len(self.ended)
        assert counts[State.FAILED] == sum(not good for good, _ in self.ended.values())
        assert sum(counts.values()) == len(self.store)

    @invariant()
    def answers_are_the_models(self) -> None:
        for job, key in self.owner.items():
            (other,) = set(OWNERS) - {key}
            assert self.store.retrieve(OWNERS[other], job) is None
            answer = self.store.retrieve(OWNERS[key], job)
            if job in self.pending:
                assert answer is not None
                assert msgspec.json.decode(answer).items() >= {"jobId": job, "status": "pending"}.items()
            elif job in self.ended:
                rest = {"result": {"a": 1}, "executionTime": 1.5} if self.ended[job][0] else {"error": "no"}
                assert answer is not None
                assert msgspec.json.decode(answer).items() >= {"jobId": job, **rest}.items()
                assert self.answers.setdefault(job, answer) == answer
            else:
                assert answer is None

    def teardown(self) -> None:
        self.store.close()
        self.loop.run_until_complete(self.settle())
        self.loop.close()


JobMachine.TestCase.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=40)
TestJobs: Any = JobMachine.TestCase
