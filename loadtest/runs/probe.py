"""Probes of a service's rate limits. A separate process sends the requests."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.control import Control
from rich.segment import ControlType

from loadtest.console import Console
from loadtest.contract import DOCUMENTED, LIMIT_NAMES, LimitName
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.foreign_text import print_json
from loadtest.limits.probing import results
from loadtest.limits.probing.evidence import WINDOWS
from loadtest.limits.probing.probe import REQUESTS
from loadtest.processes import run_module, start_child, stop
from loadtest.record.run_directory import new_run_directory, write_json
from loadtest.reference_settings import ReferenceSettings
from loadtest.runs.target import TargetOptions, child_environment, credentials_for, embedded_target, own_credentials
from loadtest.targets import (
    TARGETS_FILE,
    MinimumLoad,
    check_reachable,
    check_request_budget,
    confirm,
    entry_named,
    save_limits,
)
from loadtest.units import Limit

_CLEAR: Final = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
"""Clears a terminal's line."""


def probe(
    *,
    limits: Sequence[str],
    documented: Sequence[tuple[LimitName, Limit]],
    rate: float,
    workflow: str | None,
    save: str | None,
    as_json: bool,
    output_dir: Path,
    **given: Any,
) -> int:
    """Probe limits, report the findings, and return the exit code. ``rate`` is in requests/s.

    A run directory gets ``probe.json`` and its page, unless the findings are printed as JSON. ``save`` names an entry
    of ``targets.toml``, which gets the limits that the probe found as documented.
    """
    options, probed = TargetOptions(**given), _documented(limits, dict(documented))
    path = options.targets or TARGETS_FILE
    if save is not None:
        entry_named(path, save)  # reports an error before anything is sent
    found: list[results.LimitFinding] = []
    counts = {name: (limit.count, limit.window) for name, limit in probed.items()}
    asked = results.ProbeOrder(url="", listed=False, documented=counts, rate=rate, workflow=workflow)
    with _target(options, probed, asked) as (order, environment):
        directory = None if as_json else new_run_directory(output_dir, "probe")
        if directory is not None:
            _print_plan(order)
        for finding in _findings(order, environment):
            found.append(finding)
            if directory is not None:
                _show(finding)
                written = results.ProbeResult(target=order.url, findings=found, embedded=options.embedded)
                write_json(directory / results.PROBE_FILE, written)
    if directory is not None:
        print()
        run_module("loadtest.report.probe", str(directory))
    if save is not None:
        _save(found, path, save)
    if as_json:
        print_json(found)
    return int(ExitCode.PASS if all(each.stated for each in found) else ExitCode.INCONCLUSIVE)


def _save(found: Sequence[results.LimitFinding], path: Path, entry: str) -> None:
    limits, limiter = results.known(found, round_down=entry_named(path, entry).round_down)
    left = "" if limiter is not None else "; the algorithm is unknown or differs between limits, and was not saved"
    words = f"{path}: saved the limits {', '.join(limits)} of {entry}{left}."
    if limits:
        save_limits(path, entry, limits, limiter)
    print(words if limits else f"No limit agrees with the documentation, so {path} was not changed.", file=sys.stderr)
    others = {each.limit: each.limit_found for each in found if each.limit not in limits and each.limit_found}
    if others:
        line = ", ".join(f'{name} = "{limit}"' for name, limit in {**limits, **others}.items())
        print(
            f"Other clients may affect the limits of {', '.join(others)}. If not, paste into [{entry}]:\n"
            f"limits = {{ {line} }}",
            file=sys.stderr,
        )


def _documented(limits: Sequence[str], given: Mapping[LimitName, Limit]) -> dict[LimitName, Limit]:
    documented = {name: DOCUMENTED[name] for name in map(LimitName, limits or LIMIT_NAMES)}
    if others := given.keys() - documented:
        raise InputError(f"--documented: {min(others)} is not probed", f"Use one of {', '.join(documented)}.")
    return {**documented, **given}


@contextmanager
def _target(
    options: TargetOptions, documented: Mapping[LimitName, Limit], asked: results.ProbeOrder
) -> Iterator[tuple[results.ProbeOrder, Mapping[str, str]]]:
    if (chosen := options.chosen()) is None:
        environment = child_environment(*own_credentials(2))
        with embedded_target(ReferenceSettings(), environment) as embedded:
            yield msgspec.structs.replace(asked, url=embedded.url), environment
        return
    keys, endpoint = credentials_for(chosen)
    check_reachable(chosen.target)
    confirm(chosen, yes=options.yes)
    entry = chosen.entry
    if entry is not None and entry.max_share < 1:
        raise InputError(
            f"{chosen.key('max_share')} allows {entry.max_share * 100:g} % of each limit, but a probe exhausts it",
            f"Ask {entry.owner} whether you may set max_share to 100 %.",
        )
    # A probe sends at least one request more than each limit accepts.
    load = MinimumLoad(
        duration_s=sum(WINDOWS * limit.window for limit in documented.values()),
        due={name: np.zeros(limit.count + 1, np.int64) for name, limit in documented.items()},
        included="",
        remedy="Probe fewer limits at a time",
    )
    check_request_budget(chosen, load, {}, keys=1, now=datetime.now(UTC))
    most = None if entry is None or entry.max_requests is None else entry.max_requests // len(documented)
    about = {"listed": entry is not None, "requests": most, "tls": chosen.tls, "headers": chosen.headers}
    yield msgspec.structs.replace(asked, url=chosen.target.url, **about), child_environment(keys, endpoint)


def _print_plan(order: results.ProbeOrder) -> None:
    counts, windows = zip(*order.documented.values(), strict=True)
    most = sum(int(min(REQUESTS * count, order.requests or REQUESTS * count)) for count in counts)
    minutes, names = sum(WINDOWS * window for window in windows) / 60, ", ".join(order.documented)
    what = "The requests name no existing workflow or job, so nothing is executed."
    if order.workflow is not None:
        what = f"If a limit does not count requests that execute nothing, the probe runs {order.workflow}."
    print(
        f"Probing {names} of {order.url}: at most {most:,} requests, {order.rate:g}/s and\n"
        f"{minutes:.2g} minutes; the probe ends as soon as the findings are certain. It exhausts limits, so\n"
        f"other clients that share them get 429s meanwhile. {what}"
    )


def _findings(order: results.ProbeOrder, environment: Mapping[str, str]) -> Iterator[results.LimitFinding]:
    """Probe in a separate process, and yield its findings. Raises the error of that process."""
    # The child stays in this session, so that Ctrl-C ends it too: its closed input cannot show that its parent ended.
    process = start_child("loadtest.preflight.probing", environment=environment, start_new_session=False)
    terminal, experiment = Console(stderr=True), 0
    try:
        if process.stdin is not None:
            process.stdin.write(msgspec.json.encode(order))
            process.stdin.close()
        for line in process.stdout or ():
            message = msgspec.json.decode(line, type=results.ProbeMessage)
            if isinstance(message, results.Failed):
                error = LoadtestError(message.words, message.remedy)
                error.exit_code = ExitCode(message.code)
                raise error
            if isinstance(message, results.Found):
                yield message.finding
            elif terminal.is_terminal:
                if message.experiment != experiment:  # the line of an earlier experiment stays
                    experiment = message.experiment
                    terminal.print()
                terminal.control(_CLEAR)
                terminal.print(_line(message), end="", soft_wrap=True)
        if process.wait() != 0:
            raise LoadtestError("the probe failed")
    finally:
        stop(process)


def _line(message: results.ProbeProgress) -> str:
    names = message.note or f"possible: {', '.join(dict.fromkeys(message.standing))}"
    counts = f"{message.requests} requests, {message.passed} accepted, {message.seconds:.0f} s"
    return f"{message.limit}, experiment {message.experiment}: {counts}; {names}"[:118]


def _show(found: results.LimitFinding) -> None:
    if (terminal := Console(stderr=True)).is_terminal:
        terminal.control(_CLEAR)
    print(f"\n{found.limit}: {results.verdict_words(found)}")
    excluded = [
        ("ruled out", f"{each.limiter}, {each.numbers}: {each.ruled_out}") for each in found.fits if each.ruled_out
    ]
    last = ""
    for name, words in (*results.facts(found), *excluded):
        print(f"  {'' if name == last else name:<12}{words}")
        last = name
