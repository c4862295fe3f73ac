"""deploy/ as Docker Compose and kustomize read it; they need neither an engine nor a cluster."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from plugins.deploy_parts import DEPLOY, Manifests, wanted
from plugins.processes import clean_environment


@pytest.fixture(scope="session")
def compose() -> Callable[..., dict[str, Any]]:
    """Docker Compose's own reading of compose.yaml, with these variables set; needs no engine."""
    command = wanted(["docker", "compose"], ["docker-compose"])

    def read(**variables: str) -> dict[str, Any]:
        done = subprocess.run(
            [*command, "--file", "compose.yaml", "config", "--format", "json"],
            cwd=DEPLOY,
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return read


@pytest.fixture(scope="session")
def built() -> Callable[[str], Manifests]:
    """Kustomize's output for a folder of deploy/kubernetes, as `kubectl apply -k` would send it."""
    command = wanted(["kustomize"])

    def build(folder: str) -> Manifests:
        done = subprocess.run(
            [*command, "build", str(DEPLOY / "kubernetes" / folder)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return list(yaml.safe_load_all(done.stdout))

    return build
