"""A traffic entry, made ready: all that its users need to know of it."""

from dataclasses import dataclass
from pathlib import Path

from loadtest.draws import draw
from loadtest.load.backoff import Backoff
from loadtest.load.inputs import Bodies, mistake_of, read_inputs
from loadtest.load.jobs import JobIds, read_job_ids
from loadtest.load.matching import Matcher, read_schema
from loadtest.load.polling import Pacer, Polling
from loadtest.load.pool import Pool
from loadtest.load.wire import Timeouts
from loadtest.plan import believed
from loadtest.runfile import RunInfo, TrafficPlan
from loadtest.samples import Operation
from loadtest.scenario import WARMUP, MistakeKind, Traffic


@dataclass(frozen=True, slots=True)
class TrafficEntry:
    """What the users of one traffic entry need to know of it."""

    name: str
    index: int
    operation: Operation
    traffic: Traffic
    plan: TrafficPlan
    seed: int
    pool: Pool
    timeouts: Timeouts
    backoff: Backoff
    polling: Polling
    pacer: Pacer | None
    """Of all its polls together; None where they are not paced."""
    job_ids: JobIds
    bodies: Bodies
    matcher: Matcher | None
    """Of results; None where any will do."""
    expected: dict[str, frozenset[int]]
    """Statuses that are no failure to Locust, by stage."""

    def key_index(self, number: int) -> int:
        """The key of arrival ``number``: its retries and polls keep it."""
        return self.plan.key_start + number % self.plan.key_count

    def mistake(self, number: int) -> MistakeKind | None:
        """What arrival ``number`` is to get wrong on purpose, if anything."""
        return mistake_of(self.traffic.mistakes.shares, self.seed, self.name, number)

    def draw(self, *about: object) -> float:
        """A number from 0 to 1, the same in every run with this seed (see ``loadtest.draws``)."""
        return draw(self.seed, self.name, *about)


def make_entry(
    name: str, index: int, traffic: Traffic, info: RunInfo, *, base: Path, own_jobs: JobIds, keys: int
) -> TrafficEntry:
    """Make an entry ready.

    Args:
        name: of the entry.
        index: its place in the scenario.
        traffic: as the scenario says it.
        info: the run, with the entry's plan.
        base: what a relative path in the scenario starts from.
        own_jobs: ids of the run's own jobs, as they come.
        keys: how many keys there are in all.

    Raises:
        InputError: if a file that it names cannot be used.
    """
    plan = info.traffic[name]
    retry, expect = traffic.retry, traffic.expect
    schema = None if expect.result_schema is None else read_schema(base / expect.result_schema)
    return TrafficEntry(
        name=name,
        index=index,
        operation=traffic.operation,
        traffic=traffic,
        plan=plan,
        seed=info.seed,
        pool=Pool(plan.users, plan.max_users),
        timeouts=Timeouts(traffic.timeout, traffic.connect_timeout, traffic.read_timeout),
        backoff=Backoff(retry.policy, retry.initial, retry.factor, retry.max, retry.jitter, retry.max_attempts),
        polling=_polling(traffic),
        pacer=_pacer(traffic, plan, info),
        job_ids=_job_ids(traffic, base, own_jobs, keys),
        bodies=Bodies(
            traffic.workflow or "say-hello",
            traffic.parameters,
            None if traffic.inputs is None else read_inputs(base / traffic.inputs),
            order=traffic.inputs_order,
            seed=(info.seed, name),
        ),
        matcher=None if expect.result is None and schema is None else Matcher(expect.result, schema),
        expected=_expected(traffic, plan),
    )


def _polling(traffic: Traffic) -> Polling:
    said = traffic.polling
    fixed = said.policy == "fixed"
    return Polling(
        interval=round(said.interval * 1e9),
        give_up=round(said.give_up * 1e9),
        factor=1.0 if fixed else said.factor,
        max=round((said.interval if fixed else said.max) * 1e9),
        jitter=said.jitter,
    )


def _pacer(traffic: Traffic, plan: TrafficPlan, info: RunInfo) -> Pacer | None:
    if traffic.polling.pace is None:
        return None
    belief = believed(info.target)
    return Pacer(traffic.polling.pace.per_second(belief.limits["retrieval"], belief.quotas(plan.key_count)))


def _job_ids(traffic: Traffic, base: Path, own_jobs: JobIds, keys: int) -> JobIds:
    if traffic.operation != "retrieval" or traffic.job_ids == "seeded":
        return JobIds(keys)
    return own_jobs if traffic.job_ids == "run" else read_job_ids(base / traffic.job_ids, keys)


def _expected(traffic: Traffic, plan: TrafficPlan) -> dict[str, frozenset[int]]:
    said = {name: frozenset(stage.expect) for stage in traffic.stages for name, _, _ in stage.parts}
    said[WARMUP] = frozenset(traffic.stages[0].expect)
    return {
        stage.name: said.get(stage.name, frozenset()) | (frozenset({429}) if stage.expect_429 else frozenset())
        for stage in plan.stages
    }
