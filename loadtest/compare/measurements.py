"""The measurements of one run for a comparison, its target, generator and controls; and which runs may be compared.

The analysis makes a ``RunMeasurements`` of a record and writes it as ``measurements.json`` beside it; a line of a
history holds the same. The unit of evidence is the run: a measurement is one value, and its ``se`` is what the run
itself knows of its spread.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.errors import InputError
from loadtest.metrics import METRICS

FILE_NAME: Final = "measurements.json"
SCHEMA_VERSION: Final = 1


class Metric(StrEnum):
    """What is compared of each traffic entry in each stage."""

    RESPONSE_TIME_P50 = "response_time.p50"
    RESPONSE_TIME_P95 = "response_time.p95"
    EXECUTION_TIME_P50 = "execution_time.p50"
    EXECUTION_TIME_P95 = "execution_time.p95"
    OVERHEAD_P50 = "overhead.p50"
    TIME_TO_RESULT_P95 = "time_to_result.p95"
    ERROR_RATE = "error_rate"
    THROTTLED_RATE = "throttled_rate"
    """Observed beyond what is expected of the assumed limiter."""
    GOODPUT = "goodput"


NATURES: Final = {metric: nature for metric in Metric if (nature := METRICS[metric].nature) is not None}
"""How each is compared."""


class Key(NamedTuple):
    """Which measurement: of a traffic entry, in a stage."""

    traffic: str
    stage: str
    metric: Metric


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a run.

    Attributes:
        value: ms, a share or 1/s, by the metric; of ``throttled_rate`` observed − expected, so that it may be below 0.
        score: the same on the metric's scale, where differences are taken. Of shares with half an event added
            ((k + ½) ÷ (n + 1)), so that none is infinite; of ``throttled_rate`` logit(observed) − logit(expected).
        n: samples that it rests on.
        se: standard error of ``score`` within the run, from blocks of time, so that autocorrelation is in it; None
            where the run is too short for blocks.
        expected: of ``throttled_rate`` the share that was expected; None of every other metric.
        resolution_ms: what the poll interval hides: time to result is known only within it.
        gated: whether a verdict may rest on it.
        why_not: why it is shown only; empty if it is gated.
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

    @property
    def key(self) -> Key:
        return Key(self.traffic, self.stage, self.metric)


PROBABILITIES: Final = tuple(round(0.025 * k, 3) for k in range(1, 40))
"""At which a ``Sketch`` has quantiles."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in short, for pictures: its quantiles (nearest rank, ms) at ``PROBABILITIES``, and n."""

    traffic: str
    stage: str
    time: Literal["response_time", "execution_time"]
    n: int
    quantiles_ms: tuple[float, ...]


class TargetIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which target it was, as far as it must be the same in a history. Never an embedded target's port.

    Attributes:
        host: scheme, host and port of the base URL; ``embedded`` for the embedded API.
        endpoint: a digest of ``x-wf-endpoint``: it tells two apart and gives neither away.
        limits: the assumed limits and their algorithm, as text.
        faults: as ``--fault`` takes them, in order.
        keys: how many API keys shared the traffic.
    """

    host: str
    endpoint: str
    limits: str
    faults: tuple[str, ...]
    keys: int


class GeneratorIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What made the load. It must be the same only where the target is embedded and shares the machine."""

    os: str
    cpu: str
    cores: str
    workers: int


class ControlMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """What the service cannot touch: it moves only if the surroundings do.

    Attributes:
        name: ``dispatch lag p99`` or ``CPU loop``.
        value_ms: of the run.
        se: standard error of its logarithm within the run; None where unknown.
    """

    name: Literal["dispatch lag p99", "CPU loop"]
    value_ms: float
    se: float | None = None


class RunMeasurements(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a comparison needs to know of a run.

    Attributes:
        started: UTC, ISO 8601.
        commit: of the working directory's Git repository, or what CI says; empty if unknown.
        target_version: what ``--target-version`` said; recorded, never matched.
        valid: whether the run's own validity holds.
        verdict: of the run by its thresholds.
        idle_entries: traffic entries whose workflow does nothing: they attribute a change to what is around workflows.
        not_found_entries: traffic entries that send requests which are answered 404 before any workflow runs.
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
    sketches: tuple[Sketch, ...]
    idle_entries: tuple[str, ...] = ()
    not_found_entries: tuple[str, ...] = ()

    def by_key(self) -> dict[Key, Measurement]:
        return {one.key: one for one in self.measurements}


def significant(value: float, digits: int) -> float:
    """Round to significant digits: the digits beyond them depend on how a machine adds up."""
    return float(f"{value:.{digits}g}")


def read(directory: Path) -> RunMeasurements:
    """What the report of a run tells a comparison.

    Raises:
        InputError: if there is nothing of the kind, it is damaged, or it has another schema version.
    """
    path = directory / FILE_NAME
    again = f"`loadtest report {directory}` makes it again."
    try:
        found = msgspec.json.decode(path.read_bytes(), type=RunMeasurements)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", f"`loadtest report {directory}` makes it.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", again) from error
    if found.schema != SCHEMA_VERSION:
        raise InputError(f"{path} has schema version {found.schema}; this loadtest reads {SCHEMA_VERSION}", again)
    return found


def mismatch(base: RunMeasurements, head: RunMeasurements, *, paired: bool = False) -> str:
    """What makes two runs not comparable, with both values; empty if nothing does.

    A history needs the same scenario, target (host, endpoint, limits, faults, number of keys) and, only where the
    target is embedded and shares the generator's machine, the same generator. Against another target the generator may
    change: hosted runners change processors from job to job, and each run's own validity judges its generator.
    The target's version is never matched: that is what a comparison is about.

    Args:
        base: an earlier run, or the base side of a pair.
        head: the run in question, or the head side.
        paired: the two sides of a pair are two deployments (or two settings of the embedded API) on purpose: host,
            endpoint, limits, faults and the scenario's hash, which holds the embedded API's settings, may differ.
    """
    fields = [_must_match(run, paired=paired, embedded=head.embedded) for run in (base, head)]
    name = next((name for name, value in fields[1].items() if fields[0][name] != value), "")
    return f"{name} differs: {_shown(fields[0][name])} before, {_shown(fields[1][name])} now" if name else ""


def _must_match(run: RunMeasurements, *, paired: bool, embedded: bool) -> dict[str, object]:
    """The fields of a run that must match, by their name in a sentence, the most telling first."""
    target, generator = run.target, run.generator
    found: dict[str, object] = {"the scenario": run.scenario, "whether the target is embedded": run.embedded}
    if not paired:
        found["the target's host"] = target.host
        found["the endpoint (a digest of x-wf-endpoint)"] = target.endpoint
        found["the assumed limits"] = target.limits
        found["the faults of the target"] = target.faults
    found["the number of API keys"] = target.keys
    if not paired or not embedded:
        found["the scenario's hash"] = run.scenario_hash
    found["the form of the measurements (schema)"] = run.schema
    if embedded:
        # The embedded API shares the generator's machine: another machine is another service.
        found["the processor of the machine"] = generator.cpu
        found["the cores of the machine"] = generator.cores
        found["the operating system"] = generator.os
        found["the number of workers"] = generator.workers
    return found


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return str(value) or "none"
