"""The scripts that schedules run: what they add to a history, and how they pass on what a check found."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.deploy_parts import DEPLOY

SCHEDULES = DEPLOY / "schedules"
Stub = Callable[[Path, str], Path]


@pytest.fixture
def stub() -> Stub:
    """Put a program in the place of one that needs a service, or minutes."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_history_gets_the_lines_that_it_lacks(tmp_path: Path) -> None:
    """Each line is added once; truncated lines are left out, and no line is removed."""
    kept, night, rerun = (tmp_path / name for name in ("kept", "night", "rerun"))
    for folder in (kept, night, rerun):
        folder.mkdir()
    (kept / "a.jsonl").write_text('{"run":"1"}\n{"run":"2.*"}\n')
    (night / "a.jsonl").write_text('{"run":"1"}\n{"run":"2x*"}\n{"run":"3')
    (night / "b.jsonl").write_text('{"run":"b"}\n')
    (rerun / "a.jsonl").write_text('{"run":"2x*"}\n{"run":"4"}\n')
    for _ in range(2):
        done = run(SCHEDULES / "add-lines.sh", kept, night, tmp_path / "never-made", rerun)
        assert (done.returncode, done.stderr) == (0, "")
        assert (kept / "a.jsonl").read_text() == '{"run":"1"}\n{"run":"2.*"}\n{"run":"2x*"}\n{"run":"4"}\n'
        assert (kept / "b.jsonl").read_text() == '{"run":"b"}\n'


@pytest.fixture
def nightly(tmp_path: Path, stub: Stub) -> Callable[[int], subprocess.CompletedProcess[str]]:
    """Run nightly.sh in a checkout whose loadtest ends with this code, and prints what it was given."""
    script = tmp_path / "deploy/schedules/cron/nightly.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes((SCHEDULES / "cron" / "nightly.sh").read_bytes())
    (tmp_path / "keys.env").write_text("WORKFLOW_API_KEYS=one,two\n")

    def start(code: int) -> subprocess.CompletedProcess[str]:
        said = 'echo "$* $WORKFLOW_API_KEYS" | tee -a "$(dirname "$0")/calls"'
        stub(tmp_path / ".venv/bin/loadtest", f'{said}; [ "$1" = runs ] || exit {code}')
        return run("sh", script, "smoke", "--target", "staging", LOADTEST_KEYS=str(tmp_path / "keys.env"))

    return start


def test_cron_hears_nothing_of_a_check_that_passed(nightly, tmp_path):
    """The check has the options and the keys of the file; old runs are deleted after it."""
    done = nightly(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check, delete = (tmp_path / ".venv/bin/calls").read_text().splitlines()
    assert check == "regression check smoke --target staging one,two"
    assert delete.startswith("runs --keep 90 --yes")


@pytest.mark.parametrize(("code", "said"), [(4, "slower"), (6, "Inconclusive"), (70, "ended with 70")])
def test_cron_hears_of_any_other(nightly, code, said):
    """The meaning comes first, then the check's output; the exit code stays."""
    done = nightly(code)
    assert done.returncode == code
    first, _, second, *_ = done.stdout.splitlines()
    assert said in first
    assert second.startswith("regression check smoke")


@pytest.fixture
def step(tmp_path: Path, stub: Stub) -> Callable[..., tuple[int, str, dict[str, str]]]:
    """Run the action's step with this exit code of loadtest; return its own, loadtest's arguments, and the outputs."""

    def start(code: int, *, leaves: str = "true", **inputs: str) -> tuple[int, str, dict[str, str]]:
        stub(tmp_path / ".venv/bin/loadtest", f'echo "$*"; {leaves}; exit {code}')
        outputs = tmp_path / "outputs"
        outputs.write_text("")
        empty = dict.fromkeys(("TARGET", "TARGET_VERSION", "SUSPECTS", "ARGUMENTS"), "")
        given = {"SCENARIO": "regression", "HISTORY": "history", "OUTPUT_DIR": str(tmp_path / "runs"), "RERUN": "true"}
        done = run(
            *("bash", SCHEDULES / "github" / "check.sh"),
            **{**empty, **given, **inputs, "ACTION": str(tmp_path), "GITHUB_OUTPUT": str(outputs)},
        )
        assert done.stderr == ""
        pairs = [line.partition("=") for line in outputs.read_text().splitlines()]
        return done.returncode, done.stdout.splitlines()[0], {name: value for name, _, value in pairs}

    return start


def test_the_action_ends_as_the_check_did(step: Callable[..., tuple[int, str, dict[str, str]]]) -> None:
    """Each input becomes an option of a single word, whatever is in it; the exit code is an output, too."""
    code, told, outputs = step(4, TARGET="staging", TARGET_VERSION="2 beta", ARGUMENTS="--seed=3\n\n--no-plots")
    assert (code, outputs) == (4, {"code": "4"})
    assert told.startswith("regression check regression --history history --output-dir ")
    assert told.endswith(" --seed=3 --no-plots --target staging --target-version 2 beta")
    assert step(0)[::2] == (0, {"code": "0"})


def test_the_action_leaves_a_suspicion_to_another_job(step: Callable[..., tuple[int, str, dict[str, str]]]) -> None:
    """A suspicion passes to the second job only if RERUN is false; 6 without a suspicion fails, as other codes do."""
    # Later than the check's begin by more than the clock of the file system can miss.
    leaves = 'mkdir -p "$7/run" && touch -d "1 minute" "$7/run/suspects.json"'
    assert step(6, RERUN="false")[0] == 6
    code, told, outputs = step(6, leaves=leaves, RERUN="false")
    assert code == 0
    assert told.endswith("--no-rerun")
    assert outputs["suspects"].endswith("/runs/run/suspects.json")
    code, told, outputs = step(6, leaves=leaves, SUSPECTS="first/suspects.json", RERUN="false")
    assert (code, outputs) == (6, {"code": "6"})
    assert told.startswith("regression confirm first/suspects.json --history history")


def line(run_id: str, hour: int, verdict: str, confirms: str = "") -> str:
    """A run in a history, as far as the issue depends on it."""
    found = {"line": "run", "recorded": f"2026-01-01T{hour:02}:00:00.000+00:00", "verdict": verdict}
    found |= {"sentence": f"{run_id} {verdict}", "run": {"run": run_id}}
    return json.dumps(found | ({"confirms": confirms} if confirms else {}))


TWICE = [
    line("a", 1, "pass"),
    line("b", 2, "inconclusive"),
    line("b2", 3, "regressed", confirms="b"),
    json.dumps({"line": "decision", "recorded": "2026-01-01T03:30:00.000+00:00", "run": "a", "status": "accepted"}),
    line("c", 4, "inconclusive"),
    line("c2", 5, "regressed", confirms="c"),
]
TITLE = "Load test regression: the API is slower, or refuses more"


@pytest.mark.parametrize(
    ("lines", "opened", "does"),
    [
        ([], False, []),
        (TWICE[:3], False, []),
        (TWICE[::-1], False, ["label create", "issue create"]),  # as a merge may leave them
        (TWICE, True, []),
        ([*TWICE, line("d", 6, "inconclusive")], True, []),
        ([*TWICE, line("d", 6, "pass")], True, ["issue close"]),
        ([*TWICE, line("d", 6, "learning")], True, ["issue close"]),
        ([*TWICE, line("d", 6, "pass")], False, []),
    ],
    ids=["no history", "once", "twice", "known", "undecided", "recovered", "accepted", "quiet"],
)
def test_one_issue_is_kept_while_the_api_is_slower(lines, opened, does, tmp_path, stub):
    """Opened after two regressed checks in a row, closed by one that passes or learns anew, and else left alone."""
    issues = [{"number": 7, "title": TITLE}] if opened else []
    issues.append({"number": 8, "title": "Load test of another scenario"})
    (tmp_path / "issues.json").write_text(json.dumps(issues))
    calls = tmp_path / "calls"
    listing = f'[ "$2" != list ] || cat {tmp_path}/issues.json'
    stub(tmp_path / "bin/gh", f'printf "%s\\0" "$@" >> {calls}; echo >> {calls}; {listing}')
    history = tmp_path / "regression.jsonl"
    if lines:
        history.write_text("\n".join(lines) + "\n")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = run(sys.executable, SCHEDULES / "github" / "track_issue.py", history, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    made = [call.split("\0") for call in calls.read_text().split("\0\n") if call]
    assert [" ".join(call[:2]) for call in made] == ["issue list", *does]
    if does[-1:] == ["issue create"]:
        assert TITLE in made[-1]
        assert "- b2 regressed\n- c2 regressed" in made[-1][-1]
    if does == ["issue close"]:
        assert made[-1][2] == "7"
