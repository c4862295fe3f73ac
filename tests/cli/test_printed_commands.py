"""Every command that is printed can be pasted: its verb, arguments and options are there."""

import ast
import contextlib
import functools
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from plugins import made_comparisons as made
from plugins import record_maker as maker
from plugins import warm
from plugins.history_parts import BASE_MS, made_line
from plugins.processes import Fixture, clean_environment

from loadtest.cli import app
from loadtest.compare import history_file
from loadtest.errors import ExitCode
from loadtest.program import DEFAULT_PORT, command_line
from loadtest.report import regression as page

PACKAGE = Path(__file__).parents[2] / "loadtest"
MENTION = re.compile(r"(?<!`)`loadtest ([^`]+)`(?!`)")
VARIED = {"compare"}
"""Verbs whose options are made from names; their commands have tests of their own."""


@functools.cache
def nodes() -> dict[Path, list[ast.AST]]:
    """Every node of the code of each file."""
    return {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in PACKAGE.rglob("*.py")}


def parsed(words: list[str]) -> click.Context:
    """Find the verb of a command, and parse the rest as a shell would pass it."""
    command, context = app, click.Context(app)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name)
    command.parse_args(context, words)
    return context


def literals() -> Iterator[tuple[str, str]]:
    """Commands inside texts, except those of docstrings, which only name a verb."""
    for path, inside in nodes().items():
        docs = {
            id(node.body[0].value)
            for node in inside
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in inside:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield from ((path.name, words) for words in MENTION.findall(node.value))


def test_no_text_builds_a_command_by_itself() -> None:
    """A command with a value comes from ``command_line``, which quotes it; a fixed command is complete."""
    for path, inside in nodes().items():
        for node in inside:
            if isinstance(node, ast.JoinedStr):
                fixed = "".join(each.value if isinstance(each, ast.Constant) else "\0" for each in node.values)
                assert not re.search("`loadtest [^`]*\0", fixed), (path.name, fixed)
    found = dict.fromkeys(literals())
    assert len(found) > 5
    for where, words in found:
        assert not re.search(r"[A-Z]{3}", words), (where, words)


def test_every_made_command_has_its_verb_and_options() -> None:
    """The options of each call of ``command_line`` are options of that verb."""
    calls = [
        node
        for inside in nodes().values()
        for node in inside
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"command_line", "mention"} and node.args
    ]
    assert len(calls) > 15
    for call in calls:
        verbs = [each.value for each in call.args if isinstance(each, ast.Constant)]
        if not verbs or verbs[0] in VARIED:
            continue
        command: click.Command = app
        if not all(isinstance(each, ast.Constant) for each in call.args[:2]) and verbs == ["regression"]:
            continue  # accept or reject
        while isinstance(command, click.Group) and verbs:
            found = command.get_command(click.Context(command), verbs.pop(0))
            assert found is not None, ast.unparse(call)
            command = found
        known = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
        asked = {f"--{each.arg.replace('_', '-')}" for each in call.keywords if each.arg}
        assert asked <= known, ast.unparse(call)


@pytest.mark.parametrize("name", sorted(made.CASES))
def test_the_next_steps_of_a_comparison_can_be_pasted(name: str, tmp_path: Path) -> None:
    """Each parses; a directory with a space stays one argument."""
    directory = tmp_path / "my runs"
    steps = page.build(made.CASES[name](), directory).steps
    for step in steps:
        if step.command:
            verb, *words = shlex.split(step.command)
            assert verb == "loadtest"
            parsed(words)


TINY = """
title = "Tiny"
drain = "1s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "0.3s" }]
[target]
enforce = { sync_run = "1000/1s" }
"""
JOBS = """
title = "Jobs"
[target]
enforce = { async_submit = "20/2s", retrieval = "20/2s" }
[traffic.jobs]
operation = "async_run"
workflow = "sleep"
parameters = { ms = 200 }
polling = { interval = "100ms", give_up = "5s" }
stages = [{ name = "steady", rate = "5/s", duration = "1s" }]
"""
RUN = "20250720T082640Z-tour-0a1b2c"
REASON = ("--reason", "a new parser")


@pytest.fixture
def folder(tmp_path: Path, loadtest: Fixture) -> Path:
    """A folder with three scenarios, a run without its report, and a history with a step and a run that waits."""
    for name in ("quick", "smoke", "regression"):
        (tmp_path / "scenarios").mkdir(exist_ok=True)
        (tmp_path / "scenarios" / f"{name}.toml").write_text(TINY)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 3, 0.5)], offered=1)
    rows = [maker.request("t", 0, 0, 5), maker.operation("t", 0, 0, 5)]
    maker.save(tmp_path / "reports" / RUN, maker.info({"t": entry}, id=RUN), rows)
    lines = [made_line(day, sd=0.01, factors=dict.fromkeys(BASE_MS, 1.3 if day > 4 else 1.0)) for day in range(10)]
    waiting = made_line(10, "inconclusive", factors={"jobs": 2.0})
    history_file.append(tmp_path / "reports" / "my baselines" / "regression.jsonl", *lines, waiting)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("slow", RUN), "report /"),
        (("advise", "jobs.toml", "--jobs", "10"), "run reports/"),
        (("regression", "accept", RUN, *REASON), "report /"),
        (("report", f"reports/{RUN}"), f"report reports/{RUN} --full"),
        (("slow", "nothing"), "run quick"),
        (("runs", "--output-dir", "my runs"), "run smoke --output-dir 'my runs'"),
        (("validate", "scenarios/hasty.toml"), "plan scenarios/hasty.toml"),
        (("regression", "history", "--history", "no runs"), "regression check regression --history 'no runs'"),
        (("regression", "accept", "nothing", *REASON), "regression history --history 'reports/my baselines'"),
        (("regression", "history"), f"regression accept {made_line(10).run.run} --reason '…' --history"),
        (("regression", "audit"), f"regression accept {made_line(5).run.run} --new-segment --reason"),
        (
            ("regression", "accept", made_line(10).run.run, *REASON),
            f"regression reject {made_line(10).run.run} --reason",
        ),
        (("regression", "accept", made_line(3).run.run, *REASON), f"regression accept {made_line(3).run.run} --reason"),
    ],
)
def test_a_printed_command_runs_as_it_stands(
    words: tuple[str, ...], printed: str, folder: Path, loadtest: Fixture
) -> None:
    """The placeholder of a reason alone must be edited; a load on a busy machine may be invalid, or slow."""
    (folder / "jobs.toml").write_text(JOBS)
    (folder / "scenarios" / "hasty.toml").write_text(
        TINY.replace("1000/1s", "1/1s") + '[[threshold]]\nrequire = "requests.throttled == 0"\n'
    )
    given = () if words[0] != "regression" or "--history" in words else ("--history", "reports/my baselines")
    said = loadtest(*words, *given)
    (command, *_) = (
        found for found in re.findall(r"loadtest ([a-z][^`\n]*)", said.out + said.err) if found.startswith(printed)
    )
    done = loadtest(*shlex.split(command.rstrip(".").replace("…", "a new parser")))
    allowed = (
        {ExitCode.PASS, ExitCode.FAIL, ExitCode.INVALID}
        if "run" in command.split() or "check" in command
        else {ExitCode.PASS}
    )
    assert done.code in allowed, done.out + done.err


def test_the_server_that_is_missing_starts_as_printed(loadtest: Fixture) -> None:
    """A refused default port names the command that serves the reference API there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", DEFAULT_PORT), timeout=1):
        pytest.skip(f"port {DEFAULT_PORT} is in use")
    said = loadtest("run", "quick", "--host", f"http://127.0.0.1:{DEFAULT_PORT}")
    (command,) = re.findall(r"loadtest (serve[^`]*)`", said.err)
    words = [sys.executable, "-m", "loadtest.cli", *shlex.split(command)]
    with warm.start(words, env=clean_environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline().rstrip().endswith(f"http://127.0.0.1:{DEFAULT_PORT}")
        server.terminate()


def test_fixed_commands_have_their_verbs(loadtest: Fixture) -> None:
    """A text mentions them without values; each verb explains itself."""
    for words in {words for _, words in literals()}:
        said = loadtest(*[word for word in shlex.split(words) if word != "--help"], "--help")
        assert (said.code, "Usage: " in said.out) == (0, True), words


def test_a_regression_says_what_to_do_next(tmp_path: Path) -> None:
    """The entry and metric to look at, the environment, two builds, and how to accept."""
    check = command_line("regression", "check", "my.toml", target="mine", set=("a=1", "b=2 3"), history="h")
    steps = page.build(msgspec.structs.replace(made.CASES["slower"](), command=check), tmp_path).steps
    verbs = [" ".join(step.command.split()[1:3]) for step in steps]
    assert [each.split()[0] for each in verbs if each] == ["slow", "compare", "regression"]
    assert "greetings: " in steps[0].words
    assert "test environment" in steps[1].words
    words = shlex.split(steps[2].command)
    assert (words[2], words[6], words[7:]) == ("my.toml", "mine", ["--set", "a=1", "--set", "b=2 3"])


def test_a_command_keeps_what_was_given() -> None:
    """Values are quoted, tuples repeat, flags stand alone, and what was not given is left out."""
    made_line = command_line("run", "my file", set=("a=1", "b=2 3"), seed=None, no_preflight=True, host="")
    assert shlex.split(made_line) == ["loadtest", "run", "my file", "--set", "a=1", "--set", "b=2 3", "--no-preflight"]
