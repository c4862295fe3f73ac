"""A scenario that tests can change, and a writer of TOML. The standard library can only read TOML."""

import datetime as dt
import json
from typing import Any

WHOLE: dict[str, Any] = {
    "title": "All there is",
    "seed": 7,
    "warmup": "5s",
    "drain": "20s",
    "traffic": {
        "greetings": {
            "operation": "sync_run",
            "workflow": "say-hello",
            "parameters": {"name": "x", "n": [1, 2.5]},
            "arrivals": "poisson",
            "timeout": "10s",
            "max_users": 50,
            "stages": [
                {"name": "within", "rate": "80% of limit", "duration": "60s"},
                {"name": "above", "rate": "1x limit", "ramp_to": "2.5x limit", "duration": "2m", "expect": [429, 500]},
            ],
        },
        "jobs": {
            "operation": "async_run",
            "workflow": "echo",
            "keys": "all",
            "retry": {"policy": "exponential", "initial": "500ms", "max": "10s", "max_attempts": 4},
            "polling": {"interval": "500ms", "give_up": "20s", "pace": "50% of limit"},
            "expect": {"job": "completed", "result": {"n": 1}},
            "mistakes": {"invalid_body": "1%", "bad_key": 0.01},
            "stages": [
                {"name": "climb", "from": "1/s", "to": "4/s", "step": "1/s", "duration": "10s"},
                {"name": "burst", "burst": "1x limit", "duration": "20s"},
            ],
        },
        "lookups": {
            "operation": "retrieval",
            "workflow": "echo",
            "job_ids": "seeded",
            "seed_jobs": 5,
            "stages": [{"name": "within", "rate": "90/min", "duration": "60s"}],
        },
    },
    "key_groups": {"all": 2},
    "breakers": {"auth": False, "server_errors": "50%", "pending_jobs": 5000},
    "threshold": [
        {"traffic": "greetings", "stage": "within", "require": "response_time.p50 < 800ms"},
        {"operation": "async_run", "require": "time_to_result.p95 < 5s"},
        {"require": "error_rate <= 1%"},
    ],
    "target": {
        "enforce": {"sync_run": "100/60s"},
        "keys": 2,
        "workers": 4,
        "queue": 100,
        "fault": [
            {"kind": "latency", "ms": 20, "start": "1s", "on": ["sync_run", "retrieval"], "probability": "10%"},
            {"kind": "starve", "key": 1, "by": 0},
        ],
    },
}


def toml(value: Any) -> str:
    """Format a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return repr(value)


def document(table: dict[str, Any]) -> str:
    """Format a table as a TOML document with a line for each key."""
    return "".join(f"{_quoted(key)} = {toml(each)}\n" for key, each in table.items())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
