"""The name by which the user can call this program. Commands in its output use this name, so they can be pasted."""

import functools
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from loadtest.errors import InputError
from loadtest.words import joined, nearest

_NAME: Final = "loadtest"
DEFAULT_PORT: Final = 8000
"""The reference API's default port."""


@functools.cache
def program(*, elsewhere: bool = False) -> str:
    """Return ``loadtest`` if the shell finds this installation under that name, or else the path of its script.

    Without a script, return ``PYTHON -m loadtest.cli``. With ``elsewhere``, the path is absolute, so that the command
    works in another folder.
    """
    script = Path(sys.executable).parent / _NAME
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m loadtest.cli"
    found = shutil.which(_NAME)
    if found is not None and script.samefile(found):
        return _NAME
    here = Path.cwd()
    below = script.is_relative_to(here) and not elsewhere
    return shlex.quote(str(script.relative_to(here) if below else script))


def pasteable(text: str) -> str:
    """Make every command that a text mentions (`` `loadtest runs` ``) ready to be pasted."""
    return text.replace(f"`{_NAME} ", f"`{program()} ")


def complain(message: object) -> None:
    """Print a message to standard error, with its commands ready to be pasted."""
    try:
        sys.stdout.flush()  # so that a log shows both outputs in their order
    except OSError:  # the reader has gone or the disk is full, and Python would raise again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(pasteable(f"loadtest: {message}"), file=sys.stderr, flush=True)


def option_words(**options: object) -> list[str]:
    """Return options as the words of a command. Options with the value None, False, ``""`` or ``()`` are left out.

    A tuple repeats its option, and True makes a flag.
    """
    parts = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            parts.append(flag)
        elif value is not None and value is not False and value not in ("", ()):
            for each in value if isinstance(value, tuple) else (value,):
                parts += [flag, str(each)]
    return parts


def command_line(*words: object, **options: object) -> str:
    """Return a command that begins with ``loadtest``, quoted for a shell. ``option_words`` explains the options."""
    return shlex.join([_NAME, *map(str, words), *option_words(**options)])


def mention(*words: object, **options: object) -> str:
    """Return the text of ``command_line`` in backticks, for a sentence."""
    return f"`{command_line(*words, **options)}`"


def typed(command: str) -> str:
    """Return a command that begins with ``loadtest``, ready to be pasted."""
    return program() + command.removeprefix(_NAME)


def open_command(page: Path) -> str:
    """Return the command that opens a page in the user's browser."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if shutil.which(opener) is None:
        return f"{shlex.quote(sys.executable)} -m webbrowser {page.absolute().as_uri()}"
    return f"{opener} {shlex.quote(str(page))}"


def serve_command() -> str:
    """Return the command that starts a reference API at its default port."""
    in_checkout = not Path(program()).is_absolute() and Path("Makefile").is_file() and Path("scenarios").is_dir()
    return "make serve" if in_checkout and program() != _NAME else f"{program()} serve"


_LOAD: Final = ("--rate-multiplier", "--set traffic.NAME.stages.STAGE.rate=…")
_MEANT: Final = {
    **dict.fromkeys(("-u", "--users", "-r", "--spawn-rate"), _LOAD),
    **dict.fromkeys(("--run-time", "--time"), ("--duration",)),
    "--web-port": ("--port",),
    "--port": ("--web-port",),
    "--limit": ("--documented",),
    "--documented": ("--limit",),
}
"""Suggestions for options of Locust, or of another verb of ``loadtest``."""


def unknown_option(word: str, known: Iterable[str], command: str, given: Iterable[str] = ()) -> InputError:
    """Return the error for an option that a command does not have. The remedy suggests options.

    The error also names other unknown options in ``given`` if their suggestion is the same.
    """
    bare = {each.lstrip("-"): each for each in known}
    also = [each for each in (option.partition("=")[0] for option in given) if word in _MEANT and each in _MEANT]
    words = dict.fromkeys([word, *(each for each in also if _MEANT[each] == _MEANT[word])])
    meant = [each for each in _MEANT.get(word, ()) if each.partition(" ")[0].lstrip("-") in bare]
    near = None if word in _MEANT else nearest(word.lstrip("-"), bare)
    meant = meant or ([bare[near]] if near else [])
    remedy = f"Did you mean {joined(meant, 'or')}?" if meant else f"See `{command} --help`."
    return InputError(f"{command} has no option {joined(list(words), 'or')}", remedy)
