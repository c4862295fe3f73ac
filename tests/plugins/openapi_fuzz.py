"""Runs of schemathesis against a server. Its import takes half a second, which the collection of tests avoids."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import settings
from schemathesis.checks import CHECKS
from schemathesis.engine import Status, events, from_schema

DOCUMENT = Path(__file__).parents[2] / "loadtest" / "reference_api" / "openapi.yaml"
SHORT = 2.0
"""Every valid duration of a workflow is replaced with this many ms. Only the bounds matter here, not the wait."""
UNUSED = {
    # A workflow may fail with a documented 500. `only_documented_server_errors` replaces this check.
    "not_a_server_error",
    # The API deletes nothing.
    "use_after_free",
}


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Shorten the durations in valid requests."""
    parameters = case.body.get("parameters") if isinstance(case.body, dict) else None
    bound = 60_000 if isinstance(parameters, dict) and case.body.get("name") == "cpu" else 600_000
    for name, value in (parameters or {}).items() if isinstance(parameters, dict) else ():
        if name.endswith("ms") and type(value) in (int, float) and SHORT < value <= bound:
            parameters[name] = SHORT


@schemathesis.check
def only_documented_server_errors(_ctx: Any, response: Any, case: Any) -> None:
    """Check that only the workflow ``fail`` gets a 500."""
    if response.status_code >= 500:
        assert (response.status_code, response.json()["code"]) == (500, "workflow_failed"), response.text
        assert case.body["name"] == "fail"


@dataclass
class Found:
    """The results of a run of schemathesis."""

    problems: list[str] = field(default_factory=list)
    phases: dict[str, str] = field(default_factory=dict)
    checks: Counter[str] = field(default_factory=Counter)
    known: set[str] = field(default_factory=set)
    cases: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    followed: Counter[int] = field(default_factory=Counter)

    def take(self, event: Any) -> None:
        """Count one event of the engine."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.problems.append(str(getattr(event, "value", getattr(event, "exception", event))))
        elif isinstance(event, events.PhaseFinished):
            self.phases[event.phase.name.value] = event.status.value
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


def fuzz(url: str, folder: Path) -> Found:
    """Run all phases of schemathesis, with all checks that apply, against the server at a URL."""
    peers = ("alpha", "beta")
    users = [{"name": key, "fixedHeaders": [{"name": "x-api-key", "value": key}]} for key in peers]
    (folder / "auth.json").write_text(json.dumps({"auth": users}))
    found = Found()
    here = Path.cwd()
    os.chdir(folder)  # schemathesis writes files into the working directory
    try:
        config = schemathesis.Config.from_dict(
            {
                "base-url": url,
                "continue-on-failure": True,
                "cache": {"enabled": False},
                "auth": {"wfc": {"path": str(folder / "auth.json"), "user": "alpha", "peers": list(peers)}},
                # An exploring run draws other requests each time. In a gate, one commit always gets the same requests.
                "generation": {
                    "deterministic": settings.default.derandomize,
                    "max-examples": max(10, settings.default.max_examples // 5),
                    "database": "none",
                },
                "checks": {name: {"enabled": False} for name in UNUSED},
            }
        )
        # The document comes from the file. If schemathesis fetched it, it would leave out the document's own route.
        schema = schemathesis.openapi.from_path(DOCUMENT, config=config)
        for event in from_schema(schema).execute():
            found.take(event)
        found.known = set(CHECKS.get_all_names()) - UNUSED
    finally:
        os.chdir(here)
    return found
