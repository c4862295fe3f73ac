"""Preparation of a run: its directory, and the part of ``run.json`` that is known before the first request."""

import hashlib
import hmac
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from loadtest.contract import LIMIT_OF_OPERATION
from loadtest.credentials import credentials
from loadtest.errors import InputError
from loadtest.faults import to_text, to_words
from loadtest.http_headers import package_version
from loadtest.plan import AssumedLimits, Question, traffic_plans
from loadtest.processes import SPARE_FILES, allow_files
from loadtest.program import mention
from loadtest.record.run_directory import new_run_directory, point_latest, save
from loadtest.record.run_info import (
    BudgetInfo,
    FaultInfo,
    PreflightRequest,
    RunInfo,
    ScenarioInfo,
    TargetInfo,
    TrafficPlan,
)
from loadtest.scenario import MAX_BURST, LoadedScenario, scaled, scenario_hash
from loadtest.targets import NamedEntry, check_request_budget, minimum_load, preflight_load, repeated
from loadtest.units import MAX_RATE
from loadtest.words import joined, times_as

COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
"""In these variables, GitHub, GitLab and Jenkins state the commit of a build."""
REGION_VARIABLES: Final = ("LOADTEST_REGION", "AWS_REGION", "GOOGLE_CLOUD_REGION")
"""These variables name the load generator's region. The first is ours, and cloud runtimes set the others."""
_PACKAGES: Final = ("workflow-loadtest", "locust", "gevent", "msgspec", "pyarrow", "pandas", "numpy", "matplotlib")


def prepare_run(
    loaded: LoadedScenario,
    *,
    url: str,
    keys: int,
    command: Sequence[str],
    output_dir: Path,
    block: str | None = None,
    chosen: NamedEntry | None = None,
    preflight: Sequence[PreflightRequest] = (),
    workers: int = 1,
    target_version: str = "",
) -> tuple[Path, RunInfo]:
    """Create the directory of a run in ``output_dir`` and write its ``run.json``.

    ``block`` is the subdirectory of one block in a comparison's ``output_dir``. ``preflight`` lists the preflight's
    requests. ``command`` is a command line without secrets. ``chosen`` is None if the target is embedded.

    Raises:
        InputError: if the run is impossible, if it would exceed its request budget, or if its directory cannot be made.
    """
    assumed = assumed_limits_of(loaded, chosen)
    plans = planned_traffic(loaded, assumed, keys)
    users = sum(plan.users for plan in plans.values())
    # Each worker opens its own share of the connections. An embedded target holds the connections of all workers.
    _check_files(users if chosen is None else -(-users // workers))
    budget = None if chosen is None else check_before_run(loaded, chosen, keys=keys, preflight=bool(preflight))
    info = RunInfo(
        id="",
        scenario=_scenario_info(loaded),
        seed=loaded.scenario.seed,
        target=_target_info(loaded, url, assumed, chosen, budget),
        keys=keys,
        workers=workers,
        traffic=plans,
        preflight=list(preflight),
        target_version=target_version,
        versions={"python": platform.python_version(), **{name: package_version(name) for name in _PACKAGES}},
        machine=_machine(),
        command=list(command),
        commit=current_commit(),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    return _place(info, output_dir, block), info


def _check_files(users: int) -> None:
    if users + SPARE_FILES > (files := allow_files()):
        raise InputError(
            f"the limit of open files is {files:,}, and {users:,} users need {users + SPARE_FILES:,}",
            f"Raise it (ulimit -n {users + SPARE_FILES}), or lower the load.",
        )


def _place(info: RunInfo, output_dir: Path, block: str | None) -> Path:
    """Save a run in a new directory. The run's id is the directory's path below the folder of all runs."""
    directory = new_run_directory(output_dir, info.scenario.name) if block is None else output_dir / block
    directory.mkdir(parents=True, exist_ok=True)
    info.id = directory.name if block is None else f"{output_dir.name}/{block}"
    save(info, directory)
    if block is None:
        # This is done now rather than at the end, so that `latest` is the newest run even if that run fails.
        point_latest(directory)
    return directory


def _scenario_info(loaded: LoadedScenario) -> ScenarioInfo:
    scenario = loaded.scenario
    named = {name for each in scenario.traffic.values() for name in each.files}
    modules = {each.user.partition(":")[0] for each in scenario.traffic.values() if each.user}
    named |= {f"{module.replace('.', '/')}.py" for module in modules}
    found = [(name, path) for name in sorted(named) if (path := loaded.path.parent / name).is_file()]
    return ScenarioInfo(
        name=loaded.name,
        title=scenario.title,
        hash=scenario_hash(scenario),
        effective=loaded.effective,
        files={name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for name, path in found},
    )


def _target_info(
    loaded: LoadedScenario, url: str, assumed: AssumedLimits, chosen: NamedEntry | None, budget: BudgetInfo | None
) -> TargetInfo:
    spec = assumed.spec
    endpoint = None if chosen is None else (chosen.entry and chosen.entry.endpoint) or credentials()[1]
    faults = loaded.scenario.target.settings.fault if chosen is None else ()
    return TargetInfo(
        url=url,
        embedded=chosen is None,
        limits={str(name): limit for name, limit in assumed.limits.items()},
        limiter=spec.algorithm,
        burst=spec.burst,
        count_rejected=spec.count_rejected,
        phase=spec.phase,
        round_down=spec.round_down,
        limit_scope=spec.scope,
        limit_all=assumed.limit_all,
        draws=assumed.draws,
        faults=[FaultInfo(text=to_text(fault), words=to_words(fault)) for fault in faults],
        budget=budget,
        tls=None if chosen is None else chosen.tls,
        # The embedded target's endpoint is always the same, so it needs no digest.
        endpoint_digest="" if endpoint is None else endpoint_digest(endpoint),
        headers={} if chosen is None else chosen.headers,
    )


def endpoint_digest(endpoint: str) -> str:
    """Return eight hex digits that distinguish endpoints but do not reveal them."""
    # The digest is keyed, so that tables of common digests do not list it.
    return hmac.new(b"loadtest x-wf-endpoint", endpoint.encode(), hashlib.sha256).hexdigest()[:8]


def current_commit() -> str:
    """Return the commit that a CI system builds, or else the working directory's commit. It is empty if unknown."""
    for name in COMMIT_VARIABLES:
        if commit := os.environ.get(name, "").strip():
            return commit[:64]
    if (git := shutil.which("git")) is None:
        return ""
    try:
        done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def assumed_limits_of(loaded: LoadedScenario, chosen: NamedEntry | None) -> AssumedLimits:
    """Return the assumed limits of the ``chosen`` target, or the embedded target's limits if it is None."""
    return AssumedLimits.of_embedded(loaded.scenario) if chosen is None else chosen.assumed


def differing_limits(loaded: LoadedScenario, chosen: NamedEntry) -> str:
    """Return a question if assumed limits that are not in the target's entry differ from the scenario's; else "".

    Rates in units of a limit refer to the documented limits, unless the target's entry states other limits.
    """
    own, assumed = assumed_limits_of(loaded, None).limits, chosen.assumed.limits
    stated = () if chosen.entry is None else chosen.entry.limits
    names = dict.fromkeys(LIMIT_OF_OPERATION[each.operation] for each in loaded.scenario.traffic.values())
    odd = [name for name in names if name not in stated and assumed[name] != own[name]]
    if not odd:
        return ""
    return (
        f"Assumed for this target: {joined([f'{name} {assumed[name]}' for name in odd])}, not the scenario's "
        f"target.enforce ({joined([str(own[name]) for name in odd])}). Does it enforce other limits? State them as "
        f"`limits` in targets.toml, or measure them with {mention('probe', target=chosen.name)}."
    )


def shortened(loaded: LoadedScenario, seconds: float, chosen: NamedEntry | None) -> LoadedScenario:
    """Return the scenario scaled so that its longest entry takes ``seconds``.

    Raises:
        InputError: if the scenario cannot be scaled, or a burst's stage would become shorter than its limit's window.
    """
    made, assumed = scaled(loaded, seconds), assumed_limits_of(loaded, chosen)
    for name, traffic in loaded.scenario.traffic.items():
        window = assumed.limit_on(LIMIT_OF_OPERATION[traffic.operation]).window
        for stage, short in zip(traffic.stages, made.scenario.traffic[name].stages, strict=True):
            if stage.burst is not None and short.duration < window <= stage.duration:
                raise InputError(
                    f"{loaded.path}: traffic.{name}.stages.{stage.name} is a burst and would last "
                    f"{short.duration:.3g} s, less than its limit's window of {window:g} s",
                    f"Use --duration {math.ceil(loaded.scenario.duration * window / stage.duration)}s or more.",
                )
    return made


def question_of(loaded: LoadedScenario, chosen: NamedEntry | None, *, keys: int, **given: float | None) -> Question:
    """Return the input of a forecast. ``given`` may hold its ``start`` and ``job_s``.

    Raises:
        InputError: if the traffic cannot be planned (see ``planned_traffic``).
    """
    settings, assumed = loaded.scenario.target.settings, assumed_limits_of(loaded, chosen)
    plans = planned_traffic(loaded, assumed, keys)
    factor = settings.retry_after_factor if chosen is None and settings.retry_after != "none" else None
    dated = settings.retry_after == "date"
    return Question(loaded.scenario, plans, assumed, retry_after=factor, as_date=dated, **given)


def check_before_run(
    loaded: LoadedScenario, chosen: NamedEntry, *, keys: int, preflight: bool, starts_s: Sequence[float] = (0.0,)
) -> BudgetInfo | None:
    """Check and return the request budget of a run before anything is sent. Return None if the target has no entry.

    The scenario starts at each of ``starts_s``, in seconds from the first start. By default, it runs once. If
    ``starts_s`` is empty, only the preflight is checked.

    Raises:
        InputError: if the run would exceed its budget (see ``loadtest.targets.check_request_budget``).
    """
    if chosen.entry is None:
        return None
    once = minimum_load(loaded.scenario, planned_traffic(loaded, chosen.assumed, keys))
    load = repeated(once, starts_s, preflight_load(loaded.scenario, keys) if preflight else None)
    return check_request_budget(chosen, load, chosen.assumed.limits, keys=keys, now=datetime.now(UTC))


def planned_traffic(loaded: LoadedScenario, assumed: AssumedLimits, keys: int) -> dict[str, TrafficPlan]:
    """Return the plan of each traffic entry, by name.

    Raises:
        InputError: if there are too few keys, if a rate or burst is too large, or if nothing would be sent.
    """
    scenario = loaded.scenario
    # `scenario.keys` would include the keys of [target], which only the embedded target needs.
    needed = sum(scenario.key_groups.values())
    if keys < needed:
        raise InputError(
            f"{loaded.path}: key_groups need {needed} keys, but there are {keys}",
            "Set that many keys in WORKFLOW_API_KEYS, separated by commas (for a plan: --keys).",
        )
    plans = traffic_plans(scenario, assumed, keys)
    stages = [(name, stage) for name, plan in plans.items() for stage in plan.stages]
    for name, stage in stages:
        # A rate in units of a limit becomes a number only here, because the scenario does not know the target's limit.
        if (peak := max(stage.rate, stage.rate_to)) > MAX_RATE or stage.burst > MAX_BURST:
            raise InputError(
                f"{loaded.path}: traffic.{name}.stages.{stage.name} amounts to {times_as(peak)}/s"
                + (f" and a burst of {stage.burst:,}" if stage.burst else ""),
                f"The maximum is {MAX_RATE:,.0f}/s and bursts of {MAX_BURST:,}: lower the rate or the limit.",
            )
    if all(stage.rate <= 0 and stage.rate_to <= 0 and stage.burst == 0 for _, stage in stages):
        raise InputError(f"{loaded.path}: every rate is zero, so nothing would be sent", "Give a stage a rate.")
    return plans


def _machine() -> dict[str, str]:
    """Return stable facts about the machine. They must be equal in all runs on the same machine."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    model = match[1] if match else platform.processor()
    region = next(filter(None, map(os.environ.get, REGION_VARIABLES)), "")
    facts = {
        "os": platform.system(),
        "release": platform.release(),
        "cpu": model or "unknown",
        "architecture": platform.machine(),
        "cores": str(os.cpu_count() or "unknown"),
    }
    return facts | ({"region": region[:64]} if region else {})
