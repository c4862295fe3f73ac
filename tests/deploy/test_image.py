"""deploy/Dockerfile: its linter, and its first stage carried out here, step by step, without an engine."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from plugins.deploy_parts import DEPLOY, linted
from plugins.processes import clean_environment

ROOT = DEPLOY.parent
DOCKERFILE = DEPLOY / "Dockerfile"


def instructions() -> list[list[tuple[str, str]]]:
    """The stages of the Dockerfile, each as its instructions: word and argument."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    stages: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append((word, rest.strip()))
    return stages


def copied(stage: list[tuple[str, str]]) -> list[str]:
    """The files that a stage copies from the repository."""
    return [
        name for word, rest in stage if word == "COPY" and not rest.startswith("--from") for name in rest.split()[:-1]
    ]


def test_the_linter_finds_nothing() -> None:
    """hadolint, warnings and hints included."""
    linted("hadolint", "Dockerfile")


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    """What .dockerignore lets through is what the Dockerfile takes; so no run and no key can get in."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_through = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert let_through == {name for stage in instructions() for name in copied(stage)}


def test_the_image_is_nobodys() -> None:
    """Both stages are of one Python, the last has a numeric user that is not root, and starts the harness."""
    build, last = instructions()
    assert build[0][1] == f"{last[0][1]} AS build"
    words = dict(last)
    user, group = words["USER"].split(":")
    assert int(user) == int(group) > 0
    assert f"--uid {user} " in words["RUN"]
    assert words["ENTRYPOINT"] == '["loadtest"]'


@pytest.mark.heavy
@pytest.mark.timeout(600)  # a quarter of a gigabyte of packages
def test_the_steps_of_the_build_give_a_harness_without_the_tools(tmp_path: Path) -> None:
    """The same commands in a folder of their own: every file by its hash, and of them only what the harness needs."""
    build, opt = tmp_path / "build", tmp_path / "venv"
    build.mkdir()
    # Our Python and pip, by the names that the image has for its own. Without a registry, it fails soon.
    ours = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = clean_environment(PATH=ours, **({} if os.environ.get("CI") else {"PIP_RETRIES": "1"}))
    for word, rest in instructions()[0]:
        if word == "COPY":
            *sources, where = rest.split()
            command = ["cp", "-r", *(str(ROOT / source) for source in sources), where]
        elif word == "RUN":
            command = ["sh", "-ec", rest.replace("/opt/venv", str(opt))]
        else:
            assert word in {"FROM", "ARG", "ENV", "WORKDIR"}
            continue
        done = subprocess.run(command, cwd=build, env=environment, capture_output=True, text=True, check=False)
        if "pip download" in rest and "NewConnectionError" in done.stderr and not os.environ.get("CI"):
            pytest.skip("no package registry can be reached")
        assert done.returncode == 0, done.stderr

    # As in the image: the scenarios are in the package, with nothing of this checkout around.
    clean = clean_environment()
    listed = subprocess.check_output([opt / "bin/loadtest", "scenarios"], cwd=opt, env=clean, text=True)
    assert "within-limits" in listed
    found = {path.name.split("-")[0] for path in opt.glob("lib/*/site-packages/*.dist-info")}
    installed = {name.replace("_", "-").lower() for name in found}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    tools_wanted = [*groups["build"], *(one for one in groups["dev"] if isinstance(one, str))]
    wanted, tools = (
        {re.split(r"[>=<;\[]", requirement)[0].strip() for requirement in requirements}
        for requirements in (project["project"]["dependencies"], tools_wanted)
    )
    assert wanted <= installed
    # Locust itself needs pytest.
    assert tools & installed == {"pytest"}
    assert "pip" not in installed
