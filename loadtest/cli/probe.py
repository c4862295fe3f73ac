"""``loadtest probe``: find out by experiments which limits a service enforces."""

import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np

from loadtest.cli import _children as children
from loadtest.cli._options import TargetOptions, target_options
from loadtest.cli._target import credentials_for
from loadtest.contract import DOCUMENTED, LIMIT_NAMES, LimitName
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.limits import Scope
from loadtest.limits.probing.probe import REQUESTS, SCOPE_REQUESTS, WINDOWS
from loadtest.limits.probing.results import Failed, Found, LimitFinding, ProbeMessage, ProbeOrder, ProbeProgress, known
from loadtest.processes import stop
from loadtest.reference_settings import ReferenceSettings
from loadtest.targets import TARGETS_FILE, ChosenTarget, MinimumLoad, check_request_budget, choose, confirm, entry_named
from loadtest.targets.look import check_reachable
from loadtest.targets.save import save_limits
from loadtest.units import Limit, parse_limit

_MOST_RATE: Final = 100.0
_SCOPES: Final[dict[Scope, str]] = {
    "key-and-name": "each key and limit for itself",
    "key": "all requests of a key together",
    "name": "all keys together, each limit for itself",
    "global": "all requests of all keys together",
}


@click.command("probe")
@click.argument("limits", metavar="[LIMIT]...", nargs=-1, type=click.Choice([str(name) for name in LIMIT_NAMES]))
@target_options(embedded=True)
@click.option(
    "--documented",
    "given",
    metavar="LIMIT=N/W",
    multiple=True,
    help="Compare with this limit instead of the documented one, as retrieval=50/10s.",
)
@click.option(
    "--rate", type=click.FloatRange(1, 1000), default=_MOST_RATE, show_default=True, help="Requests/s at most."
)
@click.option(
    "--workflow", metavar="NAME", help="Run this workflow where requests that execute nothing draw on no limit."
)
@click.option("--save", metavar="NAME", help="Write what is sure into this entry of targets.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    limits: tuple[str, ...],
    *,
    target: TargetOptions,
    given: tuple[str, ...],
    rate: float,
    workflow: str | None,
    save: str | None,
    as_json: bool,
) -> int:
    """Find out which LIMITs are enforced, how they are counted, and whether that is what the documentation says.

    Sends at most five and a half times each limit's count, as volleys and streams, in about eight of its windows.
    Requests name a workflow or a job that does not exist, so that nothing is executed. Exit code 6 if something cannot
    be told.
    """
    documented = _documented([LimitName(name) for name in limits] or list(LIMIT_NAMES), given)
    path = target.targets or TARGETS_FILE
    if save is not None:
        entry_named(path, save)  # a mistake is told before anything is sent
    found = []
    with _target(target) as (chosen, environment, url):
        _check_budget(chosen, documented)
        order = _order(chosen, url, documented, rate, workflow)
        if not as_json:
            _print_plan(order, rate)
        for finding in _findings(order, environment):
            found.append(finding)
            if not as_json:
                _show(finding)
    if save is not None:
        _save(path, save, found)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return int(ExitCode.PASS if all(each.verdict != "can't tell" for each in found) else ExitCode.INCONCLUSIVE)


def _documented(names: Sequence[LimitName], given: Sequence[str]) -> dict[LimitName, Limit]:
    """The limits to compare with.

    Raises:
        InputError: if one is not a limit, or of no known name.
    """
    documented = {name: DOCUMENTED[name] for name in names}
    for text in given:
        name, _, limit = text.partition("=")
        if name not in documented:
            raise InputError(f"--documented {text}: {name!r} is not probed", f"Give one of {', '.join(documented)}.")
        try:
            documented[LimitName(name)] = parse_limit(limit)
        except ValueError as error:
            raise InputError(f"--documented {text}: {error}") from None
    return documented


@contextmanager
def _target(options: TargetOptions) -> Iterator[tuple[ChosenTarget | None, Mapping[str, str], str]]:
    """The target with its environment and URL: a running one, or a reference API of our own."""
    if options.embedded:
        environment = children.child_environment(*children.own_credentials(2))
        with children.embedded_target(ReferenceSettings(), environment) as embedded:
            yield None, environment, embedded.url
        return
    chosen = choose(options.host, options.target, options.targets)
    keys, endpoint = credentials_for(chosen)
    check_reachable(chosen.target)
    confirm(chosen, yes=options.yes)
    yield chosen, children.child_environment(keys, endpoint), chosen.target.url


def _order(
    chosen: ChosenTarget | None, url: str, documented: dict[LimitName, Limit], rate: float, workflow: str | None
) -> ProbeOrder:
    entry = None if chosen is None else chosen.entry
    most = None if entry is None or entry.max_requests is None else entry.max_requests // len(documented)
    return ProbeOrder(
        url=url,
        listed=entry is not None,
        documented={name: (limit.count, limit.window) for name, limit in documented.items()},
        rate=rate,
        requests=most,
        workflow=workflow,
        tls=None if chosen is None else chosen.tls,
        headers={} if chosen is None else chosen.headers,
    )


def _check_budget(chosen: ChosenTarget | None, documented: Mapping[LimitName, Limit]) -> None:
    """Check that an entry allows as much as a probe needs at least: each limit once used up, and a little more.

    Raises:
        InputError: if it does not.
    """
    if chosen is None:
        return
    least = {name: np.zeros(limit.count + 1, np.int64) for name, limit in documented.items()}
    load = MinimumLoad(
        requests=sum(len(each) for each in least.values()),
        duration_s=sum(WINDOWS * limit.window for limit in documented.values()),
        due=least,
    )
    # To see a limit, all of one key's has to be used: whoever allows less allows no probe.
    used = {name: Limit(limit.count + 1, limit.window) for name, limit in documented.items()}
    check_request_budget(chosen, load, used, keys=1, now=datetime.now(UTC))


def _print_plan(order: ProbeOrder, rate: float) -> None:
    times = REQUESTS + SCOPE_REQUESTS
    most = {name: int(min(times * count, order.requests or times * count)) for name, (count, _) in _items(order)}
    seconds = sum(WINDOWS * window for _, (_, window) in _items(order))
    print(
        f"Probes {', '.join(most)} of {order.url}: at most {sum(most.values()):,} requests, {rate:g}/s at most, in at"
    )
    print(f"most {seconds / 60:.2g} minutes; it stops as soon as it is sure. Limits are used up on purpose: others who")
    print("share them are refused meanwhile. ", end="")
    if order.workflow is None:
        print("The requests name no known workflow or job, so that nothing is executed.")
    else:
        print(f"Where requests that execute nothing draw on no limit, {order.workflow} is run.")


def _items(order: ProbeOrder) -> list[tuple[LimitName, tuple[int, float]]]:
    return list(order.documented.items())


def _findings(order: ProbeOrder, environment: Mapping[str, str]) -> Iterator[LimitFinding]:
    """Probe in a process of its own, and hand on what it finds.

    Raises:
        TargetError: if the target does not answer, or not as this API.
        LoadtestError: if the probe failed, which is our bug.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.preflight.probing"],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with process.stdin or io.BytesIO() as order_of:
            order_of.write(msgspec.json.encode(order))
        for line in process.stdout or ():
            message = msgspec.json.decode(line, type=ProbeMessage)
            if isinstance(message, Failed):
                error = LoadtestError(message.words, message.remedy)
                error.exit_code = ExitCode(message.code)
                raise error
            if isinstance(message, Found):
                yield message.finding
            elif sys.stderr.isatty():
                _show_progress(message)
        if process.wait() != 0:
            raise LoadtestError("the probe failed")
    finally:
        stop(process)


def _save(path: Path, name: str, found: Sequence[LimitFinding]) -> None:
    limits, limiter = known(found)
    if not limits:
        click.echo(f"Nothing is sure enough to be written into {path}.", err=True)
        return
    save_limits(path, name, limits, limiter)
    counted = "" if limiter is not None else "; how they are counted is not the same or not known for all, and is left"
    click.echo(f"{path}: {name} has the limits {', '.join(limits)} now{counted}.", err=True)


def _show_progress(at: ProbeProgress) -> None:
    names = ", ".join(dict.fromkeys(at.standing))
    line = f"{at.limit}: {at.requests} requests, {at.passed} passed, {at.seconds:.0f} s; possible: {names}"
    sys.stderr.write(f"\r\x1b[K{line[:118]}")
    sys.stderr.flush()


def _show(found: LimitFinding) -> None:
    """Print what was found of one limit."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    count, window = found.documented
    print(f"\n{found.limit}: {found.verdict} ({count} per {window:g} s)")
    rows = {
        "limiter": "; or ".join(each.words for each in found.standing) or "none that is known",
        "not sure": found.why,
        "counts": (found.scope and _SCOPES[found.scope]) or "not known: whose requests share a quota",
        "refusals": ", ".join(f"{count} with {status}" for status, count in sorted(found.statuses.items())) or "none",
        "Retry-After": found.retry_after,
        "headers": found.headers,
        "cost": f"{found.requests} requests, {found.rejected} of them refused, {found.seconds:.0f} s; "
        + (f"{found.executed} runs" if found.executed else "nothing was executed")
        + (f"; {found.jobs_of_rejected} refused requests name a job all the same" if found.jobs_of_rejected else ""),
    }
    for name, words in rows.items():
        if words:
            print(f"  {name:<12}{words}")
