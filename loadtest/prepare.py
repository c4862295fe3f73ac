"""Prepares a run: its directory, and the part of ``run.json`` that is known before the first request."""

import hashlib
import hmac
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Required, TypedDict, Unpack

from loadtest.credentials import credentials
from loadtest.errors import InputError
from loadtest.faults import to_text, to_words
from loadtest.http_headers import package_version
from loadtest.plan import AssumedLimits, traffic_plans
from loadtest.processes import SPARE_FILES, allow_files
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
from loadtest.scenario import MAX_BURST, LoadedScenario, scenario_hash
from loadtest.targets import ChosenTarget, check_request_budget, minimum_load, preflight_load, repeated
from loadtest.units import MAX_RATE, Limit

COMMIT_VARIABLES: Final = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
"""Where GitHub, GitLab and Jenkins say which commit they build."""
_PACKAGES: Final = ("workflow-loadtest", "locust", "gevent", "msgspec", "pyarrow", "pandas", "numpy", "matplotlib")


class RunFacts(TypedDict, total=False):
    """What is known of a run beside its scenario.

    Attributes:
        url: base URL of the target.
        embedded: whether it is the embedded target, with the scenario's ``[target]``.
        keys: how many API keys share the traffic.
        command: the command line, which never holds a secret.
        chosen: the target and its entry, if it is not the embedded one.
        preflight: the requests that a preflight sent.
        workers: how many processes make the load.
        target_version: what the user calls the version of the target.
    """

    url: Required[str]
    embedded: Required[bool]
    keys: Required[int]
    command: Required[Sequence[str]]
    chosen: ChosenTarget | None
    preflight: Sequence[PreflightRequest]
    workers: int
    target_version: str


def prepare_run(
    loaded: LoadedScenario, *, output_dir: Path, block: str | None = None, **about: Unpack[RunFacts]
) -> tuple[Path, RunInfo]:
    """Make the directory of a run and write its ``run.json``.

    Args:
        loaded: the scenario in force.
        output_dir: parent of the run directory.
        block: for a block of a comparison, whose directory ``output_dir`` then is: its directory in there.
        about: the rest, as ``RunFacts`` says.

    Raises:
        InputError: if the run exceeds its request budget, cannot be offered as planned, or has no directory.
    """
    info = _run_info(loaded, about)
    directory, info.id = _place(output_dir, loaded.name, block)
    save(info, directory)
    if block is None:
        # Now, not at the end: whatever becomes of the run, `latest` is the one that was made last.
        point_latest(directory)
    return directory, info


def _run_info(loaded: LoadedScenario, about: RunFacts) -> RunInfo:
    """All but the id, which is its directory's."""
    chosen, keys, preflight = about.get("chosen"), about["keys"], list(about.get("preflight", ()))
    assumed = assumed_limits_of(loaded, chosen, embedded=about["embedded"])
    plans = planned_traffic(loaded, assumed, keys)
    users = sum(plan.users for plan in plans.values())
    # An embedded target has the connections of all workers.
    _check_files(users if about["embedded"] else -(-users // about.get("workers", 1)))
    budget = None if chosen is None else check_before_run(loaded, chosen, keys=keys, preflight=bool(preflight))
    return RunInfo(
        id="",
        scenario=_scenario_info(loaded),
        seed=loaded.scenario.seed,
        target=_target_info(loaded, about["url"], assumed, chosen, budget=budget, embedded=about["embedded"]),
        keys=keys,
        workers=about.get("workers", 1),
        traffic=plans,
        preflight=preflight,
        target_version=about.get("target_version", ""),
        **_surroundings(about["command"]),
    )


def _check_files(users: int) -> None:
    """Raise InputError unless so many users can be connected at a time."""
    if users + SPARE_FILES > (files := allow_files()):
        raise InputError(
            f"only {files:,} files may be open at a time, and {users:,} users need {users + SPARE_FILES:,}",
            f"Allow more (ulimit -n {users + SPARE_FILES}), or offer less.",
        )


def _place(output_dir: Path, name: str, block: str | None) -> tuple[Path, str]:
    """Directory and id of a run; the id of a block leads from the folder of all runs to it, like any other."""
    if block is None:
        directory = new_run_directory(output_dir, name)
        return directory, directory.name
    directory = output_dir / block
    directory.mkdir(parents=True, exist_ok=True)
    return directory, f"{output_dir.name}/{block}"


def _scenario_info(loaded: LoadedScenario) -> ScenarioInfo:
    scenario = loaded.scenario
    return ScenarioInfo(
        name=loaded.name, title=scenario.title, hash=scenario_hash(scenario), effective=loaded.effective
    )


def _target_info(
    loaded: LoadedScenario,
    url: str,
    assumed: AssumedLimits,
    chosen: ChosenTarget | None,
    *,
    budget: BudgetInfo | None,
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
        # The embedded target's is no choice of anyone's.
        endpoint_digest="" if embedded else endpoint_digest(_endpoint(chosen)),
        headers={} if chosen is None else chosen.headers,
    )


def _endpoint(chosen: ChosenTarget | None) -> str:
    entry = None if chosen is None else chosen.entry
    return (entry and entry.endpoint) or credentials()[1]


def endpoint_digest(endpoint: str) -> str:
    """Eight hex digits that tell endpoints apart and are too few to find one by."""
    # Keyed, so that it is no digest that a table of common ones lists.
    return hmac.new(b"loadtest x-wf-endpoint", endpoint.encode(), hashlib.sha256).hexdigest()[:8]


def current_commit(environ: Mapping[str, str] = os.environ) -> str:
    """The commit that a CI system builds, or the checked-out one of the working directory; empty if unknown."""
    for name in COMMIT_VARIABLES:
        if commit := environ.get(name, "").strip():
            return commit[:64]
    if (git := shutil.which("git")) is None:
        return ""
    try:
        done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _limit_info(limit: Limit) -> LimitInfo:
    return LimitInfo(count=limit.count, window_s=limit.window)


def assumed_limits_of(loaded: LoadedScenario, chosen: ChosenTarget | None, *, embedded: bool) -> AssumedLimits:
    """The assumed limits: the embedded target's own, or the documented ones with what an entry says instead."""
    entry = None if chosen is None else chosen.entry
    if entry is None:
        return AssumedLimits.for_scenario(loaded.scenario, embedded=embedded)
    return AssumedLimits.for_scenario(loaded.scenario, embedded=embedded, limits=entry.limits, limiter=entry.limiter)


def check_before_run(
    loaded: LoadedScenario, chosen: ChosenTarget, *, keys: int, preflight: bool, starts_s: Sequence[float] = (0.0,)
) -> BudgetInfo | None:
    """The request budget of a run, checked before anything is sent; None for a target without an entry.

    Args:
        loaded: the scenario in force.
        chosen: the target and its entry.
        keys: how many API keys share the traffic.
        preflight: whether a preflight comes first.
        starts_s: when the scenario begins anew, in seconds from the first time; by default it runs once.

    Raises:
        InputError: if the run would exceed it (see ``loadtest.targets.check_request_budget``).
    """
    if chosen.entry is None:
        return None
    assumed = assumed_limits_of(loaded, chosen, embedded=False)
    once = minimum_load(loaded.scenario, planned_traffic(loaded, assumed, keys), keys=keys, preflight=False)
    load = repeated(once, starts_s, preflight_load(loaded.scenario, keys) if preflight else None)
    return check_request_budget(chosen, load, assumed.limits, keys=keys, now=datetime.now(UTC))


def check_before_preflight(loaded: LoadedScenario, chosen: ChosenTarget, *, keys: int) -> BudgetInfo | None:
    """The request budget of a preflight alone, checked as ``check_before_run`` does it for a run."""
    assumed = assumed_limits_of(loaded, chosen, embedded=False)
    load = preflight_load(loaded.scenario, keys)
    return check_request_budget(chosen, load, assumed.limits, keys=keys, now=datetime.now(UTC))


def planned_traffic(loaded: LoadedScenario, assumed: AssumedLimits, keys: int) -> dict[str, TrafficPlan]:
    """The plan of every traffic entry, by its name.

    Raises:
        InputError: if there are too few keys, a rate is impossible, or nothing would be sent.
    """
    scenario = loaded.scenario
    # Not scenario.keys: what [target] asks for is for the embedded target alone.
    needed = sum(scenario.key_groups.values())
    if keys < needed:
        raise InputError(
            f"{loaded.path}: key_groups need {needed} keys, and there are {keys}",
            "Put as many into WORKFLOW_API_KEYS, separated by commas.",
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


def _surroundings(command: Sequence[str]) -> dict[str, Any]:
    """When, where and by what the run is made, as fields of ``RunInfo``."""
    return {
        "versions": _versions(),
        "machine": _machine(),
        "command": list(command),
        "commit": current_commit(),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: package_version(package) for package in _PACKAGES}}


def _machine() -> dict[str, str]:
    """Stable facts only: two runs on one machine must have the same."""
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
