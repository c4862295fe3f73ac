"""Comparison of answers with ``openapi.yaml``: headers and body must match the schema of operation and status."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import yaml

PATH = Path(__file__).parents[2] / "loadtest" / "reference_api" / "openapi.yaml"


class _Strict(yaml.CSafeLoader):
    """A loader that rejects duplicate keys. The later key would hide the earlier."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice: {node.start_mark}"
        return super().construct_mapping(node, deep)


DOCUMENT: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"), Loader=_Strict)  # it is a SafeLoader
COMPONENTS = DOCUMENT["components"]

# Answers to requests with a method or path that the document does not have.
OUTSIDE = {
    "400": ["BadHeaders", "NotHttp"],
    "401": ["Unauthorized"],
    "404": ["NoSuchRoute", "NoSuchJob"],
    "405": ["NoSuchMethod"],
    "431": ["HeadersTooLarge"],
    "500": ["InternalError"],
    "501": ["UnsupportedCoding"],
    "503": ["Stopping"],
}


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Return the node that a ``$ref`` points at, or the node itself if it is not a reference."""
    while "$ref" in node:
        target: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


@cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [(re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(path))), item) for path, item in DOCUMENT["paths"].items()]


def responses(method: str, path: str) -> dict[str, list[dict[str, Any]]]:
    """Return the documented responses to a request, by status. Most statuses have only one."""
    for pattern, item in _paths():
        if pattern.fullmatch(path) and method.lower() in item:
            return {status: [resolve(one)] for status, one in item[method.lower()]["responses"].items()}
    return {status: [COMPONENTS["responses"][name] for name in names] for status, names in OUTSIDE.items()}


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": COMPONENTS})


def faults_of(schema: dict[str, Any], value: Any) -> list[str]:
    """Return the differences between a value and a schema."""
    return [f"{error.instance_path}: {error.message}" for error in _validator(json.dumps(schema)).iter_errors(value)]


def problems(method: str, path: str, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """Return the differences between an answer and the document. Empty if the answer is as documented.

    Args:
        method: the request's method.
        path: the request's path without its query.
        status: the answer's status.
        headers: the answer's headers, with names in lower case.
        body: the answer's body.
    """
    documented = responses(method, path).get(str(status))
    if documented is None:
        return [f"{method} {path} is not documented to answer {status}"]
    found = [_of_response(one, headers, None if method == "HEAD" else body) for one in documented]
    return [] if [] in found else found[0]


def _of_response(response: dict[str, Any], headers: dict[str, str], body: bytes | None) -> list[str]:
    found = []
    for name, header in response.get("headers", {}).items():
        definition, value = resolve(header), headers.get(name.lower())
        if value is None:
            found += [f"the header {name} is missing"] if definition.get("required") else []
            continue
        number = definition["schema"].get("type") == "integer" and value.isdigit()
        found += [f"{name} {fault}" for fault in faults_of(definition["schema"], int(value) if number else value)]
    kind = headers.get("content-type", "").partition(";")[0]
    if kind not in response["content"]:
        return [*found, f"the content type {kind} is not documented"]
    if body is None:
        return found
    schema = response["content"][kind].get("schema", {})
    read = {"application/json": json.loads, "application/yaml": yaml.safe_load}.get(kind, bytes.decode)
    try:
        return found + faults_of(schema, read(body))
    except RecursionError:  # the body is nested too deeply for this parser
        return found


def expect_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is the documented error with this status and code, and return its details."""
    body = response.json()
    assert (response.status_code, body.get("code")) == (status, code), response.text
    assert body.keys() == {"error", "code", "details"}
    assert isinstance(body["error"], str)
    assert isinstance(body["details"], dict)
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    assert response.headers["content-type"] == "application/json"
    assert "date" in response.headers
    return body["details"]
