"""Advice on a client's policy, from the limits and execution times that are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.compute as pc

from loadtest import words
from loadtest.advice.compare import compare
from loadtest.advice.policies import PRESENT, Policy, present
from loadtest.advice.results import FILE_NAME, Advice, PolicyResult
from loadtest.advice.take_home import client_text, confirmation
from loadtest.advice.work import Candidate, Limits, Work, any_algorithm, endless_count
from loadtest.arrays import Floats
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import DOCUMENTED, LIMIT_NAMES, LIMITS_OF_OPERATION, LimitName, Operation
from loadtest.errors import InputError
from loadtest.limits import LimiterSpec
from loadtest.limits.probing.results import PROBE_SCHEMA, ProbeResult, Standing
from loadtest.plan import job_duration, traffic_plans
from loadtest.prepare import assumed_limits_of
from loadtest.processes import run_module
from loadtest.record import run_directory
from loadtest.record.figures import Figures, InferredLimiter, LimitFacts, read_figures
from loadtest.record.samples import read_batches
from loadtest.runs.target import ScenarioOptions
from loadtest.scenario import Scenario
from loadtest.targets import NamedEntry, named_entry
from loadtest.units import Limit

_DRAWN: Final = 1000
"""Number of execution times that are drawn at random for a scenario's workflow."""
_ASSUMED_S: Final = 1.0
"""Assumed execution time in s if none is known."""
_UNKNOWN: Final = "The execution time is unknown: 1 s is assumed. Give --execution, or --from with a scenario's run."
_UNSEEN: Final = "The limiter on {} is unknown: the advice assumes {}, and allows for every algorithm."
_OTHER_WINDOW_S: Final = 60.0
"""Window in s assumed for a concurrency limit, which has none."""


@dataclass(kw_only=True)
class _Known:
    """The facts that a run, a probe, a scenario or a target gives.

    Attributes:
        assumed: the limits that the scenario's rates refer to, as in ``80% of limit``.
        shared: whether a probe found that one limiter counts the requests of all limits.
        unseen: limits on which the probe, or a run against a running target, found no limiter.
        stated: whether a 429 states the wait (``Retry-After``).
        target: the scenario's ``[target]``, if the target is embedded.
        options: options of ``run`` that choose the target.
        execution_s: execution times in s.
        recorded: the requests and 429s of an imported log, as the result of the present policy.
    """

    source: str
    candidates: dict[LimitName, tuple[Candidate, ...]]
    assumed: AssumedLimits
    shared: bool = False
    unseen: Sequence[LimitName] = ()
    stated: bool = True
    keys: int = 1
    effective: Mapping[str, Any] | None = None
    target: Mapping[str, Any] | None = None
    options: dict[str, str] | None = None
    execution_s: Floats | None = None
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
    """Compare policies; write ``advice.json``, its page and, if possible, a scenario to confirm the advice.

    ``rate`` is in jobs/s, ``deadline`` and ``execution`` are in s. Return the exit code.
    """
    _check([jobs, runs, rate], endless=rate is not None, deadline=deadline, client=client)
    operation = Operation.SYNC_RUN if runs else Operation.ASYNC_RUN
    known = _known(source, scenario, target, targets, operation)
    limits = Limits(known.candidates, shared=known.shared or known.assumed.one_for_all, retry_after=known.stated)
    execution_s = known.execution_s if execution is None else np.array([execution])
    notes = _unseen(known, LIMITS_OF_OPERATION[operation])
    if execution_s is None:
        execution_s, notes = np.array([_ASSUMED_S]), [*notes, _UNKNOWN]
    count = jobs or runs or endless_count(rate or 1.0, limits)
    work = Work(operation, count, rate, min(clients, count), np.sort(execution_s))
    name, policy = _present(known, operation)
    shown = policy or known.recorded
    limited = replace(limits, candidates={each: known.candidates[each] for each in work.names})
    found = compare(work, limited, source=known.source, present=shown, deadline_s=deadline, notes=notes)
    files: dict[str, str] = {}
    if policy is not None and known.effective is not None and known.options is not None and rate is None:
        entry = known.effective["traffic"][name]
        confirmed, files = confirmation(work, limited, policy, entry, target=known.target, options=known.options)
        found = msgspec.structs.replace(found, confirmation=confirmed)
    _write(found, files, run_directory.new_run_directory(output_dir, "advice"))
    if client is not None:
        run_directory.write_atomically(client, client_text(found, limits))
    return found.exit_code


def _check(amounts: Sequence[float | None], *, endless: bool, deadline: float | None, client: Path | None) -> None:
    if amounts.count(None) != len(amounts) - 1:
        raise InputError("the amount of work is not clear", "Give one of --jobs 5000, --runs 500 and --rate 12/s.")
    if endless and deadline is not None:
        raise InputError("--deadline does not apply to --rate", "Give --jobs or --runs with --deadline.")
    if client is not None and not client.absolute().parent.is_dir():
        raise InputError(f"there is no folder for {client}", "Create it first.")


def _write(found: Advice, files: Mapping[str, str], directory: Path) -> None:
    for file, text in files.items():
        run_directory.write_atomically(directory / file, text)
    run_directory.write_json(directory / FILE_NAME, found)
    run_module("loadtest.report.advice", str(directory))


def _unseen(known: _Known, names: Sequence[LimitName]) -> list[str]:
    limits = {name: known.assumed.limit_on(name) for name in names if name in known.unseen}
    return [_UNSEEN.format(name, words.limit(limit.count, limit.window)) for name, limit in limits.items()]


def _known(
    source: str | None, scenario: str | None, target: str | None, targets: Path | None, operation: Operation
) -> _Known:
    if source is None:
        return _stated(scenario, target, targets, operation)
    if target is not None:
        raise InputError("--from and --target both state limits", "Give one of them.")
    known = _of_probe(source) if source.endswith(".json") else _of_run(source, operation)
    if scenario is None:
        return known
    loaded = ScenarioOptions(scenario=scenario).load()
    planned = _planned_s(loaded.scenario, operation) if known.execution_s is None else known.execution_s
    keys, effective = loaded.scenario.keys, loaded.effective
    return replace(known, keys=keys, effective=effective, execution_s=planned, recorded=None)


def _stated(scenario: str | None, target: str | None, targets: Path | None, operation: Operation) -> _Known:
    """Return the limits that the documentation, a target's entry or the embedded target states."""
    embedded = target is None
    named = NamedEntry() if target is None else named_entry(target, targets)
    source = "the documented limits" if embedded else f"the limits of {target!r}"
    if scenario is None:
        return _Known(source=source, candidates=_assumed(named.assumed, certain=not embedded), assumed=named.assumed)
    loaded = ScenarioOptions(scenario=scenario).load()
    assumed = assumed_limits_of(loaded, None if embedded else named)
    return _Known(
        source="the limits of the embedded target" if embedded else source,
        candidates=_assumed(assumed, certain=True),
        assumed=assumed,
        stated=not embedded or loaded.scenario.target.settings.retry_after != "none",
        keys=loaded.scenario.keys,
        effective=loaded.effective,
        target=loaded.effective.get("target", {}) if embedded else None,
        options={} if target is None else {"target": target} | ({"targets": str(targets)} if targets else {}),
        execution_s=_planned_s(loaded.scenario, operation),
    )


def _assumed(assumed: AssumedLimits, *, certain: bool) -> dict[LimitName, tuple[Candidate, ...]]:
    limits = {name: assumed.limit_on(name) for name in LIMIT_NAMES}
    if certain:
        return {name: (Candidate(assumed.spec, limit),) for name, limit in limits.items()}
    return {name: any_algorithm(limit) for name, limit in limits.items()}


def _of_probe(file: str) -> _Known:
    remedy = "Give the probe.json of a probe's folder, or a run."
    probed = run_directory.read_versioned(Path(file), ProbeResult, PROBE_SCHEMA, remedy=remedy, error=InputError)
    limits = DOCUMENTED | {each.limit: Limit(*each.documented) for each in probed.findings}
    standing = {each.limit: tuple(map(_strictest, each.standing)) for each in probed.findings if each.standing}
    assumed = AssumedLimits(limits)
    one = next((each.limit for each in probed.findings if each.shared.get("other limit") and each.standing), None)
    if one is not None:
        standing = dict.fromkeys(LIMIT_NAMES, standing[one])
    return _Known(
        source=f"a probe, {Path(file).absolute().parent.name}",
        candidates=_assumed(assumed, certain=False) | standing,
        assumed=assumed,
        shared=one is not None,
        stated=all(each.waits for each in probed.findings),
        target={} if probed.embedded else None,
        options={} if probed.embedded else {"host": probed.target},
        unseen=[name for name in LIMIT_NAMES if name not in standing],
    )


def _strictest(found: Standing) -> Candidate:
    """Return the strictest limiter within the ranges that a probe found for an algorithm."""
    burst = None if found.burst is None else max(1, found.burst[0])
    phase = 0.0 if found.phase_s is None else max(0.0, sum(found.phase_s) / 2)
    spec = LimiterSpec(found.algorithm, burst, found.count_rejected, phase=phase, round_down=found.round_down)
    return Candidate(spec, Limit(max(1, int(found.count[0])), found.window_s[1]))


def _of_run(source: str, operation: Operation) -> _Known:
    directory = run_directory.find_run(source)
    info, figures = run_directory.load(directory), read_figures(directory)
    embedded, assumed = info.target.embedded, AssumedLimits.recorded(info.target)
    facts = {name: figures.throttling.limits.get(assumed.drawn_on(name), LimitFacts()).inferred for name in LIMIT_NAMES}
    named = {name: each.named for name, each in facts.items() if each is not None and each.named}
    inferred = {name: tuple(_inferred(each, assumed.spec) for each in some) for name, some in named.items()}
    waits = [each.retry_after for each in figures.throttling.limits.values() if each.retry_after is not None]
    effective = None if info.imported else info.scenario.effective
    return _Known(
        source=f"the run {info.id}",
        candidates=_assumed(assumed, certain=embedded) | inferred,
        assumed=assumed,
        unseen=[] if embedded else [name for name in LIMIT_NAMES if name not in inferred],
        stated=not any(each.throttled for each in waits) or any(each.seconds or each.dates for each in waits),
        keys=info.keys,
        effective=effective,
        target=effective.get("target", {}) if embedded and effective else None,
        options=None if info.imported else {} if embedded else {"host": info.target.url},
        execution_s=_recorded_s(directory, operation),
        recorded=_recorded(info.elapsed_s, figures, operation) if info.imported else None,
    )


def _recorded(elapsed_s: float | None, figures: Figures, operation: Operation) -> PolicyResult | None:
    """Return a log's requests and 429s on the limits that the work uses; None if there are no such requests."""
    used = [each for each in figures.limits if each.limit in LIMITS_OF_OPERATION[operation] and each.sent]
    sent, rejected = sum(each.sent for each in used), sum(each.throttled for each in used)
    duration = words.seconds(round(elapsed_s or 0.0, 1))
    recorded = f"429 on {words.count(rejected)} of {words.counted(sent, 'request')} in {duration}"
    return PolicyResult(name=PRESENT, words=recorded, done=None, requests=sent, rejected=rejected) if used else None


def _inferred(found: InferredLimiter, assumed: LimiterSpec) -> Candidate:
    spec = LimiterSpec(found.limiter, found.burst, found.count_rejected, assumed.scope, found.phase_s, found.round_down)
    return Candidate(spec, Limit(found.count, found.window_s or _OTHER_WINDOW_S))


def _recorded_s(directory: Path, operation: Operation) -> Floats | None:
    """Return the execution times in s of a run's operations of one kind; None if there are none, as in a log."""
    parts = [np.zeros(0)]
    for batch in read_batches(directory):
        wanted = pc.and_(pc.equal(batch["row"], "operation"), pc.equal(batch["operation"], str(operation)))
        parts.append(batch.filter(wanted)["execution_time_ms"].drop_null().to_numpy() / 1000)
    found = np.concatenate(parts)
    return found if len(found) else None


def _planned_s(scenario: Scenario, operation: Operation) -> Floats | None:
    """Return execution times in s of the operation's workflow; None if the scenario does not determine them."""
    if (named := _entry(scenario, operation)) is None:
        return None
    duration = job_duration(scenario.traffic[named])
    drawn = duration.draw(np.random.Generator(np.random.PCG64(scenario.seed)), _DRAWN)
    return drawn if duration.known and scenario.traffic[named].inputs is None else None


def _entry(scenario: Scenario, operation: Operation) -> str | None:
    return next((name for name, each in scenario.traffic.items() if each.operation == operation), None)


def _present(known: _Known, operation: Operation) -> tuple[str, Policy | None]:
    """Return the name of the scenario's first entry with this operation, and its policy at its first positive rate."""
    scenario = None if known.effective is None else Scenario.model_validate(known.effective)
    if scenario is None or (name := _entry(scenario, operation)) is None:
        return "", None
    plan = traffic_plans(scenario, known.assumed, known.keys)[name]
    rates = [max(stage.rate, stage.burst / stage.duration_s) for stage in plan.stages if not stage.warmup]
    rate = next((each for each in rates if each > 0), 1.0) / known.assumed.quotas(plan.key_count)
    return name, present(scenario.traffic[name], rate)
