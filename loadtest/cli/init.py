"""``loadtest init``: writes a first scenario and targets.toml, optionally from a curl command or a shipped scenario."""

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
_POLLING: Final = 'polling = { interval = "1s", give_up = "60s" } # give_up counts from the submit\n'
_JOB_NOTE: Final = '# the curl command\'s job; job_ids = "seeded" submits jobs of `workflow` first'
_INPUTS: Final = '# inputs = "inputs.jsonl" # a JSON object on each line; varied inputs avoid measuring a cache'

_SCENARIO_TEXT: Final = """\
#:schema scenario.schema.json
# A scenario: the traffic to send, and its thresholds. `loadtest plan first` forecasts it against the rate limits;
# `loadtest run first` runs it, against an embedded reference API unless --host or --target gives another target.
{title}

# Traffic before the first stage, at that stage's rate. It consumes quota, but is excluded from all figures.
warmup = "5s"

[traffic.{name}]
operation = "{operation}" # sync_run (run and wait), async_run (submit and poll), retrieval
{what}
# Time-out of each request. Latency figures include operations that time out.
timeout = "10s"
{polling}
# Rates: 5/s, 90/min, 80% of limit, 2.5x limit. A second stage above the limit shows rejected requests:
#   {{ name = "above", rate = "1.5x limit", duration = "120s" }}
stages = [{{ name = "within", rate = "{rate}", duration = "{duration}" }}]
{parameters}
# Requirements; if one fails, `loadtest run` exits with 1. A p95 needs 72 operations, a p99 368.
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

# With a second stage (or traffic entry) the report compares both, and a threshold can be relative:
# [[compare]]
# entry = "{name}"
# stages = ["within", "above"]            # the first is the baseline; or entries = [...] for alternatives
# by = ["response_time.p50", "throttled_rate", "requests_per_operation"]
#
# [[threshold]]
# traffic = "{name}"
# stage = "above"
# require = "response_time.p50 < 1.2x stage within"
"""

_TARGETS_TEXT: Final = """\
# Hosts that may be loaded, and how much. Only this machine's loopback needs no entry. Do not put API keys here:
# export them as WORKFLOW_API_KEYS. docs/own-api.md explains all lines of an entry.
"""

_ENTRY_TEXT: Final = """\
[{name}]
{url}
{endpoint}{environment}
{owner}
max_share = "10%"                        # of each limit, over all API keys, in any of its windows
max_requests = 1000                      # per run, including retries, polls and seeding
# max_operations = 500
# limits = {{ sync_run = "100/60s", async_submit = "1000/60s", retrieval = "500/60s" }}   # if not as documented
# price_per_execution = 0.01
# max_cost = 5.0                         # per run, in the currency of the price
# allowed_hours = "08:00-18:00"          # see docs/own-api.md for time zones and days
# expires = 2030-12-31                   # the last day of the entry
"""

_SCENARIO_FILE: Final = FOLDER / "first.toml"
_SCHEMA_FILE: Final = FOLDER / "scenario.schema.json"
_TARGETS_FILE: Final = Path("targets.toml")
_SHORTEST_KEY: Final = 6
"""Files are searched only for API keys of at least this length. A shorter key may occur by chance."""


@click.command("init")
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--from-curl",
    "curl",
    metavar="COMMAND",
    help="Write a scenario that sends this curl command's request. '-' reads the command from standard input, "
    "so that other users of this machine cannot see its key.",
)
@click.option("--copy", "shipped", metavar="NAME", help="Copy this shipped scenario (`loadtest scenarios` lists all).")
@click.option("--from-run", "run", metavar="RUN", help="Write a scenario with the operations and rates of this run.")
@click.option("--recorded", is_flag=True, help="With --from-run: start the operations at their recorded times.")
def command(folder: Path, curl: str | None, shipped: str | None, run: str | None, *, recorded: bool) -> None:
    """Write a first scenario, scenarios/first.toml, and targets.toml into DIR (default: this folder).

    --copy and --from-run write another scenario, and no targets.toml. Existing files are never overwritten. The API key
    of a curl command is not written to any file.
    """
    if (curl, shipped, run).count(None) < 2:
        raise InputError("--from-curl, --copy and --from-run exclude each other", "Use only one of them.")
    if recorded and run is None:
        raise InputError("--recorded needs --from-run", "Name the run: --from-run RUN --recorded.")
    request = None if curl is None else parse_curl(sys.stdin.read() if curl == "-" else curl)
    if run is None:
        files = _files(request) if shipped is None else _copies(shipped)
    else:
        from loadtest.runs import from_run  # noqa: PLC0415 - Arrow is slow to import

        files, shipped = from_run.from_run(run, recorded=recorded), from_run.NAME
    for name in files:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists and is not overwritten", "Use another DIR, or remove the file.")
    key = request.key if request else None
    # The files contain the URL, endpoint and data of the command, in which the API key may also occur.
    if key and len(key) >= _SHORTEST_KEY and any(key in text for text in files.values()):
        raise InputError(
            "the curl command's key is also in its URL, endpoint or data, and keys are never written to files",
            "Replace it there with a placeholder.",
        )
    # Editors use the schema. An existing schema file is kept.
    if not (folder / _SCHEMA_FILE).exists():
        files[_SCHEMA_FILE] = schema_text()
    for name, text in files.items():
        _write(folder / name, text)
    _print_next(folder, request, shipped or _SCENARIO_FILE.stem)


def _copies(name: str) -> dict[Path, str]:
    path = find_scenario(name, SHIPPED, SHIPPED)
    entries = load_scenario(path).scenario.traffic.values()
    named = {entry.inputs for entry in entries if entry.inputs is not None}
    return {FOLDER / each: (path.parent / each).read_text(encoding="utf-8") for each in (path.name, *sorted(named))}


def _files(request: CurlRequest | None) -> dict[Path, str]:
    try:
        files = {_SCENARIO_FILE: scenario_text(request), _TARGETS_FILE: targets_text(request)}
        Scenario.model_validate(tomllib.loads(files[_SCENARIO_FILE]))
    except (RecursionError, ValueError):
        # The data is nested too deep, or has a value that a scenario cannot contain, such as a too large number.
        raise InputError(
            "a scenario cannot contain the curl command's workflow or parameters",
            'Remove the parameters, and put them into a file: inputs = "inputs.jsonl".',
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
        raise InputError(f"cannot write {path}: {error.strerror}", "Use another DIR.") from error
    click.echo(f"wrote   {path}")


def _print_next(folder: Path, request: CurlRequest | None, name: str) -> None:
    if request is not None:
        if request.dropped:
            click.echo(
                f"note    these headers will not be sent: {', '.join(request.dropped)}"
                " (an entry of targets.toml can add headers: docs/own-api.md)"
            )
        secret = "the command's key was not saved: " if request.key else ""
        click.echo(f"next    {secret}export {KEYS_VARIABLE}=… before a run")
        if request.endpoint and request.loopback:
            click.echo(f"next    export {ENDPOINT_VARIABLE}={request.endpoint}")
        if not request.loopback:
            click.echo(f"next    in {_TARGETS_FILE}, name the owner who agreed to the load")
    elsewhere = folder != Path()
    if elsewhere:
        click.echo(f"next    cd {shlex.quote(str(folder))}")
    target = "" if request is None else f" --host {request.url}" if request.loopback else " --target pasted"
    click.echo(f"next    {program(elsewhere=elsewhere)} plan {name}   # forecast; sends nothing")
    click.echo(f"next    {program(elsewhere=elsewhere)} run {name}{target}")


def scenario_text(request: CurlRequest | None) -> str:
    """Return the starter scenario. Without a curl command, the scenario runs the workflow ``sleep``.

    Raises ``InputError`` if the command's parameters cannot be written as TOML.
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
        # Submits and polls stay within 10 % of their limits, which an entry of targets.toml allows by default.
        rate=("2% of limit" if slow else "5% of limit") if request else "80% of limit",
        duration="120s" if request else "60s",
        parameters="\n" + _toml(traffic={name: {"parameters": parameters}}) + "\n" if parameters else "",
        latency="time_to_result.p50 < 10s" if slow else "response_time.p50 < 2s",
    )


def targets_text(request: CurlRequest | None) -> str:
    """Return the starter ``targets.toml``. Without a remote host, the entry is commented out."""
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
        # An unknown host may be a production system.
        environment='environment = "production"               '
        "# you type the host name before each run; or staging, test, development",
        owner='owner = "not asked yet"             # the person who agreed to the load: ask first',
    )
    return f"{_TARGETS_TEXT}\n{entry}"


def _toml(**values: Any) -> str:
    """Format keys and values as TOML, without the final line end.

    Raises ``InputError`` for null, which TOML lacks, and for invalid Unicode.
    """
    try:
        text = tomlkit.dumps(values)
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the curl command's data has an invalid character", "Correct its \\u escapes.") from None
    except TypeError:
        raise InputError(
            "the curl command's parameters contain a null, which TOML lacks",
            "Remove the null. To send it, put the parameters into a file later, and name it in the scenario: "
            'inputs = "inputs.jsonl".',
        ) from None
    return text.rstrip("\n")
