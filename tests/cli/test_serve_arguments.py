"""A scenario's ``[target]`` as options of ``loadtest serve``: what is said there is what the server is told."""

from typing import Any

import pytest

from loadtest.cli._children import serve_arguments
from loadtest.scenario.target_settings import TargetSettings
from loadtest.target.command import command
from loadtest.target.config import ServerConfig
from loadtest.target.option_values import server_config
from loadtest.units import Limit


def config_of(settings: dict[str, Any]) -> ServerConfig:
    """What a server makes of the arguments that a scenario's settings become."""
    arguments = serve_arguments(TargetSettings.model_validate(settings))
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
        ({"answers": {"queue_full": "429/busy"}}, "recodes", {"queue_full": (429, "busy")}),
        ({"pending_execution_time": "omitted"}, "pending_execution_time", "omitted"),
        ({"unknown_parameters": "ignore"}, "unknown_parameters", "ignore"),
        ({"max_body": 1000}, "max_body", 1000),
        ({"fault": [{"kind": "latency", "ms": 5}]}, "faults", ("latency,ms=5",)),
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
    assert (config.limit_all, config.limiter.scope) == (Limit(9, 1.0), "global")
    assert config_of({"enforce": {"sync_run": "5/1s"}}).limits["sync_run"] == Limit(5, 1.0)
