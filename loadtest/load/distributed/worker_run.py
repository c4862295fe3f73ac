"""A worker's side of one run: its session, its part of the schedule and of the request budget, and its reports."""

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from locust.env import Environment

from loadtest.errors import InputError
from loadtest.load.clocks import WorkerClock
from loadtest.load.dispatcher import Partition, Stride
from loadtest.load.distributed.collector import Outbox
from loadtest.load.distributed.protocol import Acknowledge, Assign, KnownJobs, Setup, WorkerReport, boot_id
from loadtest.load.distributed.transport import split_users
from loadtest.load.load_generator import LocalGenerator
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.record.run_info import BudgetUse, RunInfo
from loadtest.scenario import Scenario
from loadtest.schedule import Arrival
from loadtest.targets import allow

HOLD_NS: Final = 2_000_000_000
"""Without an answer of the master for so long, nothing more is offered. Shorter than the silence after which a worker
counts as lost (``LOST_AFTER_NS`` of ``coordinator``), so that nobody else offers the same arrivals meanwhile."""
_EXCHANGES: Final = 5
"""With the master, before the estimate of its clock is used."""


class WorkerRun:
    """What a worker does in one run.

    Raises:
        LoadtestError: if it can't take part: a target that may not be loaded from here, or a file that is not here.
    """

    def __init__(
        self, environment: Environment, setup: Setup, *, keys: Sequence[str], workflow_endpoint: str, base: Path
    ) -> None:
        self.id = setup.run
        self.reports = 0
        self.assignment = 0
        """Number of the last one that was received."""
        self.begun = False
        self.closed = False
        info = _own_part(msgspec.json.decode(setup.info, type=RunInfo), setup.worker_count)
        _check(info, environment, len(keys))
        scenario = Scenario.model_validate(info.scenario.effective)
        target = allow(info.target.url, listed=info.target.budget is not None)
        endpoint = make_endpoint(target, keys, workflow_endpoint, info)
        # The preflight is the master's to count.
        endpoint.budget.used = BudgetUse()
        endpoint.budget.on_spent = self._ask_to_abort
        self.outbox = Outbox()
        self.session = Session(
            environment,
            base,
            info,
            scenario,
            endpoint,
            base=base,
            output=self.outbox,
            worker=setup.worker,
            trace=setup.trace,
        )
        if not environment.user_classes:
            environment.user_classes = user_classes(scenario, info.traffic, base)
            # Their modules could not hear of it before. Plain locust has fired it.
            environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        self.clock = WorkerClock(shared=bool(setup.boot) and setup.boot == boot_id())
        self.generator = LocalGenerator(self.session, Partition(held=self._held))
        self._heard_ns = time.monotonic_ns()
        self._waiting = True
        self._taken_over = 0
        self._cpu_sent = 0
        self._stopped = False
        self._abort: str | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the last report that was acknowledged."""
        return (time.monotonic_ns() - self._heard_ns) / 1e9

    @property
    def settled(self) -> bool:
        """Whether it is closed, and the master has everything."""
        return self.closed and self.outbox.empty

    def acknowledged(self, message: Acknowledge, received_ns: int) -> None:
        """Take in the answer to a report."""
        self._heard_ns = max(self._heard_ns, message.echo_ns)
        self.clock.see(message.echo_ns, message.received_ns, message.replied_ns, received_ns)
        self.outbox.acknowledged(message.batch)
        if message.rejoin:
            self.generator.partition.withdraw()
            self._waiting = True

    def learn_jobs(self, message: KnownJobs) -> None:
        """Know of jobs that retrievals may ask for."""
        known = self.session.own_jobs if message.entry is None else self.session.entries[message.entry].job_ids
        for job_id, key in message.jobs:
            known.add(job_id, key)

    def assign(self, message: Assign, worker: str) -> None:
        """Take the part of the schedule that is this worker's from a moment on; the first one begins the run here."""
        if not self.begun:
            self._begin(message)
        self.assignment = message.number
        takes_part = worker in message.workers
        self._waiting = self._waiting and not takes_part
        worker_count = len(message.workers)
        session = self.session
        for entry in session.entries.values():
            if entry.pacer is not None:
                entry.pacer.share_by(max(1, worker_count))
        session.endpoint.budget.share_by(max(1, worker_count))
        if message.allowed is not None:
            session.endpoint.budget.allowed = message.allowed.get(worker, BudgetUse())
        place = message.workers.index(worker) if takes_part else 0
        self.generator.partition.assign(Stride(message.from_ns, place, worker_count if takes_part else 0))

    def take_over(self, arrivals: Sequence[Arrival]) -> None:
        """Offer arrivals that another worker handed back."""
        self._taken_over += len(arrivals)
        for arrival in arrivals:
            self.generator.dispatcher.offer(arrival)

    def hand_back(self) -> list[Arrival]:
        """Let go of every arrival that was offered here and waits for a user."""
        waiting = [arrival for pool in self.session.pools.values() for arrival in pool.surrender()]
        self.session.live.offered.subtract(arrival.traffic for arrival in waiting)
        return waiting

    def reserve(self) -> BudgetUse:
        """Keep half of what may still be used until the next assignment.

        Returns:
            What it has used and may still use, in all.
        """
        budget = self.session.endpoint.budget
        if budget.allowed is None:
            return BudgetUse()
        for name in BudgetUse.__struct_fields__:
            used = getattr(budget.used, name)
            left = max(0, getattr(budget.allowed, name) - used)
            setattr(budget.allowed, name, used + (left + 1) // 2)
        return budget.allowed

    def stop(self, *, discard: bool) -> None:
        """Offer nothing more."""
        self._stopped = True
        self.generator.stop(discard=discard)

    def close(self, *, aborted: bool) -> None:
        """Users are gone: record what they left, and have everything packed."""
        self.stop(discard=aborted)
        self.generator.unwatch()
        gc.unfreeze()
        self.generator.end(aborted=aborted)
        self.session.recorder.close()
        self.closed = True

    def report(self) -> WorkerReport:
        """How this worker is doing, with the next batch of samples."""
        session, generator = self.session, self.generator
        self.reports += 1
        offset, uncertainty = self.clock.estimate
        cpu, self._cpu_sent = generator.cpu[self._cpu_sent :], len(generator.cpu)
        batch = self.outbox.take()
        return WorkerReport(
            run=self.id,
            sent_ns=time.monotonic_ns(),
            ready=generator.ready and self.clock.exchanges >= _EXCHANGES,
            waiting=self._waiting,
            assignment=self.assignment,
            taken_over=self._taken_over,
            exhausted=self._stopped or generator.offered_all,
            quiet=generator.quiet,
            closed=self.closed and self.outbox.all_sent,
            offered=dict(session.live.offered),
            newly_offered=session.live.take_offered(),
            batch=batch,
            used=session.endpoint.budget.used,
            cpu=cpu,
            generator=generator.generators[0] if self.begun else None,
            peers=generator.peers,
            clock=generator.clock,
            offset_ns=offset,
            uncertainty_ns=uncertainty,
            shared_clock=self.clock.is_shared,
            abort=self._abort,
            bug=session.bug,
            user_error=session.user_error,
        )

    def _begin(self, message: Assign) -> None:
        session = self.session
        self.begun = True
        session.epoch_ns = message.epoch_ns + self.clock.offset_ns
        session.info.epoch_unix_ns = message.epoch_unix_ns
        session.clock.anchor(session.epoch_ns, message.epoch_unix_ns)
        gc.collect()
        gc.freeze()
        self.generator.begin()

    def _held(self) -> bool:
        return time.monotonic_ns() - self._heard_ns > HOLD_NS

    def _ask_to_abort(self, reason: str) -> None:
        self._abort = reason


def _check(info: RunInfo, environment: Environment, keys: int) -> None:
    if keys != info.keys:
        raise InputError(
            f"this worker has {keys} API key(s), and the run's master has {info.keys}",
            "Put the same keys, in the same order, into WORKFLOW_API_KEYS of each.",
        )
    if environment.user_classes and {each.__name__ for each in environment.user_classes} != info.traffic.keys():
        raise InputError(
            f"this worker was started for another scenario than the master's, which is {info.scenario.name!r}",
            "Set LOADTEST_SCENARIO alike, or start it with `loadtest worker`, which takes the master's.",
        )


def _own_part(info: RunInfo, workers: int) -> RunInfo:
    """The run, with one worker's part of the users."""
    sizes = split_users({name: plan.users for name, plan in info.traffic.items()}, workers)
    caps = split_users({name: plan.max_users or plan.users for name, plan in info.traffic.items()}, workers)
    for name, plan in info.traffic.items():
        plan.users, plan.max_users = sizes[name], caps[name]
    return info
