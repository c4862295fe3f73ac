"""The command line as a whole: its verbs, its help, and exit codes that never pass for a verdict."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from loadtest import cli
from loadtest.errors import ExitCode, InputError, LoadtestError, RecordError, TargetError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], int]:
    """Run a function as a verb of the command line; gives its exit code."""

    def run(body: Callable[[], Any]) -> int:
        module = types.ModuleType("loadtest.cli.mine")
        module.__dict__["command"] = click.Command("mine", callback=body)
        monkeypatch.setitem(sys.modules, "loadtest.cli.mine", module)
        monkeypatch.setitem(cli.VERBS, "mine", "Ours.")
        return cli.main(["mine"])

    return run


def raising(error: BaseException) -> Callable[[], None]:
    """A function that fails."""

    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong", "right"), 2),
        (TargetError("wrong", "right"), 5),
        (RecordError("wrong", "right"), 3),
        (LoadtestError("wrong", "right"), 70),
    ],
)
def test_an_error_is_a_sentence_and_a_code(verb: Any, capsys: Any, error: Exception, code: int) -> None:
    """The error and its remedy are on stderr, without a traceback."""
    assert verb(raising(error)) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "loadtest: wrong\n  right\n")


@pytest.mark.parametrize("error", [ValueError("oops"), AssertionError(), RecursionError(), OSError(5, "broken")])
def test_a_bug_of_ours_is_no_verdict(verb: Any, capsys: Any, error: Exception) -> None:
    """Any other exception is 70 with its traceback: Python's own 1 would say that a threshold failed."""
    assert verb(raising(error)) == ExitCode.BUG
    assert "Traceback" in (said := capsys.readouterr().err)
    assert "a bug in loadtest;" in said


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(verb: Any, error: BaseException) -> None:
    """Ctrl-C at any moment."""
    assert verb(raising(error)) == ExitCode.INTERRUPTED


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), (ExitCode.INCONCLUSIVE, 6)])
def test_a_verbs_result_is_the_exit_code(verb: Any, result: Any, code: int) -> None:
    """A number is returned as it is; nothing is a pass."""
    assert verb(lambda: result) == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Usage: loadtest"),
        (["rnu"], "there is no verb 'rnu'\n  Did you mean 'run'?"),
        (["reprot"], "Did you mean 'report'?"),
        (["xyzzy"], "Valid values: init, "),
        ([""], "Valid values: init, "),
        (["--foo"], "loadtest has no option --foo"),
        (["run"], "missing argument 'SCENARIO'"),
        (["plan", "tour", "--seed"], "loadtest plan --help`."),
        (["plan", "tour", "--json=3"], "--json takes no value"),
        (["run", "tour", "--hots", "x"], "Did you mean --host?"),
        (
            ["run", "tour", "-u", "9", "-r=2"],
            "loadtest run has no option -u or -r\n  Did you mean --rate-multiplier or --set traffic.NAME.stages",
        ),
        (["ui", "tour", "--web-port", "9"], "Did you mean --port?"),
        (["run", "tour", "--web-port", "9"], "loadtest run has no option --web-port\n  See `"),
        (["probe", "--limit", "sync_run=20/2s"], "Did you mean --documented?"),
        (["import", "a.log", "--documented", "sync_run=20/2s"], "Did you mean --limit?"),
        (["run", "tour", "-t", "3"], "'3' is not a duration"),
        (["run", "tour", "--seed", "-1"], "--seed: '-1' is not a whole number of at least 0"),
        (["plan", "tour", "--keys", "0"], "--keys: '0' is not a whole number from 1 to 1,000"),
        (
            ["plan", "tour", "--price-per-execution", "nan"],
            "--price-per-execution: 'nan' is not a number of at least 0",
        ),
        (["probe", "--rate", "nan"], "--rate: 'nan' is not a number from 1 to 1,000"),
        (["export", "latest", "--to", "parkuet"], "--to: 'parkuet' is not valid here; did you mean 'parquet'?"),
        (["run", "tuor"], "Did you mean 'tour'?"),
        (["run", "tour", "--set", "sed=1"], "sed: unknown key; did you mean 'seed'?"),
        (["run", "tour", "--host", "http://10.0.0.1"], "10.0.0.1"),
        (["report", "nothing"], "is not a run"),
    ],
)
def test_wrong_usage_is_2(monkeypatch: Any, capsys: Any, arguments: list[str], words: str) -> None:
    """On stderr, with the nearest valid word where there is one."""
    monkeypatch.chdir(ROOT)
    assert cli.main(arguments) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", cli.VERBS)
def test_no_argument_is_suggested_as_an_option(capsys: Any, name: str) -> None:
    """An argument's name with dashes gets no suggestion but options of the verb."""
    command = cli.app.get_command(click.Context(cli.app), name)
    assert command is not None
    for each in command.params:
        if isinstance(each, click.Argument):
            assert cli.main([name, f"--{each.name}x"]) == ExitCode.USAGE
            suggested = capsys.readouterr().err.partition("Did you mean ")[2]
            assert suggested.startswith(("--", "")[not suggested])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], *([name, "--help"] for name in cli.VERBS)])
def test_every_verb_has_help(capsys: Any, arguments: list[str]) -> None:
    """Help is an answer, not an error: exit code 0, on stdout."""
    assert cli.main(arguments) == ExitCode.PASS
    captured = capsys.readouterr()
    assert "loadtest" in captured.out
    assert captured.err == ""


def test_help_lists_every_verb_and_exit_code(capsys: Any) -> None:
    """Whoever schedules it finds there what a code means."""
    cli.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(f" {name} " in said for name in cli.VERBS)
    assert all(f" {code.value} " in said for code in ExitCode)


@pytest.mark.parametrize("arguments", [["--help"], ["scenarios"]])
def test_a_reader_that_went_away_gets_no_verdict(arguments: list[str]) -> None:
    """`loadtest … | head`: neither 0 nor 1, no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.cli", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, b"")


@pytest.mark.parametrize("folder", [".", "nothing"])
def test_a_folder_without_scenarios_is_an_error(tmp_path: Path, capsys: Any, folder: str) -> None:
    """Empty, or not there."""
    assert cli.main(["scenarios", "--folder", str(tmp_path / folder)]) == ExitCode.USAGE
    assert "there is no scenario in" in capsys.readouterr().err
