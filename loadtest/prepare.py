"""A run that is about to be made: its directory, and all of ``run.json`` that is known before the first request."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from loadtest.contract import LimitName
from loadtest.errors import InputError
from loadtest.faults import to_text, to_words
from loadtest.http_headers import package_version
from loadtest.plan import AssumedLimits, traffic_plans
from loadtest.record.run_directory import new_run_directory, point_latest, save
from loadtest.record.run_info import (
    BudgetInfo,
    FaultInfo,
    LimitInfo,
    PreflightRequest,
    RunInfo,
    ScenarioInfo,
    TargetInfo,
    TrafficPlan,
)
from loadtest.scenario import scenario_hash
from loadtest.scenario.fields import MAX_BURST
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import Chosen, check_request_budget, demand_of
from loadtest.units import MAX_RATE, Limit

_PACKAGES: Final = ("workflow-loadtest", "locust", "gevent", "msgspec", "pyarrow", "pandas", "numpy", "matplotlib")


def prepare_run(
    loaded: LoadedScenario,
    *,
    url: str,
    embedded: bool,
    keys: int,
    command: Sequence[str],
    output_dir: Path,
    chosen: Chosen | None = None,
    preflight: Sequence[PreflightRequest] = (),
    workers: int = 1,
) -> tuple[Path, RunInfo]:
    """Make the directory of a run and write its ``run.json``.

    Args:
        loaded: the scenario in force.
        url: base URL of the target.
        embedded: whether ``[target]`` holds for it.
        keys: how many API keys share the traffic.
        command: the command line, which never holds a secret.
        output_dir: parent of the run directory.
        chosen: the target and its entry, if it has one.
        preflight: what was sent before.
        workers: how many processes make the load.

    Raises:
        InputError: if the run would exceed its request budget, its rates are impossible, or no directory can be made.
    """
    plans = _plans(loaded, assumed := assumed_limits_of(loaded, chosen, embedded=embedded), keys)
    budget = None if chosen is None else check_before_run(loaded, chosen, keys=keys, preflight=bool(preflight))
    info = RunInfo(
        id=(directory := new_run_directory(output_dir, loaded.name)).name,
        scenario=_scenario_info(loaded),
        seed=loaded.scenario.seed,
        target=_target_info(loaded, url, assumed, budget, chosen, embedded=embedded),
        keys=keys,
        workers=workers,
        traffic=plans,
        versions=_versions(),
        machine=_machine(),
        command=list(command),
        started=_now(),
        preflight=list(preflight),
    )
    return directory, _kept(info, directory)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _kept(info: RunInfo, directory: Path) -> RunInfo:
    save(info, directory)
    # Now, not at the end: whatever becomes of the run, `latest` is the one that was made last.
    point_latest(directory)
    return info


def _scenario_info(loaded: LoadedScenario) -> ScenarioInfo:
    scenario = loaded.scenario
    return ScenarioInfo(
        name=loaded.name, title=scenario.title, hash=scenario_hash(scenario), effective=loaded.effective
    )


def _target_info(
    loaded: LoadedScenario,
    url: str,
    assumed: AssumedLimits,
    budget: BudgetInfo | None,
    chosen: Chosen | None,
    *,
    embedded: bool,
) -> TargetInfo:
    spec = assumed.spec
    faults = loaded.scenario.target.settings.fault if embedded else ()
    return TargetInfo(
        url=url,
        embedded=embedded,
        limits={name: _limit_info(limit) for name, limit in assumed.limits.items()},
        limiter=spec.algorithm,
        burst=spec.burst,
        count_rejected=spec.count_rejected,
        limit_scope=spec.scope,
        limit_all=None if assumed.limit_all is None else _limit_info(assumed.limit_all),
        draws=assumed.draws,
        faults=[FaultInfo(text=to_text(fault), words=to_words(fault)) for fault in faults],
        budget=budget,
        tls=None if chosen is None else chosen.tls,
        headers={} if chosen is None else chosen.headers,
    )


def _limit_info(limit: Limit) -> LimitInfo:
    return LimitInfo(count=limit.count, window_s=limit.window)


def assumed_limits_of(loaded: LoadedScenario, chosen: Chosen | None, *, embedded: bool) -> AssumedLimits:
    """What to assume of the limits: the embedded target's own, or those of an entry over the documented ones."""
    entry = None if chosen is None else chosen.entry
    return AssumedLimits.for_scenario(loaded.scenario, embedded=embedded, limits=entry.limits if entry else None)


def limits_of(loaded: LoadedScenario, chosen: Chosen | None, *, embedded: bool) -> Mapping[LimitName, Limit]:
    """The limits of ``assumed_limits_of``, by their names."""
    return assumed_limits_of(loaded, chosen, embedded=embedded).limits


def check_before_run(loaded: LoadedScenario, chosen: Chosen, *, keys: int, preflight: bool) -> BudgetInfo | None:
    """Check that a scenario stays within its target's request budget, before anything is sent.

    Raises:
        InputError: if the run would exceed it (see ``loadtest.targets.check_request_budget``).
    """
    if chosen.entry is None:
        return None
    assumed = assumed_limits_of(loaded, chosen, embedded=False)
    demand = demand_of(loaded.scenario, _plans(loaded, assumed, keys), keys=keys, preflight=preflight)
    return check_request_budget(chosen, demand, assumed.limits, keys=keys, now=datetime.now(UTC))


def _plans(loaded: LoadedScenario, assumed: AssumedLimits, keys: int) -> dict[str, TrafficPlan]:
    scenario = loaded.scenario
    # Not scenario.keys: what [target] asks for is for the embedded target alone.
    needed = sum(scenario.key_groups.values())
    if keys < needed:
        raise InputError(
            f"{loaded.path}: key_groups need {needed} keys, and there are {keys}",
            "Put as many, separated by commas, into WORKFLOW_API_KEYS.",
        )
    plans = traffic_plans(scenario, assumed, keys)
    stages = [(name, stage) for name, plan in plans.items() for stage in plan.stages]
    for name, stage in stages:
        # A rate that is written in units of a limit is known only now.
        if max(stage.rate, stage.rate_to) > MAX_RATE or stage.burst > MAX_BURST:
            raise InputError(
                f"{loaded.path}: traffic.{name}.stages.{stage.name} comes to {max(stage.rate, stage.rate_to):g}/s"
                + (f" and a burst of {stage.burst}" if stage.burst else ""),
                f"At most {MAX_RATE:g}/s and bursts of {MAX_BURST} are possible: lower the rate or the limit.",
            )
    if all(stage.rate <= 0 and stage.rate_to <= 0 and stage.burst == 0 for _, stage in stages):
        raise InputError(f"{loaded.path}: every rate is zero, so nothing would be sent", "Give a stage a rate.")
    return plans


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: package_version(package) for package in _PACKAGES}}


def _machine() -> dict[str, str]:
    """Stable facts only: two runs on one machine must agree in them."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        match = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        model = match[1] if match else model
    return {
        "os": platform.system(),
        "release": platform.release(),
        "cpu": model or "unknown",
        "architecture": platform.machine(),
        "cores": str(os.cpu_count() or "unknown"),
    }
