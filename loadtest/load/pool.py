"""Traffic entries: their settings, and their pools of users. A pool hands arrivals to users."""

import fcntl
import gc
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from loadtest.contract import JOB_OPERATIONS, THROTTLED_STATUS, LimitName, MistakeKind
from loadtest.load.exchange import Timeouts
from loadtest.load.payloads import Bodies, JobIds, Matcher, read_inputs, read_job_ids, read_schema
from loadtest.plan import AssumedLimits
from loadtest.processes import MOST_FILES, SPARE_FILES, allow_files
from loadtest.record.run_info import PoolInfo, RunInfo, TrafficPlan
from loadtest.scenario import WARMUP, Polling, Scenario, Traffic
from loadtest.schedule import Arrival
from loadtest.seeded_random import seeded_random

if TYPE_CHECKING:  # tests import this module without Locust, which patches the interpreter
    from locust.env import Environment

logger = logging.getLogger(__name__)
_CROWD: Final = 8
_STEP: Final = 5
"""Number of users that are created at once. Nothing is sent meanwhile, for about 0.25 ms."""
_PAUSE_S: Final = 0.001
_FREEZE_EVERY: Final = 100


class Pool:
    """The users of one traffic entry, and arrivals that wait for a free user.

    The most recently used user gets the next arrival, because its connection is warm. A pool starts with ``size`` users
    and can grow to ``cap`` users. By default, it does not grow.
    """

    def __init__(self, size: int, cap: int | None = None) -> None:
        self.started = size
        self.size = size
        """Number of users, including users that are being started."""
        self.cap = size if cap is None else max(size, cap)
        self.backlog: deque[Arrival] = deque()
        """Due arrivals that wait for a user."""
        self.on_scarce: Callable[[], None] = lambda: None
        """Called after an offered arrival if the pool is ``scarce``. ``Growth`` sets it."""
        self._closed = False
        # Greenlets of idle users by identity, the most recent last. Removing a user from a list would need a search.
        self._idle: dict[int, Any] = {}
        self._all: set[int] = set()
        self._waited = self._longest_ns = self._full_ns = 0
        # Time (monotonic ns) when an arrival began to wait, by the arrival's number. The oldest comes first.
        self._since: dict[int, int] = {}
        self._full_since: int | None = None

    @property
    def ready(self) -> bool:
        return len(self._all) >= self.size

    @property
    def quiet(self) -> bool:
        return (self._closed or not self.backlog) and len(self._idle) >= min(self.size, len(self._all))

    @property
    def crowded(self) -> bool:
        return len(self._all) - len(self._idle) > _CROWD

    @property
    def scarce(self) -> bool:
        """Whether the pool can grow and has too few idle users."""
        reserve = max(1, min(self.size // 2, max(5, self.size // 10)))
        return self.size < self.cap and len(self._idle) < reserve and not self._closed

    def offer(self, arrival: Arrival) -> None:
        """Hand a due arrival to an idle user, or put it into the backlog. The user begins before this call returns.

        If the arrival went through a queue, the user would begin after all other work of the event loop's turn.
        """
        if not self._idle or self._closed:
            self._wait(arrival)
        elif (current := getcurrent()) is (hub := get_hub()):
            # When the user waits, it switches back to the event loop.
            self._idle.popitem()[1].switch(arrival)
        else:
            back = hub.loop.run_callback(current.switch)
            try:
                self._idle.popitem()[1].switch(arrival)
            finally:
                # A greenlet that was stopped meanwhile must not be woken again.
                back.stop()
        if self.size < self.cap and self.scarce:
            self.on_scarce()

    def take(self) -> Arrival:
        """Wait for the next arrival. The user's greenlet may be stopped while it waits."""
        user = getcurrent()
        self._all.add(id(user))
        if self.backlog:
            # While arrivals wait, other greenlets also need a turn.
            gevent.sleep(0)
            if self.backlog and not self._closed:
                return self._relieve(time.monotonic_ns())
        self._idle[id(user)] = user
        try:
            arrival: Arrival = get_hub().switch()
        except BaseException:
            self._idle.pop(id(user), None)
            raise
        return arrival

    def close(self) -> None:
        """Stop handing out arrivals. The backlog stays."""
        self._closed = True

    def surrender(self) -> list[Arrival]:
        waiting = list(self.backlog)
        now = time.monotonic_ns()
        while self.backlog:
            self._relieve(now)
        return waiting

    def figures(self, now_ns: int) -> PoolInfo:
        """Return the figures until ``now_ns`` (monotonic)."""
        oldest = next(iter(self._since.values()), now_ns)
        full = self._full_ns + now_ns - (self._full_since or now_ns)
        return PoolInfo(
            started=self.started,
            size=self.size,
            cap=self.cap,
            waited=self._waited,
            longest_wait_ms=round(max(self._longest_ns, now_ns - oldest) / 1e6, 3),
            full_s=round(full / 1e9, 3),
        )

    def _wait(self, arrival: Arrival) -> None:
        self.backlog.append(arrival)
        if not self._closed:
            now = self._since[arrival.number] = time.monotonic_ns()
            self._waited += 1
            self._full_since = self._full_since or now

    def _relieve(self, now_ns: int) -> Arrival:
        arrival = self.backlog.popleft()
        self._longest_ns = max(self._longest_ns, now_ns - self._since.pop(arrival.number, now_ns))
        if not self.backlog and self._full_since is not None:
            self._full_ns += now_ns - self._full_since
            self._full_since = None
        return arrival


class Growth:
    """Adds users to pools that have few idle users. Keys of ``pools`` are also the names of user classes."""

    def __init__(self, environment: "Environment", pools: Mapping[str, Pool]) -> None:
        self._environment = environment
        self._pools = pools
        files = allow_files()
        # Enlarge the process's table of open files now. Linux doubles the table when it is full, and thereby blocks a
        # process with several threads for 5 to 15 ms each time.
        with Path(os.devnull).open("rb") as file:
            os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, min(files, MOST_FILES) - 1))
        self._most_users = files - SPARE_FILES
        self._made = 0
        self._scarce = Event()
        for pool in pools.values():
            pool.on_scarce = self._scarce.set
        self._greenlet = gevent.spawn(self._grow_forever)

    def stop(self) -> None:
        self._greenlet.kill()

    def _grow_forever(self) -> None:
        while True:
            self._scarce.wait()
            self._scarce.clear()
            while scarce := [name for name, pool in self._pools.items() if pool.scarce]:
                for name in scarce:
                    self._grow(name, self._pools[name])
                    # A sleep of 0 would end before the event loop looks at sockets and timers.
                    gevent.sleep(_PAUSE_S)

    def _grow(self, name: str, pool: Pool) -> None:
        runner = self._environment.runner
        if runner is None:
            return
        if runner.user_count + _STEP > self._most_users:
            # If a user could not open a socket, the target would seem to be unreachable.
            pool.cap = pool.size
            logger.warning("The pool of %s stays at %d users: no more files may be open (ulimit -n).", name, pool.size)
            return
        # This replaces Locust's spawn_users, which takes milliseconds to count many users for its log.
        make = runner.user_classes_by_name[name]
        step = min(_STEP, pool.cap - pool.size)
        pool.size += step
        self._made += step
        if self._made % _FREEZE_EVERY < step:
            # Users are never garbage, and a garbage collection takes milliseconds to scan hundreds of them.
            gc.freeze()
        for _ in range(step):
            make(self._environment).start(runner.user_greenlets)


class Pacer:
    """Spaces all polls of an entry so that at most ``rate`` are sent per second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0
        self.share_by(1)

    def share_by(self, processes: int) -> None:
        """Divide the rate by the number of processes."""
        self._gap = round(1e9 / self._rate * processes)

    def slot(self, due: int) -> int:
        """Reserve and return a time (ns) at or after ``due``, and after all reserved times."""
        moment = max(due, self._next)
        self._next = moment + self._gap
        return moment


def next_poll(
    polling: Polling, accepted_ns: int, last_answer_ns: int, number: int, draw: float, *, pacer: Pacer | None = None
) -> int | None:
    """Return the time of the next poll (ns), or None to give up.

    ``number`` counts the operation's polls from 1. ``draw``, a uniform number from 0 to 1, sets the jitter.
    """
    latest = accepted_ns + round(polling.give_up * 1e9)
    due = last_answer_ns + round(polling.wait(number, draw) * 1e9)
    if pacer is not None and due <= latest:
        due = pacer.slot(due)
    return due if due <= latest else None


class TrafficEntry:
    """Settings and pool of one traffic entry. The constructor writes the number of input rows to the plan.

    It raises ``InputError`` if a file that the entry names cannot be used.
    """

    def __init__(self, name: str, scenario: Scenario, info: RunInfo, base: Path, own_jobs: JobIds) -> None:
        self.name = name
        self.index = list(scenario.traffic).index(name)
        self.traffic = traffic = scenario.traffic[name]
        self.operation = traffic.operation
        self.plan = plan = info.traffic[name]
        self.seed = info.seed
        self.pool = Pool(plan.users, plan.max_users)
        self.timeouts = Timeouts(traffic.timeout, traffic.connect_timeout, traffic.read_timeout)
        self.pacer: Pacer | None = None
        """Paces all polls of the entry. None if polls are not paced."""
        if (pace := traffic.polling.pace) is not None:
            assumed = AssumedLimits.recorded(info.target)
            self.pacer = Pacer(pace.per_second(assumed.limits[LimitName.RETRIEVAL], assumed.quotas(plan.key_count)))
        self.job_ids = JobIds(own_jobs.keys)
        if traffic.operation in JOB_OPERATIONS and traffic.job_ids != "seeded":
            named = traffic.job_ids
            self.job_ids = own_jobs if named == "run" else read_job_ids(base / named, own_jobs.keys)
        rows = None if traffic.inputs is None else read_inputs(base / traffic.inputs)
        # A comparison needs this number to pair arrivals that send the same row.
        plan.input_rows = None if rows is None else len(rows)
        workflow, order = traffic.workflow or "say-hello", traffic.inputs_order
        self.bodies = Bodies(workflow, traffic.parameters, rows, order=order, seed=(info.seed, name))
        expect = traffic.expect
        schema = None if expect.result_schema is None else read_schema(base / expect.result_schema)
        self.matcher = None if expect.result is None and schema is None else Matcher(expect.result, schema)
        """None if every result is accepted."""
        self.expected = _expected(traffic, plan)
        """Error statuses that do not count as failures, by stage."""
        self.mistaken = bool(traffic.mistakes.shares)
        """Whether some requests have deliberate mistakes."""
        # The list is kept here, because reading pydantic's private attributes is slow.
        self._recorded_keys = None if traffic.recording is None else traffic.recording.key_list

    def key_index(self, number: int) -> int:
        """Return the key index of an arrival. Its retries and polls use the same key."""
        key = number if self._recorded_keys is None else self._recorded_keys[number]
        return self.plan.key_start + key % self.plan.key_count

    def mistake(self, number: int) -> MistakeKind | None:
        return self.traffic.mistakes.pick(self.seed, self.name, number)

    def draw(self, *about: object) -> float:
        """Return a number from 0 to 1 that depends only on the seed, the entry's name and the arguments."""
        return seeded_random(self.seed, self.name, *about)


def _expected(traffic: Traffic, plan: TrafficPlan) -> dict[str, frozenset[int]]:
    by_stage = {name: frozenset(stage.expect) for stage in traffic.stages for name, _, _ in stage.parts}
    by_stage[WARMUP] = frozenset(traffic.stages[0].expect)
    for stage in plan.stages:
        if stage.expect_429:
            by_stage[stage.name] = by_stage.get(stage.name, frozenset()) | {THROTTLED_STATUS}
    return by_stage
