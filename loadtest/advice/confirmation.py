"""A scenario that runs the present and the advised policy for real. Each policy has its own API key."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import tomlkit

from loadtest.advice.policies import Policy, scheduled
from loadtest.advice.results import Confirmation
from loadtest.advice.simulator import SimulatedEnd, Simulation
from loadtest.advice.take_home import pace
from loadtest.advice.work import Limits, Work
from loadtest.scenario import Polling, Retry

FILE_NAME: Final = "confirm.toml"
INPUTS: Final = "executions.jsonl"
STARTS: Final = "starts.txt"
ADVISED: Final = "advised"
_TOLERANCE: Final = 1.03
"""A policy passes the scenario's thresholds if it takes at most this multiple of its virtual time."""
_BEYOND: Final = 1.02
"""The poll comes ``_BEYOND_S`` after this multiple of the longest execution time, because jobs start late."""
_BEYOND_S: Final = 0.05
"""Seconds from ``_BEYOND`` times the longest execution time to the poll."""
_WORKERS: Final = 10_000
"""Jobs that the embedded target executes at once. Every job starts when it is accepted, as in the simulation."""
_KEPT: Final = ("operation", "workflow", "timeout", "connect_timeout", "read_timeout", "parameters")
"""Keys of the present traffic entry that both policies use. The embedded target's jobs have other parameters."""
_REST_S: Final = 5.0
"""Seconds added to a client's give-up time and to the end of the run."""
_BURST_S: Final = 0.25
"""The requests of a real burst are assumed to reach the server within this time in s."""


def confirmation(
    work: Work,
    limits: Limits,
    present: Policy,
    written: Mapping[str, Any],
    *,
    target: Mapping[str, Any] | None,
    options: dict[str, str],
) -> tuple[Confirmation, dict[str, str]]:
    """Return the scenario's virtual times, and its files by name.

    ``written`` is the present traffic entry of the scenario. ``target`` is the embedded target's ``[target]`` table,
    with jobs that sleep for the observed times. If it is None, the ``options`` of ``run`` choose another target.
    """
    work = replace(work, clients=1)
    longest = float(work.execution_s[-1])
    polling = {"interval": f"{longest * _BEYOND + _BEYOND_S:.3f}s", "give_up": f"{longest * 3 + _REST_S:.3f}s"}
    advised, starts = _advised(work, limits, Polling.model_validate(polling))
    policies = {present.name: present, ADVISED: advised}
    ends = {name: _end(work, limits, policy) for name, policy in policies.items()}
    every_s = present.start(1) if present.start else 1.0
    last = {present.name: (work.count - 1) * every_s, ADVISED: starts[-1]}
    own = {} if target is None else {"workflow": "sleep", "inputs": INPUTS, "parameters": None}
    same = {key: written.get(key) for key in _KEPT} | own
    kept = {key: written.get(key) for key in ("retry", "polling")} | {"stages": [_steady(work.count, every_s)]}
    stage = {"name": "work", "recorded": STARTS, "duration": f"{starts[-1] + 1:.3f}s"}
    late = f"response_time.max <= {ends[ADVISED].last_s * _TOLERANCE - starts[-1]:.3f}s"
    scenario = {
        "title": "Does the advised policy finish as soon as the simulation says, without a 429?",
        "key_groups": dict.fromkeys(policies, 1),
        "drain": f"{max(end.last_s - last[name] for name, end in ends.items()) + _REST_S:.3f}s",
        "target": None if target is None else {**target, "keys": len(policies), "workers": _WORKERS},
        "traffic": {
            present.name: {**same, "keys": present.name, **kept},
            ADVISED: {**same, "keys": ADVISED, "polling": polling if work.polled else None, "stages": [stage]},
        },
        "threshold": [{"traffic": ADVISED, "require": each} for each in ("requests.throttled == 0", late)],
    }
    files = {FILE_NAME: tomlkit.dumps(_plain(scenario)), STARTS: "".join(f"{each:.6f} 0\n" for each in starts)}
    if target is not None:
        files[INPUTS] = "".join(f'{{"ms":{each * 1000:.3f}}}\n' for each in work.executions)
    seconds, done = {name: each.last_s for name, each in ends.items()}, {name: each.done for name, each in ends.items()}
    return Confirmation(file=FILE_NAME, seconds=seconds, done=done, options=options), files


def _steady(count: int, every_s: float) -> dict[str, str]:
    """Return a stage of ``count`` jobs. It ends half a period early, so that rounding adds no job."""
    return {"name": "work", "rate": f"{1 / every_s:.9g}/s", "duration": f"{(count - 0.5) * every_s:.3f}s"}


def _plain(value: Any) -> Any:
    """Return a value without None, because TOML has no null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _advised(work: Work, limits: Limits, polling: Polling) -> tuple[Policy, list[float]]:
    """Return the advised policy and the start times of its jobs in s. The policy polls once and does not adapt."""
    count, seconds, burst, spacing = pace(limits, work.names)
    if limits.shared:  # Each poll uses a request of the limit.
        count, burst, spacing = max(1, count // 2), max(1, burst // 2), 2 * spacing
    burst = max(1, burst - math.ceil(_BURST_S / spacing)) if spacing else burst
    starts: list[float] = []
    due = 0.0
    for number in range(work.count):
        full = starts[number - count] + seconds + _BURST_S if number >= count else 0.0
        starts.append(max(full, due - (burst - 1) * spacing, 0.0))
        due = max(due, starts[-1]) + spacing
    return replace(scheduled(ADVISED, "one poll a job", Retry(), polling, 1.0), start=starts.__getitem__), starts


def _end(work: Work, limits: Limits, policy: Policy) -> SimulatedEnd:
    """Simulate a policy under the limiters that are worst for it."""
    ends = [Simulation(work, limits, world, policy).run() for world in limits.worlds]
    return max(ends, key=lambda each: (-each.done, each.last_s))
