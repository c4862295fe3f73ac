"""``loadtest init``: write a scenario to start from, also from a curl command, and a file for targets."""

import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import tomli_w

from loadtest.cli._curl import CurlRequest, parse_curl
from loadtest.contract import Operation
from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE
from loadtest.errors import InputError
from loadtest.scenario import Scenario
from loadtest.scenario.schema import schema_text

JOBS_FILE: Final = "first.jobs.txt"
_TITLES: Final[dict[Operation, str]] = {
    Operation.SYNC_RUN: "How quickly are runs of {} answered, well within the limit?",
    Operation.ASYNC_RUN: "How long do jobs of {} take from submit to result, well within the limits?",
    Operation.RETRIEVAL: "How quickly are results retrieved, well within the limit?",
}
_NAMES: Final = {Operation.SYNC_RUN: "runs", Operation.ASYNC_RUN: "jobs", Operation.RETRIEVAL: "lookups"}
_OPERATION_NOTES: Final = "# sync_run (run and wait), async_run (submit and poll), retrieval"

_POLLING: Final = 'polling = { interval = "1s", give_up = "60s" } # after the last answer; since the submit\n'
_INPUTS: Final = '# inputs = "inputs.jsonl" # a JSON object a line, so that it is not a cache that is measured'

_SCENARIO: Final = """\
#:schema scenario.schema.json
# A scenario: what traffic to offer, and what must hold. `loadtest plan first` says what it will ask of the limits,
# `loadtest run first` runs it: on an embedded reference API, unless --host or --target names another.
{title}

# Before the first stage, at its rate: spends quota, and is in no figure.
warmup = "5s"

[traffic.{name}]
operation = "{operation}" {note}
{what}
# The time-out of each request; an operation that reaches it counts with the time that it took.
timeout = "10s"
{polling}
# Rates: 5/s, 90/min, 80% of limit, 2.5x limit. A second stage above the limit shows what is refused, and how:
#   {{ name = "above", rate = "1.5x limit", duration = "120s" }}
stages = [{{ name = "within", rate = "{rate}", duration = "{duration}" }}]
{parameters}
# What must hold; `loadtest run` ends with exit code 1 where it doesn't. p95 needs 72 operations, p99 368.
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
"""

_TARGETS_HEAD: Final = """\
# Hosts that may be loaded. This machine's loopback needs no entry; any other host is loaded only with one, and only
# within it. API keys are not written here: export WORKFLOW_API_KEYS. All keys are in docs/targets.md.
"""

_ENTRY: Final = """\
[{name}]
{url}
{endpoint}{environment}{environment_note}
{owner}{owner_note}
max_share = "10%"                        # of each limit, over all keys: most requests in any window of it
max_requests = 1000                      # of one run: retries, polls and seeding included
# max_operations = 500
# limits = {{ sync_run = "100/60s", async_submit = "1000/60s", retrieval = "500/60s" }}   # where not as documented
# price_per_execution = 0.01
# max_cost = 5.0                         # of one run, in the same currency
# allowed_hours = "08:00-18:00"          # see docs/targets.md for time zones and days
# expires = 2030-12-31                   # the last day on which it may be loaded
"""


def scenario_text(pasted: CurlRequest | None) -> str:
    """The starter scenario: about the workflow of a pasted command, or the reference API's ``sleep``.

    Raises:
        InputError: if the command's parameters hold what TOML cannot say.
    """
    operation = pasted.operation if pasted else Operation.SYNC_RUN
    workflow = pasted.workflow or "say-hello" if pasted else "sleep"
    parameters = pasted.parameters if pasted else {"distribution": "lognormal", "median_ms": 250, "sigma": 0.4}
    slow = operation == Operation.ASYNC_RUN
    name = _NAMES[operation]
    return _SCENARIO.format(
        title=_toml(title=_TITLES[operation].format(workflow)),
        name=name,
        operation=operation,
        note=_OPERATION_NOTES,
        what=_what(pasted, workflow),
        polling=_POLLING if slow else "",
        # An entry of targets.toml allows a tenth by default, of the limit that polls of jobs draw on, too.
        rate=("2% of limit" if slow else "5% of limit") if pasted else "80% of limit",
        duration="120s" if pasted else "60s",
        parameters="\n" + _toml(traffic={name: {"parameters": parameters}}) + "\n" if parameters else "",
        latency="time_to_result.p50 < 10s" if slow else "response_time.p50 < 2s",
    )


def _what(pasted: CurlRequest | None, workflow: str) -> str:
    if pasted is not None and pasted.job_id is not None:
        return f'job_ids = "{JOBS_FILE}" # the job of the command; "seeded" makes some of `workflow` before the start'
    return f"{_toml(workflow=workflow)}\n{_INPUTS}"


def targets_text(pasted: CurlRequest | None) -> str:
    """The starter ``targets.toml``: an entry for a pasted command's host, or one that is commented out."""
    if pasted is None or pasted.loopback:
        entry = _entry("staging", "https://workflows.staging.example", None, "staging", "team@example.com")
        commented = "\n".join(line if line.startswith("#") else f"# {line}" for line in entry.splitlines())
        return f"{_TARGETS_HEAD}\n{commented}\n"
    entry = _entry("pasted", pasted.url, pasted.endpoint, "production", "nobody has been asked yet", new=True)
    return f"{_TARGETS_HEAD}\n{entry}"


def _entry(name: str, url: str, endpoint: str | None, environment: str, owner: str, *, new: bool = False) -> str:
    return _ENTRY.format(
        name=name,
        url=_toml(url=url),
        endpoint=_toml(endpoint=endpoint) + "\n" if endpoint else "",
        environment=_toml(environment=environment),
        # Until somebody says otherwise it is somebody's production.
        environment_note="               # asks for the host name before each run; or staging, test, development"
        if new
        else "",
        owner=_toml(owner=owner),
        owner_note="      # who has agreed to the load: ask, and write it here" if new else "",
    )


def _toml(**values: Any) -> str:
    """Keys and values as lines of TOML, without the last one's end.

    Raises:
        InputError: for null, which TOML does not have, and for what no file can hold.
    """
    try:
        text = tomli_w.dumps(values)
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the curl command's data has half a character", "Mend its \\u escapes.") from None
    except TypeError:
        raise InputError(
            "the curl command's parameters hold a null, which a scenario cannot say",
            'Leave it out there, and put the parameters into a file: inputs = "inputs.jsonl".',
        ) from None
    return text.rstrip("\n")


_INIT_SCENARIO: Final = Path("scenarios") / "first.toml"
_SCHEMA: Final = Path("scenarios") / "scenario.schema.json"
_TARGETS: Final = Path("targets.toml")
_SHORTEST_KEY: Final = 6
"""What is shorter may be in a text by chance."""


@click.command("init")
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--from-curl",
    "pasted",
    metavar="COMMAND",
    help="Make the scenario ask what this curl command asks; '-' reads it from standard input, where nobody else "
    "on this machine can see the key that it may hold.",
)
def command(folder: Path, pasted: str | None) -> None:
    """Write scenarios/first.toml and targets.toml, to start from, into DIR (by default this folder).

    Existing files are never overwritten. An API key in a curl command is written nowhere.
    """
    asked = None if pasted is None else parse_curl(sys.stdin.read() if pasted == "-" else pasted)
    files = _files(asked)
    for name in files:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists, and is not overwritten", "Name another DIR, or remove it.")
    _refuse_key(asked, files)
    # An editor's help; whoever has one already keeps it.
    if not (folder / _SCHEMA).exists():
        files[_SCHEMA] = schema_text()
    for name, text in files.items():
        _write(folder / name, text)
    _say_next(folder, asked)


def _files(asked: CurlRequest | None) -> dict[Path, str]:
    try:
        files = {_INIT_SCENARIO: scenario_text(asked), _TARGETS: targets_text(asked)}
        Scenario.model_validate(tomllib.loads(files[_INIT_SCENARIO]))
    except (RecursionError, ValueError):
        # Too deep, too large a number, and whatever else a scenario cannot hold.
        raise InputError(
            "the curl command's workflow or parameters cannot be said in a scenario",
            'Leave parameters out there, and put them into a file: inputs = "inputs.jsonl".',
        ) from None
    if asked is not None and asked.job_id is not None:
        files[Path("scenarios") / JOBS_FILE] = f"{asked.job_id}\n"
    return files


def _refuse_key(asked: CurlRequest | None, files: dict[Path, str]) -> None:
    """The key must be in no file, not even where it is a parameter too."""
    key = asked.key if asked else None
    if key and len(key) >= _SHORTEST_KEY and any(key in text for text in files.values()):
        raise InputError(
            "the curl command's key is also in its URL, endpoint or data, and keys are written nowhere",
            "Put something else in its place there.",
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "Name another DIR.") from error
    click.echo(f"wrote   {path}")


def _say_next(folder: Path, asked: CurlRequest | None) -> None:
    where = "" if folder == Path() else f", in {folder}"
    if asked is not None:
        if asked.dropped:
            click.echo(
                f"note    headers that will not be sent: {', '.join(asked.dropped)}"
                " (a target's entry can add some: docs/client.md)"
            )
        secret = "the key of the command was written nowhere: " if asked.key else ""
        click.echo(f"next    {secret}export {KEYS_VARIABLE}=… before a run")
        if asked.endpoint and asked.loopback:
            click.echo(f"next    export {ENDPOINT_VARIABLE}={asked.endpoint}")
        if not asked.loopback:
            click.echo(f"next    say in {_TARGETS} who has agreed to the load")
    run = "loadtest run first"
    if asked is not None:
        run += f" --host {asked.url}" if asked.loopback else " --target pasted"
    click.echo(f"next    loadtest plan first, then {run}{where}")
