"""``openapi.yaml`` itself: served, shipped, sound, and true of every error that the server can answer with."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from plugins.openapi_answers import COMPONENTS, DOCUMENT, PATH, faults_of, resolve

from loadtest.contract import ErrorCode

ROOT = Path(__file__).parents[2]
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a part of the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def test_it_is_served_as_it_is_outside_of_limits_and_keys(launch: Any) -> None:
    """Whoever can reach the server can read what it does, even when every limit is spent."""
    served = launch("--limit", "retrieval=1/1h")
    assert [served.client().get("/v1/workflows/jobs/x").status_code for _ in range(2)] == [404, 429]
    answer = served.client(key=None, endpoint=None).get("/openapi.yaml")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.content == PATH.read_bytes()


def test_its_references_lead_somewhere_and_its_parts_are_used() -> None:
    """No `$ref` dangles, and no component lies about unused but the answers outside of every operation."""
    pointed = set()
    for node in nodes(DOCUMENT):
        if "$ref" in node:
            assert resolve(node)
            pointed.add(node["$ref"])
    parts = {f"#/components/{kind}/{name}" for kind, named in COMPONENTS.items() for name in named}
    outside = ("NotHttp", "HeadersTooLarge", "UnsupportedCoding", "NoSuchRoute", "NoSuchMethod")
    apart = {f"#/components/responses/{name}" for name in outside}
    assert parts - pointed == apart | {"#/components/securitySchemes/apiKey"}


def test_its_schemas_are_schemas() -> None:
    """Each schema is one by the rules of JSON Schema 2020-12, and describes what it asks for."""
    for name, schema in COMPONENTS["schemas"].items():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})
        assert set(schema.get("required", [])) <= schema.get("properties", {}).keys(), name


def test_its_examples_are_true() -> None:
    """Each example is valid by the schema beside it, and each response with a body has one."""
    seen = 0
    for node in nodes(DOCUMENT):
        for kind, media in node.get("content", {}).items() if isinstance(node.get("content"), dict) else ():
            assert kind != "application/json" or media["examples"]
            for name, example in media.get("examples", {}).items():
                assert not faults_of(media["schema"], example["value"]), name
                seen += 1
    assert seen > 30


@pytest.mark.parametrize(("label", "operation"), OPERATIONS, ids=[label for label, _ in OPERATIONS])
def test_each_operation_says_who_may_ask(label: str, operation: dict[str, Any]) -> None:
    """What needs a key needs both headers and can answer 401 and 429; what needs none can answer neither."""
    needs_key = operation.get("security", DOCUMENT["security"]) != []
    assert needs_key == label.partition(" ")[2].startswith("/v1/")
    names = {resolve(parameter)["name"] for parameter in operation.get("parameters", [])}
    assert ("x-wf-endpoint" in names) == needs_key
    assert ({"401", "429"} <= operation["responses"].keys()) == needs_key
    assert operation["tags"] == (["workflows"] if needs_key else ["server"])


def test_a_submit_links_to_its_retrieval() -> None:
    """The job id of the 202 is the parameter of the retrieval."""
    link = resolve(DOCUMENT["paths"]["/v1/workflows/jobs"]["post"]["responses"]["202"]["links"]["job"])
    assert link["parameters"] == {"jobId": "$response.body#/jobId"}
    retrieval = DOCUMENT["paths"]["/v1/workflows/jobs/{jobId}"]["get"]
    assert link["operationId"] == retrieval["operationId"]


def raised() -> set[ErrorCode]:
    """Every error that the code can answer with; each has to stand there as it is.

    But for the faults, which answer otherwise than documented on purpose.
    """
    found = set()
    room = ROOT / "loadtest" / "reference_api"
    for path in sorted(set(room.rglob("*.py")) - set((room / "faults").rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
                code = node.args[0]
                assert isinstance(code, ast.Attribute), f"{path}:{node.lineno}"
                found.add(ErrorCode[code.attr])
    return found


def documented() -> set[tuple[int, str]]:
    """Status and code of every error response of the document."""
    found = set()
    statuses = {
        "NotHttp": 400,
        "HeadersTooLarge": 431,
        "UnsupportedCoding": 501,
        "NoSuchRoute": 404,
        "NoSuchMethod": 405,
    }
    answers = [(statuses[name], COMPONENTS["responses"][name]) for name in statuses]
    for _, operation in OPERATIONS:
        answers += [(int(status), resolve(answer)) for status, answer in operation["responses"].items()]
    for status, answer in answers:
        for part in answer["content"].get("application/json", {}).get("schema", {}).get("allOf", []):
            code = part.get("properties", {}).get("code", {})
            found |= {(status, each) for each in code.get("enum", [code.get("const")]) if each}
    return found


def test_it_lists_the_errors_that_the_server_can_answer_with_and_no_others() -> None:
    """Code, catalogue and document name the same errors, each with one status."""
    assert raised() == set(ErrorCode) == set(COMPONENTS["schemas"]["ErrorCode"]["enum"])
    assert documented() == {(code.status, code) for code in ErrorCode}
