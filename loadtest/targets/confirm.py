"""A production target is loaded only when its host name was typed, or somebody said yes beforehand."""

import sys

from loadtest.errors import InputError
from loadtest.targets.choose import Chosen


def confirm(chosen: Chosen, *, yes: bool) -> None:
    """Ask at the terminal, if the target is production and ``yes`` was not said.

    Raises:
        InputError: if another name was typed, or there is nobody to ask.
    """
    entry = chosen.entry
    if entry is None or entry.environment != "production" or yes:
        return
    remedy = "Run it at a terminal and type the host name, or pass --yes (plain locust: LOADTEST_YES=1)."
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            f"{chosen.key('environment')} is production, and there is no terminal at which to confirm {entry.host!r}",
            remedy,
        )
    sys.stderr.write(f"{chosen.name} is production. Type its host name to load it: ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if typed.lower() != entry.host:
        raise InputError(f"{typed!r} is not {entry.host!r}, so nothing was sent", remedy)
