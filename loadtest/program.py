"""How this program is called from where its output is read, so that each command that it prints can be pasted there."""

import functools
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

_NAME: Final = "loadtest"
_MENTION: Final = f"`{_NAME} "
"""How sentences mention commands."""
DEFAULT_PORT: Final = 8000
"""Where the reference API listens."""


@functools.cache
def program(*, elsewhere: bool = False) -> str:
    """``loadtest`` where that is found and is this one; else its path, from the current folder if it lies below it.

    Args:
        elsewhere: for another current folder.
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
    """The text with each command that it mentions (`` `loadtest runs` ``) as it can be pasted."""
    return text.replace(_MENTION, f"`{program()} ")


def complain(message: object) -> None:
    """Print a message of this program to standard error, with its commands as they can be pasted."""
    try:
        sys.stdout.flush()  # what was said before stands before it in a log
    except OSError:  # its reader went away, or its disk is full: Python would stumble over that at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(pasteable(f"loadtest: {message}"), file=sys.stderr, flush=True)


def typed(command: str) -> str:
    """A command that begins with ``loadtest``, as it can be pasted."""
    return program() + command.removeprefix(_NAME)


def open_command(page: Path) -> str:
    """The command that shows a page in the user's browser."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if shutil.which(opener) is None:
        return f"{shlex.quote(sys.executable)} -m webbrowser {page.absolute().as_uri()}"
    return f"{opener} {shlex.quote(str(page))}"


def serve_command(port: int) -> str:
    """The command that starts a reference API at a port of this machine."""
    if port != DEFAULT_PORT:
        return f"{program()} serve --port {port}"
    in_checkout = not Path(program()).is_absolute() and Path("Makefile").is_file() and Path("scenarios").is_dir()
    return "make serve" if in_checkout and program() != _NAME else f"{program()} serve"
