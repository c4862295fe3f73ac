"""The commands of containers: the harness understands them, and they run here as processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from plugins.deploy_parts import DEPLOY
from plugins.processes import PATIENCE, clean_environment
from plugins.records import runs_in

from loadtest.cli import app

Compose = Callable[..., dict[str, Any]]
TEXT = """
title = "Rehearsal"
seed = 1
[traffic.jobs]
operation = "async_run"
workflow = "echo"
stages = [{ name = "only", rate = "4/s", duration = "3s" }]
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Start a container's command where its files are; all are ended afterwards."""

    @contextmanager
    def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)

    with ExitStack() as stack:
        yield lambda command: stack.enter_context(
            ended(
                subprocess.Popen(
                    [sys.executable, "-m", "loadtest.cli", *command],
                    cwd=tmp_path,
                    env=clean_environment(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        )


def understood(command: list[str]) -> None:
    """The command line reads it, which is not carried out; ``click.UsageError`` otherwise."""
    name, *rest = command
    verb = app.get_command(click.Context(app), name)
    assert verb is not None, name
    verb.make_context(name, list(rest))


def test_commands_of_all_containers_are_understood(compose, built, monkeypatch):
    """Verbs, options and their values, as Compose and kustomize give them to the entry point."""
    monkeypatch.chdir(DEPLOY.parent)
    commands = [service["command"] for service in compose()["services"].values()]
    for manifest in [each for folder in ("base", "run") for each in built(folder)]:
        spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
        commands += [container["args"] for container in spec.get("containers", []) if "args" in container]
    assert {command[0] for command in commands} == {"serve", "run", "worker"}
    for command in commands:
        understood(command)


@pytest.mark.heavy
def test_what_compose_starts_makes_a_run_together(compose: Compose, start: Any, free_port: int, tmp_path: Path) -> None:
    """Target, workers before their master, master: one record by both workers, held to the leash that is mounted."""
    (tmp_path / "scenario.toml").write_text(TEXT)
    services = compose(SCENARIO="scenario.toml")["services"]
    (mounted,) = [each for each in services["master"]["volumes"] if each["target"].endswith("targets.toml")]
    targets = Path(mounted["source"]).read_text(encoding="utf-8")
    target = start([*services["target"]["command"][:-1], "0"])
    url = next(word for line in target.stdout for word in line.split() if word.startswith("http://"))
    (tmp_path / "targets.toml").write_text(targets.replace("http://127.0.0.1:8000", url), encoding="utf-8")

    def at_free_port(service: str) -> list[str]:
        return [word.replace(":5557", f":{free_port}") for word in services[service]["command"]]

    (tmp_path / "scenarios").mkdir()
    workers = [start(at_free_port("worker")) for _ in range(services["worker"]["deploy"]["replicas"])]
    command = at_free_port("master")
    command[command.index("/results")] = str(tmp_path / "results")
    master = start(command)
    said, _ = master.communicate(timeout=2 * PATIENCE)
    (found,) = runs_in(tmp_path / "results")
    assert found.check_conservation() == {"ok": 12}, said
    assert master.returncode in {0, 3}, said  # a machine that is busy may have sent late
    assert found.info.workers == len(workers) == 2
    assert {row["worker"] for row in found.operations} == {1, 2}
    assert found.info.target.budget.name == "reference"
    assert [worker.wait(PATIENCE) for worker in workers] == [0, 0]
