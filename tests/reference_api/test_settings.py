"""The settings of the reference API: as options, as keys of a scenario's ``[target]``, and in the docs."""

import re
from pathlib import Path
from typing import Any

import pytest

from loadtest.contract import ERROR_CODES
from loadtest.faults import parse
from loadtest.reference_api.command import command, server_config
from loadtest.reference_settings import ReferenceSettings, ServerConfig, Setting, settings_of
from loadtest.runs.target import serve_arguments
from loadtest.scenario.model import TargetSettings
from loadtest.units import Limit

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
NO_ASSUMPTIONS = {"--host", "--port", "--fault", "--fault-seed", "--fault-clock", "--control-port"}
"""What is about the process, or makes it misbehave on demand."""


def rows() -> list[tuple[str, str, str]]:
    """Return every line of the tables without their heads: subject, assumption, option."""
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and not cells[0].startswith(("subject", "---")):
            subject, assumption, option = cells
            found.append((subject, assumption, option))
    return found


def options() -> dict[str, Setting]:
    """Return the server's settings by their options."""
    return {setting.option: setting for setting in settings_of(ServerConfig)}


def test_every_option_is_on_the_page_and_every_option_on_the_page_exists() -> None:
    """An option that changes an assumption stands beside it."""
    named = {option for row in rows() for option in re.findall(r"--[a-z-]+", row[2])}
    assert named == options().keys() - NO_ASSUMPTIONS


def test_every_key_of_the_target_is_a_setting() -> None:
    """A scenario can change what a server's option can, and no more than that but its own keys."""
    keys = {setting.name for setting in settings_of(ReferenceSettings)}
    assert TargetSettings.model_fields.keys() - keys == {"keys"}


def table() -> str:
    """Every setting as docs/reference-api.md shows it."""
    keys = {setting.name for setting in settings_of(ReferenceSettings)}
    rows = ["| option | key of `[target]` | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in settings_of(ServerConfig):
        key = f"`{setting.name}`" if setting.name in keys else "–"
        default = f"{setting.default:g} s" if setting.about.seconds else setting.default
        shown = "no" if default is False else "–" if default is None or default in ({}, ()) else default
        rows.append(f"| `{setting.option}` | {key} | {shown} | {setting.about.meaning} |")
    return "\n".join(rows) + "\n"


def test_the_docs_show_every_setting() -> None:
    """docs/reference-api.md has the table that is made of the settings."""
    assert f"\n{table()}\n" in (Path(__file__).parents[2] / "docs" / "reference-api.md").read_text(encoding="utf-8")


def test_defaults_on_the_page_are_the_defaults() -> None:
    """Numbers that a row gives are those that the server takes when it isn't told."""
    said = {
        "--workers": (64, "64,"),
        "--threads": (64, "64,"),
        "--queue": (10_000, "10,000"),
        "--retention": (600.0, "600 s"),
        "--run-timeout": (60.0, "60 s"),
        "--max-body": (64 * 1024, "64 KiB"),
        "--algorithm": ("fixed-window", "fixed window"),
    }
    for name, (default, words) in said.items():
        assert options()[name].default == default
        (row,) = [row for row in rows() if name in row[2].split(",")[0]]
        assert words in row[1], row


def test_codes_on_the_page_exist() -> None:
    """An error that is named is one that the server has."""
    codes = set(re.findall(r"--answer ([a-z_]+)=", PAGE)) | set(re.findall(r"\b[45]\d\d `([a-z_]+)`", PAGE))
    assert codes
    assert codes <= set(ERROR_CODES)


def config_of(settings: dict[str, Any]) -> ServerConfig:
    """What a server makes of the arguments that a scenario's settings become."""
    arguments = serve_arguments(TargetSettings.model_validate(settings).settings)
    options = command.make_context("serve", arguments).params
    del options["exit_with_parent"]
    return server_config(keys=("one", "two"), endpoint=None, **options)


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"algorithm": "gcra", "burst": 3, "count_rejected": True}, "limiter", ("gcra", 3, True)),
        ({"draws": "valid"}, "draws", "valid"),
        ({"retry_after": "date"}, "retry_after", "date"),
        ({"retry_after": "seconds", "retry_after_factor": 0.5}, "retry_after_factor", 0.5),
        ({"rate_headers": "ietf"}, "rate_headers", "ietf"),
        ({"workers": 3}, "workers", 3),
        ({"threads": 3}, "threads", 3),
        ({"queue": 0}, "queue", 0),
        ({"retention": "0s"}, "retention", 0.0),
        ({"run_timeout": "500ms"}, "run_timeout", 0.5),
        ({"workflows": ["a.b", "c.py"]}, "workflows", ("a.b", "c.py")),
        ({"answers": {"queue_full": "429/busy"}}, "answers", {"queue_full": (429, "busy")}),
        ({"pending_execution_time": "omitted"}, "pending_execution_time", "omitted"),
        ({"unknown_parameters": "ignore"}, "unknown_parameters", "ignore"),
        ({"max_body": 1000}, "max_body", 1000),
        ({"fault": [{"kind": "latency", "ms": 5}]}, "fault", (parse("latency,ms=5"),)),
        ({"fault": [{"kind": "throttle"}]}, "fault_clock", "epoch"),
    ],
)
def test_each_key_reaches_the_server(settings: dict[str, Any], field: str, value: Any) -> None:
    """None is dropped on the way, and none changes what another says."""
    told = getattr(config_of(settings), field)
    if field == "limiter":
        told = (told.algorithm, told.burst, told.count_rejected)
    assert told == value
    assert getattr(ServerConfig(), field) != value


def test_a_limit_that_nothing_draws_on_is_for_the_plan_alone() -> None:
    """Where all requests share one limit, the named ones say what rates are meant by, and the server isn't told."""
    enforce = {"sync_run": "5/1s", "all": "9/1s"}
    config = config_of({"enforce": enforce, "limit_scope": "global"})
    assert (config.enforce["all"], config.limiter.scope) == (Limit(9, 1.0), "global")
    assert config_of({"enforce": {"sync_run": "5/1s"}}).limits["sync_run"] == Limit(5, 1.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--limit", "sync-runs=5/1s"], "Did you mean sync_run?"),
        (["--limit", "sync_run=5"], "'5' is not a limit"),
        (["--limit", "sync_run"], "NAME=COUNT/WINDOW"),
        (["--limit", "sync_run=0/1s"], "count must be 1 to"),
        (["--host", "0.0.0.0"], "loopback only"),
        (["--host", "example.org"], "loopback only"),
        (["--workers", "0"], "--workers"),
        (["--algorithm", "magic"], "fixed-window"),
        (["--retention", "nan"], "'nan' is not a number"),
        (["--run-timeout", "nan"], "'nan' is not a number"),
        (["--run-timeout", "0"], "must be above zero"),
        (["--retry-after-factor", "inf"], "from 0 to 1,000"),
        (["--answer", "queue_full=200"], "--answer queue_full=200: this is not a replacement status or code"),
        (["--answer", "queue_full="], "this is not a replacement status or code"),
        (["--answer", "queue_full"], "this is not a replacement status or code"),
        (["--answer", "queue_ful=429"], "Did you mean queue_full?"),
        (["--answer", "zzz=429"], "Write one of missing_api_key"),
        (
            ["--fault", "latncy,ms=2"],
            "--fault latncy,ms=2: kind: there is no fault 'latncy'\n  Did you mean 'latency'?",
        ),
        (["--fault", "latency,mss=2"], "--fault latency,mss=2: mss: unknown key of latency\n  Did you mean 'ms'?"),
    ],
)
def test_what_cannot_be_read_is_refused(refused: Any, arguments: list[str], says: str) -> None:
    """Exit code 2; each says what to write instead."""
    assert says in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--retry-after-factor", "2"], "--retry-after-factor 2: has no effect without retry_after"),
        (["--fault-clock", "epoch", "--fault", "throttle"], "Give control_port"),
        (["--workflows", "a\tb"], "--workflows: 'a\\tb' is not a module or a file"),
        (["--limit-scope", "key", "--limit", "all=9/s", "--limit", "sync_run=5/s"], "no request counts against it"),
        (["--limit", "all=9/s"], "--limit all=9/1s: scope key-and-name does not count all"),
        (["--limit-scope", "key"], "--limit-scope key: all requests share a limit that is not given"),
        (["--burst", "5"], "--burst: fixed-window has no burst\n  Leave it out, or choose one of token-bucket, "),
        (
            ["--algorithm", "leaky-queue", "--count-rejected"],
            "--count-rejected: counting rejected requests does not change leaky-queue",
        ),
        (["--fault", "starve,key=0"], "two keys"),
        (["--fault", "error,key=1"], "--fault error,key=1: key: there is no key 1\n  There is 1 key, number 0."),
        (["--fault", "starve,key=0,by=7"], "by: there is no key 7\n  There is 1 key, number 0."),
    ],
)
def test_settings_that_do_not_go_together_are_refused(refused: Any, arguments: list[str], says: str) -> None:
    """What was meant to be seen with them would not be."""
    assert says in refused(*arguments)


def test_a_key_that_no_header_can_carry_is_refused_unseen(refused: Any) -> None:
    """The message says which key, not what it is."""
    said = refused(keys="fine,schlüssel")
    assert "key 2" in said
    assert "schl" not in said
