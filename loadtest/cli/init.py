"""``loadtest init``: write a scenario to start from, also from a curl command or a shipped one, and targets.toml."""

import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import tomlkit

from loadtest.cli._curl import CurlRequest, parse_curl
from loadtest.contract import Operation
from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE
from loadtest.errors import InputError
from loadtest.program import program
from loadtest.scenario import FOLDER, SHIPPED, Scenario, find_scenario, load_scenario, schema_text

_JOBS_FILE: Final = "first.jobs.txt"
_POLLING: Final = 'polling = { interval = "1s", give_up = "60s" } # after the last answer; since the submit\n'
_JOB_NOTE: Final = '# the job of the command; "seeded" submits jobs of `workflow` first'
_INPUTS: Final = '# inputs = "inputs.jsonl" # one JSON object a line, so that no cache is measured'

_SCENARIO_TEXT: Final = """\
#:schema scenario.schema.json
# A scenario: the traffic to send, and what must hold. `loadtest plan first` forecasts it against the rate limits;
# `loadtest run first` runs it, on an embedded reference API unless --host or --target names another.
{title}

# Traffic before the first stage, at its rate. It spends quota and is in no figure.
warmup = "5s"

[traffic.{name}]
operation = "{operation}" # sync_run (run and wait), async_run (submit and poll), retrieval
{what}
# Time-out of each request. An operation that times out counts with the time that it took.
timeout = "10s"
{polling}
# Rates: 5/s, 90/min, 80% of limit, 2.5x limit. A second stage above the limit shows how requests are refused:
#   {{ name = "above", rate = "1.5x limit", duration = "120s" }}
stages = [{{ name = "within", rate = "{rate}", duration = "{duration}" }}]
{parameters}
# What must hold, or `loadtest run` ends with exit code 1. A p95 needs 72 operations, a p99 368.
[[threshold]]
traffic = "{name}"
require = "requests.throttled == 0"

[[threshold]]
traffic = "{name}"
require = "error_rate == 0"

[[threshold]]
traffic = "{name}"
stage = "within"
require = "{latency}"

# With a second stage (or traffic) the report can say what changed, and a threshold be relative:
# [[compare]]
# entry = "{name}"
# stages = ["within", "above"]            # the first is the baseline; or entries = [...]: which of these is best?
# by = ["response_time.p50", "throttled_rate", "requests_per_operation"]
#
# [[threshold]]
# traffic = "{name}"
# stage = "above"
# require = "response_time.p50 < 1.2x stage within"
"""

_TARGETS_TEXT: Final = """\
# Hosts that may be loaded, and how much. Only this machine's loopback needs no entry. Do not write API keys here:
# export WORKFLOW_API_KEYS. docs/targets.md lists all keys of an entry.
"""

_ENTRY_TEXT: Final = """\
[{name}]
{url}
{endpoint}{environment}
{owner}
max_share = "10%"                        # of each limit, over all API keys, in any of its windows
max_requests = 1000                      # of one run, with retries, polls and seeding
# max_operations = 500
# limits = {{ sync_run = "100/60s", async_submit = "1000/60s", retrieval = "500/60s" }}   # where not as documented
# price_per_execution = 0.01
# max_cost = 5.0                         # of one run, in the same currency
# allowed_hours = "08:00-18:00"          # see docs/targets.md for time zones and days
# expires = 2030-12-31                   # the last day of the entry
"""

_SCENARIO_FILE: Final = FOLDER / "first.toml"
_SCHEMA_FILE: Final = FOLDER / "scenario.schema.json"
_TARGETS_FILE: Final = Path("targets.toml")
_SHORTEST_KEY: Final = 6
"""Characters. A shorter text may be in a file by chance."""


@click.command("init")
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--from-curl",
    "curl",
    metavar="COMMAND",
    help="Write a scenario that sends the request of this curl command. '-' reads the command from standard input, "
    "where other users of this machine cannot see its key.",
)
@click.option("--copy", "shipped", metavar="NAME", help="Copy this shipped scenario (`loadtest scenarios` lists them).")
def command(folder: Path, curl: str | None, shipped: str | None) -> None:
    """Write a first scenario, scenarios/first.toml, and targets.toml into DIR (default: this folder).

    Existing files are never overwritten. The API key of a curl command is written nowhere.
    """
    if curl is not None and shipped is not None:
        raise InputError("--from-curl and --copy exclude each other", "Leave out one of them.")
    request = None if curl is None else parse_curl(sys.stdin.read() if curl == "-" else curl)
    files = _files(request) if shipped is None else _copies(shipped)
    for name in files:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists and is not overwritten", "Name another DIR, or remove it.")
    key = request.key if request else None
    # The key may be a parameter, too.
    if key and len(key) >= _SHORTEST_KEY and any(key in text for text in files.values()):
        raise InputError(
            "the curl command's key is also in its URL, endpoint or data, and keys are never written",
            "Replace it there.",
        )
    # For editors. One that is there stays.
    if not (folder / _SCHEMA_FILE).exists():
        files[_SCHEMA_FILE] = schema_text()
    for name, text in files.items():
        _write(folder / name, text)
    _print_next(folder, request, shipped or _SCENARIO_FILE.stem)


def _copies(name: str) -> dict[Path, str]:
    """A shipped scenario, and the files that it names."""
    path = find_scenario(name, SHIPPED, SHIPPED)
    entries = load_scenario(path).scenario.traffic.values()
    named = {entry.inputs for entry in entries if entry.inputs is not None}
    return {FOLDER / each: (path.parent / each).read_text(encoding="utf-8") for each in (path.name, *sorted(named))}


def _files(request: CurlRequest | None) -> dict[Path, str]:
    try:
        files = {_SCENARIO_FILE: scenario_text(request), _TARGETS_FILE: targets_text(request)}
        Scenario.model_validate(tomllib.loads(files[_SCENARIO_FILE]))
    except (RecursionError, ValueError):
        # Too deep, too large a number, and whatever else a scenario cannot hold.
        raise InputError(
            "a scenario cannot hold the curl command's workflow or parameters",
            'Leave the parameters out, and put them into a file: inputs = "inputs.jsonl".',
        ) from None
    if request is not None and request.job_id is not None:
        files[FOLDER / _JOBS_FILE] = f"{request.job_id}\n"
    return files


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "Name another DIR.") from error
    click.echo(f"wrote   {path}")


def _print_next(folder: Path, request: CurlRequest | None, name: str) -> None:
    if request is not None:
        if request.dropped:
            click.echo(
                f"note    these headers will not be sent: {', '.join(request.dropped)}"
                " (an entry of targets.toml can add headers: docs/client.md)"
            )
        secret = "the command's key was written nowhere: " if request.key else ""
        click.echo(f"next    {secret}export {KEYS_VARIABLE}=… before a run")
        if request.endpoint and request.loopback:
            click.echo(f"next    export {ENDPOINT_VARIABLE}={request.endpoint}")
        if not request.loopback:
            click.echo(f"next    write into {_TARGETS_FILE} who agreed to the load")
    elsewhere = folder != Path()
    if elsewhere:
        click.echo(f"next    cd {shlex.quote(str(folder))}")
    target = "" if request is None else f" --host {request.url}" if request.loopback else " --target pasted"
    click.echo(f"next    {program(elsewhere=elsewhere)} plan {name}   # forecasts it, and sends nothing")
    click.echo(f"next    {program(elsewhere=elsewhere)} run {name}{target}")


def scenario_text(request: CurlRequest | None) -> str:
    """The starter scenario: for the workflow of a curl command, or the reference API's ``sleep``.

    Raises:
        InputError: if the command's parameters hold what TOML cannot say.
    """
    operation = request.operation if request else Operation.SYNC_RUN
    workflow = request.workflow or "say-hello" if request else "sleep"
    parameters = request.parameters if request else {"distribution": "lognormal", "median_ms": 250, "sigma": 0.4}
    slow = operation == Operation.ASYNC_RUN
    job = request is not None and request.job_id is not None
    name = operation.several.rpartition(" ")[2]
    return _SCENARIO_TEXT.format(
        title=_toml(title=f"How long do {operation.several} of {workflow} take, well within the limit?"),
        name=name,
        operation=operation,
        what=f'job_ids = "{_JOBS_FILE}" {_JOB_NOTE}' if job else f"{_toml(workflow=workflow)}\n{_INPUTS}",
        polling=_POLLING if slow else "",
        # An entry of targets.toml allows a tenth by default, of the limit that polls of jobs draw on, too.
        rate=("2% of limit" if slow else "5% of limit") if request else "80% of limit",
        duration="120s" if request else "60s",
        parameters="\n" + _toml(traffic={name: {"parameters": parameters}}) + "\n" if parameters else "",
        latency="time_to_result.p50 < 10s" if slow else "response_time.p50 < 2s",
    )


def targets_text(request: CurlRequest | None) -> str:
    """The starter ``targets.toml``: an entry for a curl command's host, or one that is commented out."""
    if request is None or request.loopback:
        entry = _ENTRY_TEXT.format(
            name="staging",
            url='url = "https://workflows.staging.example"',
            endpoint="",
            environment='environment = "staging"',
            owner='owner = "team@example.com"',
        )
        return _TARGETS_TEXT + "\n" + "".join(f"{'' if x.startswith('#') else '# '}{x}\n" for x in entry.splitlines())
    entry = _ENTRY_TEXT.format(
        name="pasted",
        url=_toml(url=request.url),
        endpoint=f"{_toml(endpoint=request.endpoint)}\n" if request.endpoint else "",
        # Any unknown host may be somebody's production.
        environment='environment = "production"               '
        "# asks for the host name before each run; or staging, test, development",
        owner='owner = "nobody was asked yet"      # who agreed to the load: ask, and write it here',
    )
    return f"{_TARGETS_TEXT}\n{entry}"


def _toml(**values: Any) -> str:
    """Keys and values as lines of TOML, without the last one's end.

    Raises:
        InputError: for null, which TOML does not have, and for what no file can hold.
    """
    try:
        text = tomlkit.dumps(values)
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the curl command's data has half a character", "Correct its \\u escapes.") from None
    except TypeError:
        raise InputError(
            "the curl command's parameters hold a null, which TOML does not have",
            'Leave it out, and put the parameters into a file: inputs = "inputs.jsonl".',
        ) from None
    return text.rstrip("\n")
