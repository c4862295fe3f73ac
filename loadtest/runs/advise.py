"""Advice on a client's policy: the limits and execution times that are known, and the comparison of policies."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.advice.compare import compare
from loadtest.advice.confirmation import confirmation
from loadtest.advice.policies import PRESENT, Policy, present
from loadtest.advice.results import PolicyResult, save
from loadtest.advice.take_home import client_text
from loadtest.advice.work import Candidate, Limits, Work, any_algorithm, documented, endless_count
from loadtest.arrays import Floats
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_NAMES, LimitName, Operation
from loadtest.errors import InputError
from loadtest.limits import LimiterSpec
from loadtest.limits.probing.results import PROBE_SCHEMA, ProbeResult, Standing
from loadtest.plan import job_duration, traffic_plans
from loadtest.processes import run_module
from loadtest.record import run_directory
from loadtest.record.figures import Figures, InferredLimiter, read_figures
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import read_batches
from loadtest.runs.target import ScenarioOptions
from loadtest.scenario import Scenario
from loadtest.targets import TARGETS_FILE, entry_named
from loadtest.units import Limit

_DRAWN: Final = 1000
"""Execution times drawn from a workflow's parameters."""
_ASSUMED_S: Final = 1.0
"""Execution time in s where nothing is known."""
_UNKNOWN: Final = "The execution time is unknown: 1 s is assumed. Give --execution, or --from RUN."
_OTHER_WINDOW_S: Final = 60.0
"""Window in s of a limit that has none, a concurrency limit."""


@dataclass(kw_only=True)
class _Known:
    """The facts that a run, probe, scenario or target gives.

    Attributes:
        source: where the limits come from.
        limits: the limits.
        execution_s: execution times in s, ascending; None if unknown.
        scenario: with the client's policy.
        embedded: whether the scenario is for the embedded target.
        assumed: the limits that rates of the scenario refer to.
        keys: number of API keys.
        effective: the scenario as written.
        recorded: the present result, of an imported log.
    """

    source: str
    limits: Limits
    scenario: Scenario | None = None
    assumed: AssumedLimits | None = None
    keys: int = 1
    embedded: bool = False
    execution_s: Floats | None = None
    effective: Mapping[str, Any] | None = None
    recorded: PolicyResult | None = None


def advise(
    *,
    source: str | None,
    scenario: str | None,
    target: str | None,
    targets: Path | None,
    jobs: int | None,
    runs: int | None,
    rate: float | None,
    clients: int,
    deadline: float | None,
    execution: float | None,
    client: Path | None,
    output_dir: Path,
) -> int:
    """Compare policies, write ``advice.json`` with its page and a scenario that confirms it, and return the exit code.

    ``rate`` is in jobs/s, ``deadline`` and ``execution`` are in s.
    """
    if [jobs, runs, rate].count(None) != 2:
        raise InputError("the amount of work is not clear", "Give one of --jobs 5000, --runs 500 and --rate 12/s.")
    operation = Operation.SYNC_RUN if runs else Operation.ASYNC_RUN
    known = _known(source, scenario, target, targets, operation)
    execution_s = known.execution_s if execution is None else np.array([execution])
    notes = [] if execution_s is not None else [_UNKNOWN]
    execution_s = np.array([_ASSUMED_S]) if execution_s is None else execution_s
    count = jobs or runs or endless_count(rate or 1.0, known.limits)
    work = Work(operation, count, rate, clients, np.sort(execution_s))
    name, policy = _present(known, operation)
    found = compare(
        work, known.limits, source=known.source, present=policy or known.recorded, deadline_s=deadline, notes=notes
    )
    directory = run_directory.new_run_directory(output_dir, "advice")
    if policy is not None and known.effective is not None and rate is None:
        target_table = known.effective.get("target", {}) if known.embedded else None
        confirmed, files = confirmation(work, known.limits, policy, known.effective["traffic"][name], target_table)
        found = msgspec.structs.replace(found, confirmation=confirmed)
        for file, text in files.items():
            run_directory.write_atomically(directory / file, text)
    save(found, directory)
    if client is not None:
        run_directory.write_atomically(client, client_text(found, known.limits))
    run_module("loadtest.report.advice", str(directory))
    return found.exit_code


def _known(
    run: str | None, scenario: str | None, target: str | None, targets: Path | None, operation: Operation
) -> _Known:
    if run is not None and run.endswith(".json"):
        return _of_probe(Path(run))
    if run is not None:
        return _of_run(run_directory.find_run(run), operation)
    entry = None if target is None else entry_named(targets or TARGETS_FILE, target)
    limits, limiter = (None, None) if entry is None else (entry.limits, entry.limiter)
    if scenario is None:
        known = documented()
        for name, limit in (limits or {}).items():
            known[name] = any_algorithm(limit)
        if limiter is not None:
            known = {name: (Candidate(limiter, each[0].limit),) for name, each in known.items()}
        return _Known(
            source="the documented limits" if target is None else f"the limits of {target!r}", limits=Limits(known)
        )
    loaded = ScenarioOptions(scenario=scenario).load()
    embedded, settings = target is None, loaded.scenario.target.settings
    assumed = AssumedLimits.for_scenario(loaded.scenario, embedded=embedded, limits=limits, limiter=limiter)
    certain = embedded or limiter is not None
    stated = not embedded or settings.retry_after != "none"
    return _Known(
        source=f"the limits of {'the embedded target' if embedded else repr(target)}",
        limits=Limits(_assumed(assumed, certain=certain), shared=assumed.one_for_all, retry_after=stated),
        scenario=loaded.scenario,
        assumed=assumed,
        keys=loaded.scenario.keys,
        embedded=embedded,
        execution_s=_planned_s(loaded.scenario, operation),
        effective=loaded.effective,
    )


def _assumed(assumed: AssumedLimits, *, certain: bool) -> dict[LimitName, tuple[Candidate, ...]]:
    limits = {name: assumed.limit_on(name) for name in LIMIT_NAMES}
    if certain:
        return {name: (Candidate(assumed.spec, limit),) for name, limit in limits.items()}
    return {name: any_algorithm(limit) for name, limit in limits.items()}


def _of_probe(path: Path) -> _Known:
    probed = run_directory.read_versioned(path, ProbeResult, PROBE_SCHEMA, error=InputError)
    candidates = documented()
    for finding in probed.findings:
        found = tuple(map(_strictest, finding.standing))
        candidates[finding.limit] = found or any_algorithm(Limit(*finding.documented))
    return _Known(source=f"the probe of {probed.target}", limits=Limits(candidates))


def _strictest(found: Standing) -> Candidate:
    """The limiter with the strictest numbers that a probe left possible."""
    burst = None if found.burst is None else max(1, found.burst[0])
    phase = 0.0 if found.phase_s is None else max(0.0, sum(found.phase_s) / 2)
    spec = LimiterSpec(found.algorithm, burst, found.count_rejected, phase=phase, round_down=found.round_down)
    return Candidate(spec, Limit(max(1, int(found.count[0])), found.window_s[1]))


def _of_run(directory: Path, operation: Operation) -> _Known:
    info, figures = run_directory.load(directory), read_figures(directory)
    scenario = None if info.imported else Scenario.model_validate(info.scenario.effective)
    embedded = info.target.embedded
    assumed = AssumedLimits.recorded(info.target)
    candidates = _assumed(assumed, certain=embedded)
    for name in LIMIT_NAMES:
        facts = figures.throttling.limits.get(assumed.drawn_on(name))
        if facts is not None and facts.inferred is not None and facts.inferred.named:
            candidates[name] = tuple(_inferred(each, assumed.spec) for each in facts.inferred.named)
    waits = [each.retry_after for each in figures.throttling.limits.values() if each.retry_after is not None]
    rejected = sum(each.throttled for each in waits)
    stated = not rejected or sum(each.seconds + each.dates for each in waits) > 0
    return _Known(
        source=f"the run {info.id}",
        limits=Limits(candidates, shared=assumed.one_for_all, retry_after=stated),
        scenario=scenario,
        assumed=assumed,
        keys=info.keys,
        embedded=embedded,
        execution_s=_recorded_s(directory, operation),
        effective=info.scenario.effective,
        recorded=_recorded(info, figures) if info.imported else None,
    )


def _recorded(info: RunInfo, figures: Figures) -> PolicyResult:
    """The 429s and the duration of a log, as recorded."""
    requests = figures.overall.requests
    return PolicyResult(
        name=PRESENT,
        words="as recorded",
        done=0,
        seconds=info.elapsed_s,
        bound_ratio=None,
        requests=requests.sent,
        rejected=round(requests.sent * (requests.throttled_rate or 0.0)),
        wait_p95_s=None,
        polls_per_job=None,
        worst="",
    )


def _inferred(found: InferredLimiter, assumed: LimiterSpec) -> Candidate:
    spec = LimiterSpec(found.limiter, found.burst, found.count_rejected, assumed.scope, found.phase_s, found.round_down)
    return Candidate(spec, Limit(found.count, found.window_s or _OTHER_WINDOW_S))


def _recorded_s(directory: Path, operation: Operation) -> Floats | None:
    """The execution times of a run's operations; None without any, as in a log."""
    parts = [np.zeros(0)]
    for batch in read_batches(directory):
        table = pa.Table.from_batches([batch])
        wanted = pc.and_(_are(table["row"], "operation"), _are(table["operation"], operation))
        parts.append(table.filter(wanted)["execution_time_ms"].drop_null().to_numpy() / 1000)
    found = np.concatenate(parts)
    return found if len(found) else None


def _are(column: pa.ChunkedArray, word: str) -> pa.ChunkedArray:
    return pc.equal(column.cast(pa.string()), word)


def _planned_s(scenario: Scenario, operation: Operation) -> Floats | None:
    """Execution times of a scenario's workflow, if its parameters tell."""
    named = _entry(scenario, operation)
    if named is None:
        return None
    duration = job_duration(scenario.traffic[named])
    drawn = duration.draw(np.random.Generator(np.random.PCG64(scenario.seed)), _DRAWN)
    return drawn if duration.known and scenario.traffic[named].inputs is None else None


def _entry(scenario: Scenario, operation: Operation) -> str | None:
    return next((name for name, each in scenario.traffic.items() if each.operation == operation), None)


def _present(known: _Known, operation: Operation) -> tuple[str, Policy | None]:
    """The scenario's first entry of this operation, and its policy at the rate of its first stage with traffic."""
    if known.scenario is None or known.assumed is None or (name := _entry(known.scenario, operation)) is None:
        return "", None
    plan = traffic_plans(known.scenario, known.assumed, known.keys)[name]
    rates = [max(stage.rate, stage.burst / stage.duration_s) for stage in plan.stages if not stage.warmup]
    rate = next((each for each in rates if each > 0), 1.0) / known.assumed.quotas(plan.key_count)
    return name, present(known.scenario.traffic[name], rate)
