"""deploy/compose.yaml, as Docker Compose itself reads it."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

from plugins.deploy_parts import DEPLOY, SECRET, linted

Compose = Callable[..., dict[str, Any]]


def test_the_linter_finds_nothing() -> None:
    """yamllint, over all YAML that is deployed."""
    linted("yamllint", "--strict", "--config-file", ".yamllint.yaml", ".")


def test_as_many_workers_are_expected_as_are_started(compose: Compose) -> None:
    """By default and by choice: a master that expects more waits for ever."""
    for variables in ({}, {"WORKERS": "5"}):
        services = compose(**variables)["services"]
        command = services["master"]["command"]
        expected = int(command[command.index("--expect-workers") + 1])
        assert expected == services["worker"]["deploy"]["replicas"] == int(variables.get("WORKERS", "2"))


def test_keys_go_from_the_environment_to_the_containers(compose: Compose) -> None:
    """Each has them in its own environment, and they are nowhere else; unset variables stay unset."""
    services = compose(WORKFLOW_API_KEYS=SECRET)["services"]
    for service in services.values():
        assert service.pop("environment")["WORKFLOW_API_KEYS"] == SECRET
    assert SECRET not in json.dumps(services)
    for service in compose()["services"].values():
        assert not any((service.get("environment") or {}).values())


def test_nothing_can_be_reached_from_outside(compose: Compose) -> None:
    """The target listens on loopback; all services share its network, and no port is published."""
    services = compose()["services"]
    assert not [name for name, service in services.items() if service.get("ports")]
    shared = {name for name, service in services.items() if service.get("network_mode") == "service:target"}
    assert shared == set(services) - {"target"}


def test_containers_may_do_little(compose: Compose) -> None:
    """No capability, no new privileges, nothing to write to but /tmp and the results."""
    for service in compose()["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"]
        writable = {volume["target"] for volume in service.get("volumes", []) if not volume.get("read_only")}
        assert writable <= {"/results"}


def test_all_services_are_of_the_version_that_is_here(compose: Compose) -> None:
    """An older image would be run without a word."""
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {service["image"] for service in compose()["services"].values()} == {f"workflow-loadtest:{version}"}
