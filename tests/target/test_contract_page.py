"""``docs/contract.md`` names every option that an assumption can be changed by, and none that there isn't."""

import re
from pathlib import Path

import click

from loadtest.contract import ERROR_CODES
from loadtest.scenario.target_settings import TargetSettings
from loadtest.target.options import server_options

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
NO_ASSUMPTIONS = {
    "--host",
    "--port",
    "--exit-with-parent",
    "--fault",
    "--fault-seed",
    "--fault-clock",
    "--control-port",
}
"""What is about the process, or makes it misbehave on demand."""
KEYS_OF_NONE = {"keys", "fault"}
"""Keys of ``[target]`` that no option of the server's has: how many API keys there are, and how it misbehaves."""


def rows() -> list[tuple[str, str, str, str, str]]:
    """Every line of the tables but their heads: question, documentation, assumption, option, key."""
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and not cells[0].startswith(("The question", "---")):
            assert len(cells) == 5, line
            found.append(tuple(cells))
    return found


def options() -> dict[str, click.Option]:
    """The server's options by name."""
    command = click.command("serve")(server_options(lambda: None))
    return {option.opts[0]: option for option in command.params if isinstance(option, click.Option)}


def test_every_option_is_on_the_page_and_every_option_on_the_page_exists() -> None:
    """An option that changes an assumption stands beside it."""
    named = {option for row in rows() for option in re.findall(r"--[a-z-]+", row[3])}
    assert named == options().keys() - NO_ASSUMPTIONS


def test_every_key_is_on_the_page_and_every_key_on_the_page_exists() -> None:
    """A scenario can change what a server's option can, and says so."""
    named = {key for row in rows() for key in re.findall(r"`(\w+)`", row[4])}
    assert named == TargetSettings.model_fields.keys() - KEYS_OF_NONE


def test_defaults_on_the_page_are_the_defaults() -> None:
    """Numbers that a row gives are those that the server takes when it isn't told."""
    said = {
        "--workers": "64,",
        "--threads": "64,",
        "--queue": "10,000",
        "--retention": "600 s",
        "--run-timeout": "60 s",
        "--max-body": "64 KiB",
        "--algorithm": "fixed window",
    }
    defaults = {name: option.default for name, option in options().items()}
    assert {name: defaults[name] for name in said} == {
        "--workers": 64,
        "--threads": 64,
        "--queue": 10_000,
        "--retention": 600.0,
        "--run-timeout": 60.0,
        "--max-body": 64 * 1024,
        "--algorithm": "fixed-window",
    }
    for name, words in said.items():
        (row,) = [row for row in rows() if name in row[3].split(",")[0]]
        assert words in row[2], row


def test_codes_on_the_page_exist() -> None:
    """An error that is named is one that the server has."""
    codes = set(re.findall(r"--answer ([a-z_]+)=", PAGE)) | set(re.findall(r"\b[45]\d\d `([a-z_]+)`", PAGE))
    assert codes
    assert codes <= set(ERROR_CODES)
