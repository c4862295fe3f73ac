"""A scenario that really runs the present and the advised policy, each with an API key of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
import tomlkit

from loadtest.advice.policies import Policy, give_up, scheduled
from loadtest.advice.results import Confirmation
from loadtest.advice.simulator import Simulation
from loadtest.advice.work import Limits, Work
from loadtest.limits import at_once
from loadtest.scenario import Polling, Retry

FILE_NAME: Final = "confirm.toml"
INPUTS: Final = "executions.jsonl"
ADVISED: Final = "advised"
_TOLERANCE: Final = 1.03
"""Maximum ratio of real time to virtual time that passes the scenario's thresholds."""
_BEYOND: Final = 1.02
"""The poll comes after this multiple of the longest execution time, plus ``_BEYOND_S``, because jobs start late."""
_BEYOND_S: Final = 0.05
"""Seconds from that multiple to the poll."""
_WORKERS: Final = 10_000
"""Maximum number of jobs that the embedded target executes at once."""
_KEPT: Final = ("operation", "workflow", "timeout", "connect_timeout", "read_timeout")
"""Keys of the present traffic entry that both policies use."""
_REST_S: Final = 5.0
"""Seconds added to a client's give-up time and to the end of the run."""


def confirmation(
    work: Work,
    limits: Limits,
    present: Policy,
    written: Mapping[str, Any],
    target: Mapping[str, Any] | None,
) -> tuple[Confirmation, dict[str, str]]:
    """Return the scenario's virtual times, and its files by name.

    ``written`` is the present traffic entry of the scenario. ``target`` is the ``[target]`` table for the embedded
    target, whose jobs sleep for the observed times; None for another target.
    """
    work = replace(work, clients=1)
    longest = float(work.execution_s[-1])
    polling = {"interval": f"{longest * _BEYOND + _BEYOND_S:.3f}s", "give_up": f"{longest * 3 + _REST_S:.3f}s"}
    advised, stage = _advised(work, limits, Polling.model_validate(polling))
    policies = {present.name: present, ADVISED: advised}
    ends = {name: _seconds(work, limits, policy) for name, policy in policies.items()}
    scheduled_s = {name: work.count * (policy.every_s or 0.0) for name, policy in policies.items()}
    own = {"parameters": written.get("parameters")} if target is None else {"workflow": "sleep", "inputs": INPUTS}
    same = {key: written.get(key) for key in _KEPT} | own
    steady = _steady(work, present.every_s or 1.0)
    kept = {key: written.get(key) for key in ("retry", "polling")}
    late_ms = (ends[ADVISED] * _TOLERANCE - scheduled_s[ADVISED]) * 1000
    scenario = {
        "title": "Does the advised policy finish as soon as the simulation says, without a 429?",
        "key_groups": dict.fromkeys(policies, 1),
        "drain": f"{max(end - scheduled_s[name] for name, end in ends.items()) + _REST_S:.3f}s",
        # As in the simulation, every job starts when it is accepted.
        "target": None if target is None else {**target, "keys": len(policies), "workers": _WORKERS},
        "traffic": {
            present.name: {**same, "keys": present.name, **kept, "stages": [steady]},
            ADVISED: {**same, "keys": ADVISED, "polling": polling if work.polled else None, "stages": [stage]},
        },
        "threshold": [
            {"traffic": ADVISED, "require": "requests.throttled == 0"},
            {"traffic": ADVISED, "require": f"response_time.max <= {late_ms:.0f}ms"},
        ],
    }
    files = {FILE_NAME: tomlkit.dumps(_plain(scenario))}
    if target is not None:
        rows = (msgspec.json.encode({"ms": round(each * 1000, 3)}).decode() for each in work.executions)
        files[INPUTS] = "\n".join(rows) + "\n"
    return Confirmation(file=FILE_NAME, seconds=ends), files


def _plain(value: Any) -> Any:
    """Return a value without None, because TOML has no null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _advised(work: Work, limits: Limits, polling: Polling) -> tuple[Policy, dict[str, Any]]:
    """Return the advised policy and its stage for a scenario: all jobs at once or at a safe rate, one poll each."""
    every = [candidate for name in work.names for candidate in limits.candidates[name]]
    if not limits.shared and all(work.count <= at_once(each.spec, each.limit) for each in every):
        stage = {"name": "work", "burst": work.count, "duration": f"{polling.interval + _REST_S:.3f}s"}
        policy = Policy(ADVISED, "all at once", give_up, lambda *_: polling.interval, in_flight=work.count)
        return policy, stage
    spacing = max(limits.spacing(name, 1) for name in work.names) * (2 if limits.shared else 1)
    return scheduled(ADVISED, "evenly", Retry(), polling, 1 / spacing), _steady(work, spacing)


def _steady(work: Work, spacing_s: float) -> dict[str, Any]:
    return {"name": "work", "rate": f"{1 / spacing_s:.9g}/s", "duration": f"{work.count * spacing_s:.3f}s"}


def _seconds(work: Work, limits: Limits, policy: Policy) -> float:
    """Return the virtual time in s of a policy's last result, under the limiters that are worst for the policy."""
    return max(Simulation(work, limits, world, policy).run().last_s for world in limits.worlds)
