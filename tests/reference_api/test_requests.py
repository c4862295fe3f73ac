"""Statuses, bodies and codes of the contract, over HTTP."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.openapi_answers import expect_error

from loadtest.reference_api.messages import locate

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"


def test_sync_run_answers_result_and_execution_time(server: Any) -> None:
    """A run gives exactly `result` and a number of ms."""
    response = server.client().post(RUN, json={"name": "say-hello", "parameters": {"name": "Ada"}})
    assert response.status_code == 200
    assert response.json().keys() == {"result", "executionTime"}
    assert response.json()["result"] == {"greeting": "Hello, Ada!"}
    assert response.json()["executionTime"] >= 0


def test_parameters_may_be_left_out(server: Any) -> None:
    """`parameters` is optional, and so is each of say-hello's."""
    client = server.client()
    for body in ({"name": "say-hello"}, {"name": "say-hello", "parameters": {}}):
        assert client.post(RUN, json=body).json()["result"] == {"greeting": "Hello, World!"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-wf-endpoint": "e"}, 401, "missing_api_key"),
        ({"x-wf-endpoint": "e", "x-api-key": ""}, 401, "missing_api_key"),
        ({"x-wf-endpoint": "e", "x-api-key": "nobody"}, 401, "invalid_api_key"),
        ({"x-wf-endpoint": "e", "x-api-key": "alpha,beta"}, 401, "invalid_api_key"),
        ({"x-wf-endpoint": "e", "x-api-key": "Alpha"}, 401, "invalid_api_key"),
        ({"x-api-key": "alpha"}, 400, "missing_endpoint"),
        ({"x-api-key": "alpha", "x-wf-endpoint": ""}, 400, "missing_endpoint"),
    ],
)
def test_both_headers_are_needed_on_every_route(server: Any, headers: dict[str, str], status: int, code: str) -> None:
    """Key and endpoint are checked before anything else is looked at."""
    client = server.client(key=None, endpoint=None)
    for method, path in (("POST", RUN), ("POST", JOBS), ("GET", JOBS + "/x")):
        details = expect_error(client.request(method, path, headers=headers), status, code)
        assert details["header"] in {"x-api-key", "x-wf-endpoint"}


def test_configured_endpoint_is_the_only_one(launch: Any) -> None:
    """With WORKFLOW_ENDPOINT set, another endpoint is unknown."""
    served = launch(env={"WORKFLOW_ENDPOINT": "mine"})
    assert served.client(endpoint="mine").post(RUN, json={"name": "say-hello"}).status_code == 200
    expect_error(served.client(endpoint="other").post(RUN, json={"name": "say-hello"}), 404, "unknown_endpoint")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", RUN, "POST"),
        ("PUT", RUN, "POST"),
        ("GET", JOBS, "POST"),
        ("DELETE", JOBS + "/x", "GET"),
        ("POST", JOBS + "/x", "GET"),
        ("OPTIONS", JOBS + "/x", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_wrong_method_says_which_is_allowed(server: Any, method: str, path: str, allow: str) -> None:
    """405 with `Allow`."""
    response = server.client().request(method, path)
    expect_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/workflows", RUN + "/", JOBS + "/", RUN + "x", "/healthz/", "/%00"])
def test_unknown_route(server: Any, path: str) -> None:
    """Whatever isn't a route is 404, trailing slashes included."""
    expect_error(server.client().get(path), 404, "unknown_route")


@pytest.mark.parametrize("path", [RUN, JOBS])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json", None)),
        (b"{", (400, "invalid_json", None)),
        (b'{"name": "echo", "parameters": {"a": NaN}}', (400, "invalid_json", None)),
        (b'{"name": "\xff"}', (400, "invalid_json", None)),
        (b'{"name": "echo"} x', (400, "invalid_json", None)),
        (b'{"name": "echo", "parameters": {"a": "\\ud800"}}', (400, "invalid_json", None)),
        (b'\xef\xbb\xbf{"name": "echo"}', (400, "invalid_json", None)),
        ('{"name": "echo"}'.encode("utf-16"), (400, "invalid_json", None)),
        (b"name=echo", (400, "invalid_json", None)),
        (b'{"name":"echo","parameters":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}}", (400, "invalid_json", None)),
        (b"[]", (400, "invalid_request", "")),
        (b"{}", (400, "invalid_request", "name")),
        (b'{"name": 3}', (400, "invalid_request", "name")),
        (b'{"name": null}', (400, "invalid_request", "name")),
        (b'{"name": "echo", "parameters": {"a": [0, {"b": 1e400}]}}', (400, "invalid_request", "parameters.a[1].b")),
        (b'{"name": "sleep", "parameters": {"ms": -1e400}}', (400, "invalid_request", "parameters.ms")),
        (b'{"name": "cpu", "parameters": {"ms": 1' + b"0" * 5000 + b"}}", (400, "invalid_request", "parameters.ms")),
        (b'{"name": "echo", "parameters": null}', (400, "invalid_request", "parameters")),
        (b'{"name": "echo", "parameters": [1]}', (400, "invalid_request", "parameters")),
        (b'{"name": "echo", "parameter": {}}', (400, "invalid_request", "parameter")),
        (b'{"name": "say-hullo"}', (404, "unknown_workflow", "name")),
        (b'{"name": ""}', (404, "unknown_workflow", "name")),
        (b'{"name": "say-hello", "parameters": {"name": 3}}', (400, "invalid_parameters", "parameters.name")),
        (b'{"name": "say-hello", "parameters": {"nam": "x"}}', (400, "invalid_parameters", "parameters.nam")),
        (b'{"name": "sleep", "parameters": {"ms": -1}}', (400, "invalid_parameters", "parameters.ms")),
        (b'{"name": "sleep", "parameters": {"ms": true}}', (400, "invalid_parameters", "parameters.ms")),
        (
            b'{"name": "sleep", "parameters": {"distribution": "normal"}}',
            (400, "invalid_parameters", "parameters.distribution"),
        ),
        (
            b'{"name": "sleep", "parameters": {"distribution": 1}}',
            (400, "invalid_parameters", "parameters.distribution"),
        ),
        (
            b'{"name": "sleep", "parameters": {"distribution": "lognormal", "sigma": [1]}}',
            (400, "invalid_parameters", "parameters.sigma"),
        ),
        (
            b'{"name": "sleep", "parameters": {"distribution": "lognormal", "ms": 1}}',
            (400, "invalid_parameters", "parameters.ms"),
        ),
        (b'{"name": "cpu", "parameters": {"ms": "1"}}', (400, "invalid_parameters", "parameters.ms")),
        (b'{"name": "cpu", "parameters": {"ms": 60001}}', (400, "invalid_parameters", "parameters.ms")),
    ],
)
def test_bad_bodies_name_the_field(server: Any, path: str, body: bytes, expected: tuple[int, str, str | None]) -> None:
    """Runs and submits refuse the same bodies, before anything runs, and say where the fault is."""
    status, code, field = expected
    details = expect_error(server.client().post(path, content=body), status, code)
    assert details.get("field") == field


def test_unknown_workflow_suggests_the_nearest(server: Any) -> None:
    """A misspelt name meets a suggestion, a name of 60 kB none and no delay."""
    client = server.client()
    details = expect_error(client.post(RUN, json={"name": "say-hullo"}), 404, "unknown_workflow")
    assert details["nearest"] == "say-hello"
    expect_error(client.post(RUN, json={"name": "e" * 60_000}), 404, "unknown_workflow")


def test_failed_run_is_500_with_the_workflows_message(server: Any) -> None:
    """A run that fails answers with its message and its own code."""
    response = server.client().post(RUN, json={"name": "fail", "parameters": {"message": "no luck"}})
    assert expect_error(response, 500, "workflow_failed")["workflow"] == "fail"
    assert response.json()["error"] == "no luck"


def test_json_is_read_as_it_says(server: Any) -> None:
    """The last of two equal keys holds, white space means nothing, and whole numbers stay whole, however large."""
    client = server.client()
    twice = b'{"name": "fail", "parameters": {"a": 1}, "name": "echo", "parameters": {"a": 1, "a": 2}}'
    assert client.post(RUN, content=b" \r\n" + twice + b"\t").json()["result"] == {"a": 2}
    large = {"a": [2**63, -(2**64), 10**300, 1e308, 5e-324, 0.1]}
    assert client.post(RUN, json={"name": "echo", "parameters": large}).json()["result"] == large


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"])
def test_content_type_and_query_are_not_looked_at(server: Any, kind: str) -> None:
    """A body is JSON, whatever it is said to be, and a query changes nothing."""
    client = server.client()
    answer = client.post(RUN + "?name=fail", content=b'{"name": "echo"}', headers={"content-type": kind})
    assert answer.json()["result"] == {}


def test_a_job_belongs_to_the_key_that_submitted_it(server: Any) -> None:
    """To another key it looks just like one that never was; another endpoint of the same key's makes no difference."""
    job = server.client("alpha").post(JOBS, json={"name": "say-hello"}).json()["jobId"]
    foreign = server.client("beta").get(f"{JOBS}/{job}")
    expect_error(foreign, 404, "unknown_job")
    assert foreign.json() == server.client("beta").get(f"{JOBS}/never").json()
    assert server.client("alpha", endpoint="another").get(f"{JOBS}/{job}").status_code == 200


def test_a_job_id_may_be_percent_encoded_and_is_exact_otherwise(server: Any) -> None:
    """A path is compared as it reads after decoding: nothing may be missing, added, or of another case."""
    client = server.client()
    job = client.post(JOBS, json={"name": "say-hello"}).json()["jobId"]
    encoded = "".join(f"%{ord(character):02x}" for character in job)
    assert client.get(f"{JOBS}/{encoded}?again=1").json()["jobId"] == job
    for other in (job + "/", job + "%20", job[:-1], job + "%00", "%2e/" + job, job.upper() + "."):
        expect_error(client.get(f"{JOBS}/{other}"), 404, "unknown_job")


def test_unknown_job(server: Any) -> None:
    """A job id that was never given is 404, whatever it looks like."""
    client = server.client()
    for job in ("nope", "a/b", "%2e%2e", "x" * 5000):
        expect_error(client.get(f"{JOBS}/{job}"), 404, "unknown_job")


@pytest.mark.parametrize("depth", [100, 900, 960, 980, 990, 1000, 5000])
def test_deep_results_never_break_the_server(server: Any, depth: int) -> None:
    """Nesting is echoed or refused by name: no depth between the two ends as an internal error."""
    nested = b"[" * depth + b"]" * depth
    response = server.client().post(RUN, content=b'{"name":"echo","parameters":{"a":' + nested + b"}}")
    assert (response.status_code == 200 and nested in response.content) or b"nested too deeply" in response.content


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(parameters=st.dictionaries(st.text(), values, max_size=5))
def test_echo_gives_back_any_object(server: Any, parameters: dict[str, Any]) -> None:
    """Whatever JSON can say comes back as it was."""
    response = _post(server, json.dumps({"name": "echo", "parameters": parameters}).encode())
    assert response.status_code == 200
    assert response.json()["result"] == parameters


places = st.lists(st.integers(0, 3) | st.text(st.characters(codec="ascii", categories="L"), min_size=1), max_size=8)


@given(place=places, beside=values)
def test_a_number_that_nothing_can_hold_is_found(place: list[int | str], beside: Any) -> None:
    """However deep it lies, and whatever lies beside it."""
    text, path = "1e999", "parameters"
    for part in reversed(place):
        before = json.dumps(beside)
        text = f'{{"": {before}, "{part}": {text}}}' if isinstance(part, str) else f"[{f'{before}, ' * part}{text}]"
    for part in place:
        path += f".{part}" if isinstance(part, str) else f"[{part}]"
    assert locate(json.loads(text), "parameters") == path


@given(body=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_get_a_documented_answer(server: Any, body: bytes) -> None:
    """No body leads to anything but the documented answers."""
    response = _post(server, body)
    assert response.status_code == 400
    assert response.json()["code"] in {"invalid_json", "invalid_request"}


def _post(server: Any, body: bytes) -> httpx.Response:
    client = server.clients[0] if server.clients else server.client()
    headers = {"x-api-key": "alpha", "x-wf-endpoint": "tests"}
    return client.post(RUN, content=body, headers=headers)


def test_unknown_parameters_and_fields_can_be_let_through(in_process: Any) -> None:
    """On demand what isn't known is dropped, in the parameters and beside them; what is known is still checked."""
    client = in_process("--unknown-parameters", "ignore").client()
    request = {"name": "say-hello", "parameters": {"name": "Ada", "nam": "x", "lang": {"a": 1}}, "priority": 3}
    assert client.post(RUN, json=request).json()["result"] == {"greeting": "Hello, Ada!"}
    sleep = {"name": "sleep", "parameters": {"distribution": "uniform", "max_ms": 1, "ms": 60_000}}
    assert client.post(RUN, json=sleep).status_code == 200
    wrong = {"name": "sleep", "parameters": {"ms": "x", "colour": "red"}}
    assert expect_error(client.post(RUN, json=wrong), 400, "invalid_parameters")["field"] == "parameters.ms"
