"""schemathesis over the server: requests made of ``openapi.yaml``, right and wrong, and links that are followed."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import settings
from schemathesis.checks import CHECKS
from schemathesis.engine import Status, events, from_schema

DOCUMENT = Path(__file__).parents[2] / "loadtest" / "reference_api" / "openapi.yaml"
SHORT = 2.0
"""Milliseconds that workflows take here, whatever valid time was drawn: the bounds are what matters, not the wait."""
UNUSED = {
    # A workflow may fail, which is a documented 500: `only_documented_server_errors` stands in for this one.
    "not_a_server_error",
    # Nothing is ever deleted.
    "use_after_free",
}


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Let no valid request take long."""
    parameters = case.body.get("parameters") if isinstance(case.body, dict) else None
    bound = 60_000 if isinstance(parameters, dict) and case.body.get("name") == "cpu" else 600_000
    for name, value in (parameters or {}).items() if isinstance(parameters, dict) else ():
        if name.endswith("ms") and type(value) in (int, float) and SHORT < value <= bound:
            parameters[name] = SHORT


@schemathesis.check
def only_documented_server_errors(_ctx: Any, response: Any, case: Any) -> None:
    """Only a workflow that fails by nature may end in a 500."""
    if response.status_code >= 500:
        assert (response.status_code, response.json()["code"]) == (500, "workflow_failed"), response.text
        assert case.body["name"] == "fail"


@dataclass
class Found:
    """What a run of schemathesis showed."""

    problems: list[str] = field(default_factory=list)
    phases: dict[str, Status] = field(default_factory=dict)
    checks: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    followed: Counter[int] = field(default_factory=Counter)

    def take(self, event: Any) -> None:
        """Count one event of the engine."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.problems.append(str(getattr(event, "value", getattr(event, "exception", event))))
        elif isinstance(event, events.PhaseFinished):
            self.phases[event.phase.name.value] = event.status
        elif isinstance(event, events.ScenarioFinished):
            self._take_scenario(event.recorder, event.phase.value)

    def _take_scenario(self, recorder: Any, phase: str) -> None:
        for id_, node in recorder.cases.items():
            case = node.value
            self.cases[phase] += 1
            response = recorder.find_response(case_id=id_)
            if response is not None:
                self.statuses.setdefault(case.operation.label, Counter())[response.status_code] += 1
                if node.transition is not None:
                    self.followed[response.status_code] += 1
            for check in recorder.checks.get(id_, ()):
                self.checks[check.name] += 1
                if check.status == Status.FAILURE:
                    failure = check.failure_info
                    self.problems.append(f"{check.name}: {failure.failure}\n{failure.code_sample}")


@pytest.fixture(scope="module")
def found(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Every phase of schemathesis, with every check that applies, against a server process."""
    folder = tmp_path_factory.mktemp("schemathesis")
    peers = ("alpha", "beta")
    users = [{"name": key, "fixedHeaders": [{"name": "x-api-key", "value": key}]} for key in peers]
    (folder / "auth.json").write_text(json.dumps({"auth": users}))
    found = Found()
    here = Path.cwd()
    os.chdir(folder)  # schemathesis keeps what it learns in files where it runs
    try:
        config = schemathesis.Config.from_dict(
            {
                "base-url": server.url,
                "continue-on-failure": True,
                "cache": {"enabled": False},
                "auth": {"wfc": {"path": str(folder / "auth.json"), "user": "alpha", "peers": list(peers)}},
                # Exploring runs take other requests each time; in a gate they are the same for the same commit.
                "generation": {
                    "deterministic": settings.default.derandomize,
                    "max-examples": max(10, settings.default.max_examples // 5),
                    "database": "none",
                },
                "checks": {name: {"enabled": False} for name in UNUSED},
            }
        )
        # From the file: of a document that it has fetched, schemathesis leaves out the route that it came from.
        schema = schemathesis.openapi.from_path(DOCUMENT, config=config)
        for event in from_schema(schema).execute():
            found.take(event)
    finally:
        os.chdir(here)
    return found


def test_nothing_is_wrong(found: Found) -> None:
    """Server and document agree on every request that was made of the document, and on every answer."""
    assert not found.problems, "\n\n".join(found.problems)
    assert set(found.phases.values()) == {Status.SUCCESS}


def test_everything_was_asked_for(found: Found) -> None:
    """Each phase sent requests; each operation gave each answer that requests alone can bring about."""
    assert found.cases.keys() == {"examples", "coverage", "fuzzing", "stateful"}
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in yaml.safe_load(DOCUMENT.read_text())["paths"].items()
        for method, operation in methods.items()
    }
    assert found.statuses.keys() == operations.keys()
    # What takes more: a limit that is exceeded, a body of 64 KiB, a server that breaks or stops.
    apart = {"413", "429", "500", "503"}
    for label, operation in operations.items():
        wanted = {int(status) for status in operation["responses"].keys() - apart} | {405}
        assert wanted <= found.statuses[label].keys(), label
    assert found.statuses["POST /v1/workflows/run"][500], "no run failed"
    assert found.followed[200] >= settings.default.max_examples // 20, "jobs are retrieved by the ids of their submits"
    assert found.checks.keys() == {name for name in CHECKS.get_all_names() if name not in UNUSED}, (
        "all checks were made"
    )
