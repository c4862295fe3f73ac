"""Measurements of one run, and a check whether two runs are comparable.

The analysis writes a run's ``RunMeasurements`` to ``measurements.json``. A run's line in a history contains them, too.
"""

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.errors import InputError
from loadtest.metrics import METRICS
from loadtest.program import mention
from loadtest.record import run_directory
from loadtest.record.run_directory import read_versioned
from loadtest.stats.shares import EventCount, share_score
from loadtest.words import NOTHING, count

FILE_NAME: Final = "measurements.json"
SCHEMA_VERSION: Final = 1
MOST_SCORE: Final = 50.0
"""Larger scores are out of range: e⁵⁰ ms exceed the age of the universe."""


class Metric(StrEnum):
    """The metrics compared for each traffic entry and stage."""

    RESPONSE_TIME_P50 = "response_time.p50"
    RESPONSE_TIME_P95 = "response_time.p95"
    EXECUTION_TIME_P50 = "execution_time.p50"
    EXECUTION_TIME_P95 = "execution_time.p95"
    OVERHEAD_P50 = "overhead.p50"
    TIME_TO_RESULT_P95 = "time_to_result.p95"
    ERROR_RATE = "error_rate"
    THROTTLED_RATE = "throttled_rate"
    """The share of 429s beyond the share that is expected from the assumed limiter."""
    GOODPUT = "goodput"


NATURES: Final = {metric: nature for metric in Metric if (nature := METRICS[metric].nature) is not None}


class Key(NamedTuple):
    """The key of a measurement."""

    traffic: str
    stage: str
    metric: Metric


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a run.

    Attributes:
        value: in ms, 1/s or as a share. For ``throttled_rate`` it is observed − expected, which may be negative.
        score: the value on the log or log-odds scale. A share of k events in n becomes (k + ½) ÷ (n + 1), so that its
            score is finite. For ``throttled_rate`` it is logit(observed) − logit(expected).
        n: sample size.
        se: standard error of ``score`` within the run, from time blocks, because successive requests are correlated.
            None if the run is too short for blocks.
        expected: the expected share for ``throttled_rate``, if known; otherwise None.
        resolution_ms: error of a time in ms, due to its last polling interval or to rounding; 0 for other metrics.
        gated: whether a verdict may use the measurement.
        why_not: why no verdict may use the measurement; empty if it is gated.
        definition: version of the metric's definition. Values of different versions are not compared.
    """

    traffic: str
    stage: str
    metric: Metric
    value: float
    score: float
    n: int
    se: float | None = None
    expected: float | None = None
    resolution_ms: float = 0.0
    gated: bool = True
    why_not: str = ""
    definition: int = 1

    @property
    def key(self) -> Key:
        return Key(self.traffic, self.stage, self.metric)

    @property
    def count(self) -> EventCount:
        expected = self.expected or 0.0
        events = min(max(self.value + expected, 0.0), 1.0) * self.n
        of_429s = self.metric == Metric.THROTTLED_RATE
        return EventCount(events, self.n, share_score(expected * self.n, self.n) if of_429s else 0.0)

    @property
    def known_se(self) -> float:
        """``se``, or 0 if it is unknown."""
        return self.se if self.se is not None and math.isfinite(self.se) else 0.0

    @property
    def unfit(self) -> str:
        """Why the measurement cannot be compared; empty if it can."""
        if not (abs(self.score) < MOST_SCORE and math.isfinite(self.value)):
            return "its value is out of range, or zero"
        return self.why_not or ("" if self.gated else "it is only shown")


class TargetIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a target that are equal in all comparable runs of a history.

    Attributes:
        host: scheme, host and port of the base URL; ``embedded`` for the embedded API.
        endpoint: a digest of ``x-wf-endpoint``, which distinguishes endpoints without revealing them.
        limits: the assumed limits and their algorithm, as text.
        faults: deliberate faults of an embedded API as text, in order.
        keys: number of API keys.
    """

    host: str
    endpoint: str
    limits: str
    faults: tuple[str, ...]
    keys: int


class GeneratorIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The load generator: its machine and the number of its workers."""

    os: str
    cpu: str
    cores: str
    workers: int


class ControlMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement that the service cannot affect. ``se`` is the standard error of log(value) within the run."""

    name: Literal["dispatch lag p99", "CPU loop"]
    value_ms: float
    se: float | None = None


class RunMeasurements(msgspec.Struct, frozen=True, kw_only=True):
    """A run's data for comparisons. Empty ``files`` and empty ``versions`` are unknown and match every value.

    Attributes:
        started: start time in UTC, ISO 8601.
        commit: the commit that the CI system builds, or else the working directory's Git commit.
        target_version: value of ``--target-version``. Versions of compared runs may differ.
        verdict: the run's verdict by its thresholds.
        idle_entries: traffic entries whose workflow does nothing.
        polling: for each traffic entry with jobs, a text such as ``polled every 1 s``. Older versions left it empty.
        not_found_entries: traffic entries whose ok operations all got an expected 404, so that no workflow ran.
        definition: values of the effective scenario by key, such as ``traffic.runs.stages.steady.rate``.
        files: digest of each file that the scenario refers to.
        versions: versions of Python and the harness, and the region of the load generator.
        same: facts that the scenario requires to be equal in its history: machine, python, harness or region.
        sketches: empty now. Older versions of loadtest require the key and may have filled it.
    """

    schema: int = SCHEMA_VERSION
    run: str
    scenario: str
    scenario_hash: str
    started: str
    commit: str
    target_version: str
    embedded: bool
    target: TargetIdentity
    generator: GeneratorIdentity
    valid: bool
    verdict: str
    sentence: str
    controls: tuple[ControlMeasurement, ...]
    measurements: tuple[Measurement, ...]
    idle_entries: tuple[str, ...] = ()
    not_found_entries: tuple[str, ...] = ()
    definition: dict[str, str] = {}
    files: dict[str, str] = {}
    versions: dict[str, str] = {}
    same: tuple[str, ...] = ()
    sketches: tuple[msgspec.Raw, ...] = ()
    polling: dict[str, str] = {}

    def polled(self, key: Key) -> str:
        """Return the text of ``polling`` for a response time; empty for other metrics."""
        return self.polling.get(key.traffic, "") if key.metric.startswith("response_time") else ""

    def by_key(self) -> dict[Key, Measurement]:
        return {one.key: one for one in self.measurements}


def significant(value: float, digits: int) -> float:
    """Round to significant digits. Further digits depend on the order in which a machine adds numbers."""
    return float(f"{value:.{digits}g}")


def read(directory: Path) -> RunMeasurements:
    """Read the measurements in a run's directory; raises ``InputError``."""
    path = directory / FILE_NAME
    if not path.exists() and (directory / run_directory.FILE_NAME).exists():
        run_directory.refuse_imported(directory)
    remedy = f"Run {mention('report', directory)} to create it."
    return read_versioned(path, RunMeasurements, SCHEMA_VERSION, remedy=remedy, error=InputError)


class Fact(NamedTuple):
    """A recorded fact about a run.

    Attributes:
        name: the fact's name in a sentence.
        label: the fact's name on a page; empty if no page shows it.
        of: returns the value as text; empty if it is unknown.
        needed: when two compared runs must have the same value. ``in a history`` excludes pairs of blocks. ``embedded``
            is for embedded targets, and ``if the same`` for facts in ``RunMeasurements.same``. Empty means never.
        unknown: text for an unknown value.
    """

    name: str
    label: str
    of: Callable[[RunMeasurements], str]
    needed: Literal["", "always", "in a history", "embedded", "if the same"] = ""
    unknown: str = "none"

    def shown(self, run: RunMeasurements) -> str:
        return self.of(run) or self.unknown


_HASH: Final = Fact("the scenario's hash", "Scenario hash", lambda run: run.scenario_hash, "always")
FACTS: Final = (
    Fact("the scenario", "", lambda run: run.scenario, "always"),
    Fact("whether the target is embedded", "", lambda run: "yes" if run.embedded else "no", "always"),
    Fact("the target's host", "Target", lambda run: run.target.host, "in a history"),
    Fact(
        "the endpoint (a digest of x-wf-endpoint)", "Endpoint, digest", lambda run: run.target.endpoint, "in a history"
    ),
    Fact("the assumed limits", "Limits assumed", lambda run: run.target.limits, "in a history"),
    Fact("the faults of the target", "Deliberate faults", lambda run: "; ".join(run.target.faults), "in a history"),
    Fact("the number of API keys", "API keys", lambda run: count(run.target.keys), "always"),
    _HASH,
    Fact("the form of the measurements (schema)", "", lambda run: str(run.schema), "always"),
    Fact("the processor of the machine", "CPU", lambda run: run.generator.cpu, "embedded"),
    Fact("the cores of the machine", "Cores", lambda run: run.generator.cores, "embedded"),
    Fact("the operating system", "OS", lambda run: run.generator.os, "embedded"),
    Fact(
        "the number of workers", "Workers", lambda run: f"{run.generator.workers or ''}", "always", "none, one process"
    ),
    Fact("", "Version of the target", lambda run: run.target_version, unknown="not stated"),
    Fact("", "Commit of the scenario", lambda run: run.commit[:12], unknown=NOTHING),
    Fact(
        "machine",
        "",
        lambda run: f"{run.generator.cpu}, {run.generator.cores} cores, {run.generator.os}",
        "if the same",
    ),
    Fact("python", "Python", lambda run: run.versions.get("python", ""), "if the same", "unknown"),
    Fact("harness", "Version of loadtest", lambda run: run.versions.get("harness", ""), "if the same", "unknown"),
    Fact("region", "Region", lambda run: run.versions.get("region", ""), "if the same", "unknown"),
)
"""A sentence names the first fact that differs, so the most informative facts come first."""


def mismatch(base: RunMeasurements, head: RunMeasurements, *, paired: bool = False) -> str:
    """Describe a difference that makes two runs incomparable; empty if there is none.

    The generator's machine must be the same only if an embedded target shares it, or if the scenario requires it.
    Otherwise the machine may change, because hosted runners change processors from job to job, and each run's checks of
    validity cover its generator.

    Args:
        base: an earlier run, or the base side of a pair.
        head: the judged run, or the head side of a pair.
        paired: whether the runs are the two sides of a pair. For the embedded API the scenario hash may then differ,
            because it covers the API's settings.
    """
    needed = {"always"} | (set() if paired else {"in a history"}) | ({"embedded"} if head.embedded else set())
    for fact in FACTS:
        if fact.needed not in needed or (fact is _HASH and paired and head.embedded):
            continue
        before, now = fact.shown(base), fact.shown(head)
        if before == now:
            continue
        if fact is _HASH and (changed := _differing(base.definition, head.definition)):
            name, before, now = changed
            return f"{name}: {before} before, {now} now"
        return f"{fact.name} differs: {before} before, {now} now"
    if paired:
        return ""
    if changed := _differing(base.files, head.files):
        return f"the content of {changed[0]} differs: digest {changed[1]} before, {changed[2]} now"
    facts = [fact for fact in _changed_facts(base, head) if fact.name in head.same]
    return "; ".join(f"{fact.name} differs: {fact.of(base)} before, {fact.of(head)} now" for fact in facts)


def causes(bases: Sequence[RunMeasurements], head: RunMeasurements) -> tuple[str, ...]:
    """Return sentences about changed facts that may have caused a difference. The runs are still comparable."""
    changed = [(fact, base) for base in bases for fact in _changed_facts(base, head)]
    return tuple(
        f"The {fact.name} changed, too: {fact.of(base)} before, {fact.of(head)} now." for fact, base in changed
    )


def _changed_facts(base: RunMeasurements, head: RunMeasurements) -> list[Fact]:
    facts = [(fact, {fact.of(base), fact.of(head)}) for fact in FACTS if fact.needed == "if the same"]
    return [fact for fact, values in facts if len(values) > 1 and "" not in values]


def _differing(before: dict[str, str], now: dict[str, str]) -> tuple[str, str, str] | None:
    """Return the first key whose values differ, and both values. None if none differs or a side is unknown."""
    keys = dict.fromkeys((*now, *before)) if before and now else {}
    return next(
        ((key, before.get(key, "none"), now.get(key, "none")) for key in keys if before.get(key) != now.get(key)), None
    )


def flattened(value: object, key: str = "") -> dict[str, str]:
    """Return the values of nested tables by dotted key. The key of a list's item is its name, or else its index."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = [(each.get("name", at) if isinstance(each, dict) else at, each) for at, each in enumerate(value)]
    else:
        return {key: str(value)}
    leaves: dict[str, str] = {}
    for part, each in items:
        leaves |= flattened(each, f"{key}.{part}" if key else str(part))
    return leaves
