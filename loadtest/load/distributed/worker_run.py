"""A worker's monotonic clock against the master's, from reports and their answers. Pure.

As NTP has it (RFC 5905, section 8): with a report sent at t1 (worker), received at t2 and answered at t3 (master),
and the answer received at t4 (worker), the worker is ahead by ((t1 − t2) + (t4 − t3)) / 2, and wrong by at most half of
the round trip (t4 − t1) − (t3 − t2). The exchange with the shortest round trip is believed.

A worker's side of one run: its session, its part of the schedule, and what there is to report of it.
"""

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from locust.env import Environment

from loadtest.errors import InputError
from loadtest.load.dispatcher import Assignment, Share
from loadtest.load.distributed.batches import Outbox
from loadtest.load.distributed.protocol import Beat, Epoch, Jobs, Report, Setup, Used, boot_id
from loadtest.load.distributed.transport import part_of
from loadtest.load.load_generator import LocalCrew
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.record.run_info import BudgetUse, RunInfo
from loadtest.scenario import Scenario
from loadtest.schedule import Arrival
from loadtest.targets import allow

_KEPT: Final = 64


class WorkerClock:
    """Estimates a worker's clock minus the master's.

    Args:
        shared: whether both seem to read the same clock, being processes of one machine. That is believed for as long
            as no exchange speaks against it (a time namespace has a clock of its own).
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.exchanges = 0
        self._kept: list[tuple[int, int]] = []

    def see(self, sent_ns: int, received_ns: int, replied_ns: int, answered_ns: int) -> None:
        """Take in one exchange: t1 to t4 of above."""
        self.exchanges += 1
        trip = (answered_ns - sent_ns) - (replied_ns - received_ns)
        offset = ((sent_ns - received_ns) + (answered_ns - replied_ns)) // 2
        self._kept = [*self._kept[-_KEPT + 1 :], (trip, offset)]

    @property
    def estimate(self) -> tuple[int, int]:
        """Offset and its uncertainty in ns, as the exchanges tell them; (0, 0) before any."""
        if not self._kept:
            return 0, 0
        trip, offset = min(self._kept)
        return offset, (trip + 1) // 2

    @property
    def is_shared(self) -> bool:
        """Whether both read the same clock, as far as the exchanges tell."""
        offset, uncertainty = self.estimate
        return self.shared and abs(offset) <= uncertainty

    @property
    def offset_ns(self) -> int:
        """What is to be added to a moment of the master's clock to get the worker's."""
        return 0 if self.is_shared else self.estimate[0]


HOLD_NS: Final = 2_000_000_000
"""Without an answer of the master for so long, nothing more is offered. Shorter than what it takes to be believed lost
(see ``remote_crew``), so that nobody else offers the same arrivals meanwhile."""
_EXCHANGES: Final = 5
"""With the master, before the clock is believed."""


class TakingPart:
    """What a worker does in one run.

    Args:
        environment: Locust's; its user classes are set where it has none.
        setup: what the master said of the run.
        keys: API keys.
        workflow_endpoint: value of ``x-wf-endpoint``.
        base: what a relative path in the scenario starts from.

    Raises:
        LoadtestError: if it can't take part: a target that may not be loaded from here, or a file that is not here.
    """

    def __init__(
        self, environment: Environment, setup: Setup, *, keys: Sequence[str], workflow_endpoint: str, base: Path
    ) -> None:
        self.run = setup.run
        self.reports = 0
        self.epoch = 0
        """Number of the last one that was heard of."""
        self.begun = False
        self.closed = False
        info = _part_of_run(msgspec.json.decode(setup.info, type=RunInfo), setup.workers)
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
        self.crew = LocalCrew(self.session, Share(held=self._held))
        self._heard_ns = time.monotonic_ns()
        self._waiting = True
        self._given = 0
        self._cpu_told = 0
        self._stopped = False
        self._abort: str | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the last report that was answered."""
        return (time.monotonic_ns() - self._heard_ns) / 1e9

    @property
    def settled(self) -> bool:
        """Whether it is closed, and the master has everything."""
        return self.closed and self.outbox.empty

    def answered(self, beat: Beat, received_ns: int) -> None:
        """Take in the answer to a report."""
        self._heard_ns = max(self._heard_ns, beat.echo_ns)
        self.clock.see(beat.echo_ns, beat.received_ns, beat.replied_ns, received_ns)
        self.outbox.acknowledged(beat.batch)
        if beat.rejoin:
            self.crew.share.withdraw()
            self._waiting = True

    def know(self, jobs: Jobs) -> None:
        """Know of jobs that retrievals may ask for."""
        known = self.session.own_jobs if jobs.entry is None else self.session.entries[jobs.entry].job_ids
        for job_id, key in jobs.jobs:
            known.add(job_id, key)

    def enter(self, epoch: Epoch, worker: str) -> None:
        """Take the part of the schedule that is this worker's from a moment on."""
        session, of = self.session, len(epoch.workers)
        if not self.begun:
            self.begun = True
            session.epoch_ns = epoch.start_ns + self.clock.offset_ns
            session.info.epoch_unix_ns = epoch.start_unix_ns
            session.clock.anchor(session.epoch_ns, epoch.start_unix_ns)
            gc.collect()
            gc.freeze()
            self.crew.begin()
        self.epoch = epoch.number
        mine = worker in epoch.workers
        self._waiting = self._waiting and not mine
        for entry in session.entries.values():
            if entry.pacer is not None:
                entry.pacer.share_by(max(1, of))
        session.endpoint.budget.share_by(max(1, of))
        if epoch.allowed is not None:
            allowed = epoch.allowed.get(worker, Used())
            session.endpoint.budget.allowed = BudgetUse(
                operations=allowed.operations, requests=allowed.requests, executions=allowed.executions
            )
        place = epoch.workers.index(worker) if mine else 0
        self.crew.share.assign(Assignment(epoch.from_ns, place, of if mine else 0))

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Offer arrivals that another worker handed back."""
        self._given += len(arrivals)
        for arrival in arrivals:
            self.crew.dispatcher.give(arrival)

    def hand_back(self) -> list[Arrival]:
        """Let go of every arrival that was offered here and waits for a user."""
        waiting = [arrival for pool in self.session.pools.values() for arrival in pool.surrender()]
        self.session.live.offered.subtract(arrival.traffic for arrival in waiting)
        return waiting

    def reserve(self) -> Used:
        """Keep half of what may still be used until the next epoch; gives what that comes to, in all."""
        budget = self.session.endpoint.budget
        if budget.allowed is None:
            return Used()
        for name in BudgetUse.__struct_fields__:
            used = getattr(budget.used, name)
            left = max(0, getattr(budget.allowed, name) - used)
            setattr(budget.allowed, name, used + (left + 1) // 2)
        kept = budget.allowed
        return Used(operations=kept.operations, requests=kept.requests, executions=kept.executions)

    def stop(self, *, discard: bool) -> None:
        """Offer nothing more."""
        self._stopped = True
        self.crew.stop(discard=discard)

    def close(self, *, aborted: bool) -> None:
        """Users are gone: record what they left, and have everything packed."""
        self.stop(discard=aborted)
        self.crew.unwatch()
        gc.unfreeze()
        self.crew.end(aborted=aborted)
        self.session.recorder.close()
        self.closed = True

    def report(self) -> Report:
        """What there is to tell."""
        session, crew = self.session, self.crew
        self.reports += 1
        used = session.endpoint.budget.used
        offset, uncertainty = self.clock.estimate
        cpu, self._cpu_told = crew.cpu[self._cpu_told :], len(crew.cpu)
        batch = self.outbox.take()
        return Report(
            run=self.run,
            sent_ns=time.monotonic_ns(),
            ready=crew.ready and self.clock.exchanges >= _EXCHANGES,
            waiting=self._waiting,
            epoch=self.epoch,
            given=self._given,
            exhausted=self._stopped or crew.offered_all,
            quiet=crew.quiet,
            closed=self.closed and self.outbox.all_sent,
            offered=dict(session.live.offered),
            batch=batch,
            used=Used(operations=used.operations, requests=used.requests, executions=used.executions),
            cpu=cpu,
            generator=crew.generators[0] if self.begun else None,
            peers=crew.peers,
            clock=crew.clock,
            offset_ns=offset,
            uncertainty_ns=uncertainty,
            shared_clock=self.clock.is_shared,
            abort=self._abort,
            bug=session.bug,
        )

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


def _part_of_run(info: RunInfo, workers: int) -> RunInfo:
    """The run, with one worker's part of the users."""
    parts = part_of({name: plan.users for name, plan in info.traffic.items()}, workers)
    caps = part_of({name: plan.max_users or plan.users for name, plan in info.traffic.items()}, workers)
    for name, plan in info.traffic.items():
        plan.users, plan.max_users = parts[name], caps[name]
    return info
