"""Settings of one traffic entry for its users: request bodies, polling, expected responses."""

from pathlib import Path

from loadtest.contract import JOB_OPERATIONS, THROTTLED_STATUS, LimitName
from loadtest.load.http.exchange import Timeouts
from loadtest.load.payloads import Bodies, JobIds, Matcher, read_inputs, read_job_ids, read_schema
from loadtest.load.pool import Pool
from loadtest.plan import AssumedLimits
from loadtest.record.run_info import RunInfo, TrafficPlan
from loadtest.scenario import WARMUP, MistakeKind, Polling, Scenario, Traffic
from loadtest.seeded_random import seeded_random


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
        """Reserve and return the first free time (ns) at or after ``due``."""
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
    """Settings and pool of one traffic entry. Its constructor writes the number of input rows to the run's plan.

    Raises:
        InputError: if a file that the entry names cannot be used.
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
        """All polls of the entry share this pacer. None if polls are not paced."""
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
        """Checks results. None accepts every result."""
        self.expected = _expected(traffic, plan)
        """Statuses that Locust counts as successes, by stage."""
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
        """Return a number from 0 to 1 that depends only on the seed and the arguments."""
        return seeded_random(self.seed, self.name, *about)


def _expected(traffic: Traffic, plan: TrafficPlan) -> dict[str, frozenset[int]]:
    by_stage = {name: frozenset(stage.expect) for stage in traffic.stages for name, _, _ in stage.parts}
    by_stage[WARMUP] = frozenset(traffic.stages[0].expect)
    for stage in plan.stages:
        if stage.expect_429:
            by_stage[stage.name] = by_stage.get(stage.name, frozenset()) | {THROTTLED_STATUS}
    return by_stage
