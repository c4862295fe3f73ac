"""Files for the user: a client that follows the advice, and a scenario that tests the advice.

The advised client is ``client.py`` of this folder with the numbers of the advice. The scenario runs the present and the
advised policy for real. Each policy has its own API key.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import tomlkit

from loadtest.advice.policies import Policy, scheduled
from loadtest.advice.results import Advice, Confirmation
from loadtest.advice.simulator import SimulatedEnd, Simulation
from loadtest.advice.work import Candidate, Limits, Work
from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.limits import CONCURRENCY, at_once
from loadtest.scenario import Polling, Retry

_TEMPLATE: Final = Path(__file__).with_name("client.py")
_JITTER_S: Final = 0.02
"""A request's time to the server is assumed to vary by at least this many seconds."""
_MOST_UNFINISHED: Final = 10_000
_COUNTERS: Final = ("sliding-counter", "sliding-counter-from-first")
_SCENARIO: Final = "confirm.toml"
_INPUTS: Final = "executions.jsonl"
_STARTS: Final = "starts.txt"
_ADVISED: Final = "advised"
_TOLERANCE: Final = 1.03
"""The scenario's threshold lets the advised policy take at most this multiple of its virtual time."""
_BEYOND = 1.02
_BEYOND_S = 0.05
"""The advised policy polls 0.05 s after 1.02 times the longest execution time, because jobs start late."""
_WORKERS: Final = 10_000
"""Number of jobs that the embedded target executes at once. Every job then starts when accepted, as simulated."""
_KEPT: Final = ("operation", "workflow", "timeout", "connect_timeout", "read_timeout", "parameters")
"""Scenario keys of the present traffic entry that both policies use. With an embedded target, workflow and parameters
differ."""
_REST_S: Final = 5.0
"""Seconds added to the advised policy's ``give_up`` and to the scenario's ``drain``."""
_BURST_S: Final = 0.25
"""The requests of a real burst are assumed to reach the server within this time in s."""


def client_text(found: Advice, limits: Limits) -> str:
    """Return the client's source."""
    numbers = {name: pace(limits, [name], found.clients) for name in LIMIT_NAMES}
    rows = "".join(f'    "{name}": {each},\n' for name, each in numbers.items())
    polls = found.poll_times_s or (found.execution_s[-1],)
    text = _TEMPLATE.read_text(encoding="utf-8").replace("from the documentation", f"from {found.source}", 1)
    values = {
        "SHARED": repr(limits.shared),
        "JITTER": f"{max(_JITTER_S, limits.jitter_s):.4g}",
        "CLIENTS": str(found.clients),
        "POLLS: tuple[float, ...]": f"({', '.join(f'{each:.4g}' for each in polls)},)",
        "UNFINISHED": f"{min(_MOST_UNFINISHED, limits.unfinished(found.execution_s[-1]) / found.clients):.0f}",
    }
    for name, value in values.items():
        text = re.sub(rf"^({re.escape(name)} =) .*?(  #.*)$", rf"\1 {value}\2", text, flags=re.MULTILINE)
    head, _, rest = text.partition("]] = {\n")
    return f"{head}]] = {{\n{rows}{rest[rest.index('}') :]}"


def pace(limits: Limits, names: Sequence[LimitName], clients: int = 1) -> tuple[int, float, int, float]:
    """Return COUNT, SECONDS, BURST and SPACING, as in ``client.py``, that every candidate for these limits accepts."""
    jitter_s = max(_JITTER_S, limits.jitter_s)
    each = [_rule(one, clients, jitter_s) for name in names for one in limits.candidates[name]]
    counts, seconds, bursts, spacings = zip(*each, strict=True)
    return min(counts), max(seconds), min(bursts), max(spacings)


def _rule(candidate: Candidate, clients: int, jitter_s: float) -> tuple[int, float, int, float]:
    limit, strict = candidate.limit, candidate.stricter(jitter_s)
    count = max(1, limit.count - 1)
    if clients > 1 or candidate.algorithm in (*_COUNTERS, CONCURRENCY):
        return count, limit.window, 1, float(f"{candidate.spacing(clients, jitter_s):.4g}")
    if candidate.windowed:
        return count, limit.window, count, 0.0
    burst = at_once(strict.spec, strict.limit)
    if strict.spec.on_clock:  # A bucket that refills in whole seconds may lack the tokens of one second.
        burst = max(1, burst - 1 - math.ceil(limit.rate))
    return limit.count + burst, limit.window, burst, strict.limit.window / limit.count


def confirmation(
    work: Work,
    limits: Limits,
    present: Policy,
    written: Mapping[str, Any],
    *,
    target: Mapping[str, Any] | None,
    options: dict[str, str],
) -> tuple[Confirmation, dict[str, str]]:
    """Return the scenario with its simulated times, and the texts of its files by name.

    ``written`` is the traffic entry of the user's scenario. ``target`` is an embedded target's ``[target]`` table;
    its jobs then sleep for the observed times. If ``target`` is None, the ``options`` of ``run`` choose a target.
    """
    work, longest = replace(work, clients=1), float(work.execution_s[-1])
    polling = {"interval": f"{longest * _BEYOND + _BEYOND_S:.3f}s", "give_up": f"{longest * 3 + _REST_S:.3f}s"}
    advised, starts = _advised(work, limits, Polling.model_validate(polling))
    ends = {policy.name: _end(work, limits, policy) for policy in (present, advised)}
    every_s = present.start(1) if present.start else 1.0
    last = {present.name: (work.count - 1) * every_s, _ADVISED: starts[-1]}
    own = {} if target is None else {"workflow": "sleep", "inputs": _INPUTS, "parameters": None}
    same = {key: written.get(key) for key in _KEPT} | own
    # The steady stage ends half a period early, so that rounding adds no job.
    steady = {"rate": f"{1 / every_s:.9g}/s", "duration": f"{(work.count - 0.5) * every_s:.3f}s"}
    kept = {key: written.get(key) for key in ("retry", "polling")} | {"stages": [{"name": "work", **steady}]}
    stage = {"name": "work", "recorded": _STARTS, "duration": f"{starts[-1] + 1:.3f}s"}
    late = f"response_time.max <= {ends[_ADVISED].last_s * _TOLERANCE - starts[-1]:.3f}s"
    scenario = {
        "title": "Does the advised policy finish as soon as the simulation says, without a 429?",
        "key_groups": dict.fromkeys(ends, 1),
        "drain": f"{max(end.last_s - last[name] for name, end in ends.items()) + _REST_S:.3f}s",
        "target": None if target is None else {**target, "keys": len(ends), "workers": _WORKERS},
        "traffic": {
            present.name: {**same, "keys": present.name, **kept},
            _ADVISED: {**same, "keys": _ADVISED, "polling": polling if work.polled else None, "stages": [stage]},
        },
        "threshold": [{"traffic": _ADVISED, "require": each} for each in ("requests.throttled == 0", late)],
    }
    files = {_SCENARIO: tomlkit.dumps(_plain(scenario)), _STARTS: "".join(f"{each:.6f} 0\n" for each in starts)}
    if target is not None:
        files[_INPUTS] = "".join(f'{{"ms":{each * 1000:.3f}}}\n' for each in work.executions)
    seconds = {name: each.last_s for name, each in ends.items()}
    done = {name: each.done for name, each in ends.items()}
    return Confirmation(file=_SCENARIO, seconds=seconds, done=done, options=options), files


def _plain(value: Any) -> Any:
    """Return a value without None, because TOML has no null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _advised(work: Work, limits: Limits, polling: Polling) -> tuple[Policy, list[float]]:
    """Return the advised policy and the start times of its jobs in s. The policy polls once and does not adapt."""
    count, seconds, burst, spacing = pace(limits, work.names)
    if limits.shared:  # A job and its poll use two requests of the shared limit.
        count, burst, spacing = max(1, count // 2), max(1, burst // 2), 2 * spacing
    burst = max(1, burst - math.ceil(_BURST_S / spacing)) if spacing else burst
    starts: list[float] = []
    due = 0.0
    for number in range(work.count):
        full = starts[number - count] + seconds + _BURST_S if number >= count else 0.0
        starts.append(max(full, due - (burst - 1) * spacing, 0.0))
        due = max(due, starts[-1]) + spacing
    return replace(scheduled(_ADVISED, "one poll a job", Retry(), polling, 1.0), start=starts.__getitem__), starts


def _end(work: Work, limits: Limits, policy: Policy) -> SimulatedEnd:
    """Simulate a policy under the limiters that are worst for it."""
    ends = [Simulation(work, limits, world, policy).run() for world in limits.worlds]
    return max(ends, key=lambda each: (-each.done, each.last_s))
