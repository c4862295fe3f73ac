"""A job store against a simple model of it: random submits, ends and expiries."""

import asyncio
from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.jobs import Job, JobStore, QueueFullError, State
from loadtest.reference_api.workflows.execution import ExecutionOutcome
from loadtest.reference_settings import ServerConfig

WORKERS, QUEUE, RETENTION = 2, 3, 10.0
OWNERS = {b"alpha": object(), b"beta": object()}
WORKFLOWS = WorkflowApi(ServerConfig())._workflows


class Gates:
    """A fault_hooks that ends a job when it is told to."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Future[ExecutionOutcome]] = {}

    def submitted(self, job: Job) -> None:
        """Nothing becomes of it."""

    def take(self, waiting: deque[Job]) -> Job | None:
        return waiting.popleft() if waiting else None

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        self.open[job.id] = asyncio.get_running_loop().create_future()
        return await self.open[job.id]

    def retrieved(self, job: Job, answer: bytes) -> bytes:
        return answer


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
        self.store = JobStore(WORKERS, QUEUE, RETENTION, lambda: self.now, fault_hooks=self.gates)

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
            hello = WORKFLOWS["say-hello"]
            job = self.store.submit(OWNERS[key], hello, hello.call({}))
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
        assert (self.store.running, self.store.waiting) == (running, len(self.pending) - running)
        assert self.store.kept == len(self.ended)
        assert len(self.store) == len(self.pending) + len(self.ended)
        assert self.store.counts[State.FAILED] == sum(not good for good, _ in self.ended.values())
        assert sum(self.store.counts.values()) == len(self.store)

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
