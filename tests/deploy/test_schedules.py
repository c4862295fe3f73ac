"""deploy/schedules and action.yml, each read by the tool of what it is for."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from plugins.deploy_parts import DEPLOY, linted, wanted

from loadtest.cli import app

ROOT = DEPLOY.parent
SCHEDULES = DEPLOY / "schedules"
GITHUB = SCHEDULES / "github" / "nightly.yml"
GITLAB = SCHEDULES / "gitlab" / "nightly.gitlab-ci.yml"
JENKINS = SCHEDULES / "jenkins" / "Jenkinsfile"
CRON = SCHEDULES / "cron" / "loadtest.crontab"
SERVICE = SCHEDULES / "systemd" / "loadtest-nightly.service"
TIMER = SCHEDULES / "systemd" / "loadtest-nightly.timer"
KEYS = ("WORKFLOW_API_KEYS", "WORKFLOW_ENDPOINT")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with a copy of the workflow, and the action that it uses."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    shutil.copy(ROOT / "action.yml", tmp_path)
    shutil.copy(GITHUB, tmp_path / ".github" / "workflows")
    return tmp_path


def test_actionlint_finds_nothing(repository: Path) -> None:
    """In the workflow, the inputs and outputs of the action that it uses, its shell scripts, and our own CI."""
    linted("actionlint", cwd=repository)
    linted("actionlint", str(ROOT / ".github/workflows/ci.yml"), cwd=ROOT)
    workflow = repository / ".github/workflows/nightly.yml"
    workflow.write_text(GITHUB.read_text(encoding="utf-8").replace("rerun:", "re-run:"), encoding="utf-8")
    with pytest.raises(AssertionError):
        linted("actionlint", cwd=repository)


@pytest.mark.parametrize(
    ("schema", "path"),
    [("github-actions", ROOT / "action.yml"), ("github-workflows", GITHUB), ("gitlab-ci", GITLAB)],
    ids=["action", "workflow", "gitlab"],
)
def test_schemas_hold(schema: str, path: Path, tmp_path: Path) -> None:
    """Each holds to the published schema, which refuses an unknown key. The tool runs here: it starts slowly."""
    how = ["--quiet", "--builtin-schema", f"vendor.{schema}"]
    how += ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    assert CliRunner().invoke(check_jsonschema, [*how, str(path)]).exit_code == 0
    broken = yaml.safe_load(path.read_text(encoding="utf-8"))
    section = broken["jobs"]["check"] if "jobs" in broken else broken.get("loadtest:check", broken)
    section["artefacts"] = []
    (tmp_path / path.name).write_text(yaml.safe_dump(broken), encoding="utf-8")
    refused = CliRunner().invoke(check_jsonschema, [*how, str(tmp_path / path.name)])
    assert (refused.exit_code, type(refused.exception)) == (1, SystemExit)


def test_shellcheck_finds_nothing() -> None:
    """In the scripts that schedules run."""
    scripts = [str(path) for path in SCHEDULES.rglob("*.sh")]
    assert len(scripts) == 3
    linted("shellcheck", *scripts)


def test_yamllint_finds_nothing_in_the_action() -> None:
    """It is in the repository's root, unlike the other schedules."""
    linted("yamllint", "--strict", "--config-file", ".yamllint.yaml", str(ROOT / "action.yml"))


def test_cron_reads_the_crontab() -> None:
    """A dry run of the crontab command."""
    command = wanted(["crontab"], version="")
    done = subprocess.run([*command, "-n", str(CRON)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    """No unknown key, no wrong value; and what the service may do is little."""
    command = wanted(["systemd-analyze"], version="--version")
    for unit in (SERVICE, TIMER):
        text = unit.read_text(encoding="utf-8")
        # The unit's checkout does not exist here.
        (tmp_path / unit.name).write_text(re.sub(r"/opt/\S+/loadtest ", "/bin/echo ", text), encoding="utf-8")
    units = [str(tmp_path / unit.name) for unit in (SERVICE, TIMER)]
    verified = subprocess.run([*command, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = [*command, "security", "--offline=yes", "--threshold=15", units[0]]
    rated = subprocess.run(exposed, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout


def commands() -> dict[str, list[list[str]]]:
    """The arguments of ``loadtest`` in each schedule, by the file's name."""
    found: dict[str, list[list[str]]] = {}
    for path in (GITLAB, JENKINS, SERVICE):
        text = re.sub(r"^\s*(#|//).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        asked = re.findall(r"/bin/loadtest ([^'\n|]+)", text.replace("\\\n", " "))
        # A variable of the shell stands for one word.
        found[path.name] = [shlex.split(re.sub(r"\$\w+", "staging", line)) for line in asked]
    script, *options = shlex.split(CRON.read_text(encoding="utf-8").splitlines()[-1])[5:]
    assert script.endswith("/cron/nightly.sh")
    found[CRON.name] = [["regression", "check", *options]]
    cronjob: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes/scheduled/cronjob.yaml").read_text(encoding="utf-8"))
    (container,) = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    found["cronjob.yaml"] = [container["args"]]
    return found


def understood(words: list[str], group: click.Group = app) -> None:
    """The command line reads it, which is not carried out; ``click.UsageError`` otherwise."""
    verb = group.get_command(click.Context(group), words[0])
    assert verb is not None, words
    if isinstance(verb, click.Group):
        understood(words[1:], verb)
    else:
        verb.make_context(words[0], list(words[1:]))


@pytest.mark.parametrize("name", sorted(commands()))
def test_commands_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs and options as each schedule has them; each checks the scenario that is shipped for it."""
    monkeypatch.chdir(ROOT)
    asked = commands()[name]
    assert ["regression", "check", "regression"] in [words[:3] for words in asked]
    for words in asked:
        understood(words)


def test_keys_are_given_to_the_steps_that_load_and_to_no_others() -> None:
    """In the workflow: to the two uses of the action; each by the secret of its own name."""
    jobs = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert not [job for job in jobs.values() if "env" in job]
    loading = [step for step in steps if step.get("uses") == "./"]
    assert [step["env"] for step in loading] == [{key: f"${{{{ secrets.{key} }}}}" for key in KEYS}] * 2
    assert not [step for step in steps if "secrets." in str(step) and step not in loading]


def test_only_the_job_without_keys_may_write() -> None:
    """Jobs that load may read the repository, and nothing else."""
    workflow = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights.pop("keep") == {"contents": "write", "issues": "write"}
    assert set(map(str, rights.values())) == {"{'contents': 'read'}"}
