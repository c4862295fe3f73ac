"""Every command that is printed can be pasted: its verb, arguments and options are there."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from plugins import made_comparisons as made

from loadtest.cli import app
from loadtest.program import command_line
from loadtest.report import comparison as page

PACKAGE = Path(__file__).parents[2] / "loadtest"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
MENTION = re.compile(r"(?<!`)`loadtest ([^`]+)`(?!`)")
VARIED = {"compare"}
"""Verbs whose options are made from names; their commands have tests of their own."""


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
    for path, tree in TREES.items():
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield from ((path.name, words) for words in MENTION.findall(node.value))


def test_no_text_builds_a_command_by_itself() -> None:
    """A command with a value comes from ``command_line``, which quotes it; a fixed command is complete."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
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
        for tree in TREES.values()
        for node in ast.walk(tree)
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


def test_a_regression_says_what_to_do_next(tmp_path: Path) -> None:
    """The entry and metric to look at, the environment, two builds, and how to accept."""
    steps = page.build(made.CASES["slower"](), tmp_path).steps
    verbs = [" ".join(step.command.split()[1:3]) for step in steps]
    assert [each.split()[0] for each in verbs if each] == ["slow", "compare", "regression"]
    assert "greetings: " in steps[0].words
    assert "test environment" in steps[1].words


def test_a_command_keeps_what_was_given() -> None:
    """Values are quoted, tuples repeat, flags stand alone, and what was not given is left out."""
    made_line = command_line("run", "my file", set=("a=1", "b=2 3"), seed=None, no_preflight=True, host="")
    assert shlex.split(made_line) == ["loadtest", "run", "my file", "--set", "a=1", "--set", "b=2 3", "--no-preflight"]
