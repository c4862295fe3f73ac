"""What docs/reference-api.md shows is what happens."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.openapi_answers import expect_error
from plugins.pages import ROOT, blocks

from loadtest.errors import TargetError
from loadtest.runs.target import child_environment, embedded_target, own_credentials
from loadtest.scenario import load_scenario

TEXT = (ROOT / "docs" / "reference-api.md").read_text(encoding="utf-8")
RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"


def block(language: str) -> str:
    return blocks(TEXT.partition("\n## Workflows of your own\n")[2], language)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the module and the scenario that the page shows."""
    folder = tmp_path_factory.mktemp("example")
    for language, name in (("python", "images.py"), ("toml", "images.toml")):
        text = block(language)
        assert text.startswith(f"# {name}\n")
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def client(launch: Any, folder: Path) -> Any:
    """Of a server with the page's module."""
    return launch("--workflows", str(folder / "images.py")).client()


def test_the_module_does_what_it_says(client: Any) -> None:
    """Each of its workflows gives its result."""
    resize = {"url": "https://x.example/1", "width": 200}
    for name, parameters, result in (
        ("resize-image", resize, {"url": "https://x.example/1?200x600"}),
        ("caption", {"url": "u", "words": 2}, {"caption": "word word"}),
        ("count-pixels", {"rounds": 1000}, {"counted": 1000}),
        ("say-hello", {}, {"greeting": "Hello, World!"}),
    ):
        answer = client.post(RUN, json={"name": name, "parameters": parameters})
        assert (answer.status_code, answer.json()["result"]) == (200, result)
    assert client.post(RUN, json={"name": "resize-image", "parameters": resize}).json()["executionTime"] >= 50


def test_its_bounds_and_failures_are_answered_as_shown(client: Any) -> None:
    """The answer that the page shows is the one that comes; a failure has the workflow's own words."""
    wrong = {"name": "resize-image", "parameters": {"url": "https://x.example/1"}}
    for path in (RUN, JOBS):
        answer = client.post(path, json=wrong)
        expect_error(answer, 400, "invalid_parameters")
        assert answer.json() == json.loads(block("json"))
    answer = client.post(RUN, json={"name": "resize-image", "parameters": {"url": "ftp://x", "width": 1}})
    assert expect_error(answer, 500, "workflow_failed")["workflow"] == "resize-image"
    assert answer.json()["error"] == "ftp://x is not an https address"


def test_the_scenario_gets_an_embedded_target_with_the_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`target.workflows` reaches the server that a run starts; its path begins at the working directory."""
    monkeypatch.chdir(folder)
    scenario = load_scenario(folder / "images.toml").scenario
    keys, endpoint = own_credentials(scenario.keys)
    traffic = scenario.traffic["resizing"]
    with embedded_target(scenario.target.settings, child_environment(keys, endpoint)) as target:
        headers = {"x-api-key": keys[0], "x-wf-endpoint": endpoint}
        body = {"name": traffic.workflow, "parameters": traffic.parameters}
        answer = httpx.post(target.url + RUN, json=body, headers=headers, trust_env=False)
    assert answer.json()["result"] == {"url": "https://pictures.example/1?200x600"}


def test_a_mistake_in_the_module_is_what_the_run_ends_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded target's own words are handed on."""
    monkeypatch.chdir(folder.parent)
    scenario = load_scenario(folder / "images.toml").scenario
    with (
        pytest.raises(TargetError, match=r"--workflows images.py: there is no such .py file"),
        embedded_target(scenario.target.settings, child_environment(("k",), "e")),
    ):
        pass
