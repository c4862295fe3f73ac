"""Parameters and fields that nobody asked for: refused, or on demand let through."""

from typing import Any

RUN = "/v1/workflows/run"


def test_unknown_parameters_and_fields_can_be_let_through(launch: Any, expect_error: Any) -> None:
    """On demand what isn't known is dropped, in the parameters and beside them; what is known is still checked."""
    client = launch("--unknown-parameters", "ignore").client()
    request = {"name": "say-hello", "parameters": {"name": "Ada", "nam": "x", "lang": {"a": 1}}, "priority": 3}
    assert client.post(RUN, json=request).json()["result"] == {"greeting": "Hello, Ada!"}
    sleep = {"name": "sleep", "parameters": {"distribution": "uniform", "max_ms": 1, "ms": 60_000}}
    assert client.post(RUN, json=sleep).status_code == 200
    wrong = {"name": "sleep", "parameters": {"ms": "x", "colour": "red"}}
    assert expect_error(client.post(RUN, json=wrong), 400, "invalid_parameters")["field"] == "parameters.ms"
