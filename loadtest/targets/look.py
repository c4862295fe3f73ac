"""Looks at a target before it is loaded: whether something listens there, and what a preflight sees."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from loadtest.errors import LoadtestError, TargetError
from loadtest.record.run_info import Preflight
from loadtest.targets import refused
from loadtest.targets.choose import ChosenTarget
from loadtest.targets.connection import Target

_CONNECT_TIMEOUT: Final = 5.0


def look(
    chosen: ChosenTarget, scenario: Mapping[str, Any], environment: Mapping[str, str], *, preflight: bool
) -> Preflight:
    """Look whether a target can be loaded.

    Returns:
        What a preflight saw; nothing without one.

    Raises:
        TargetError: if nothing listens there, or a check of the preflight failed.
    """
    check_reachable(chosen.target)
    if not preflight:
        return Preflight()
    seen = make_preflight(chosen, scenario, environment)
    if (failure := seen.failure) is not None:
        raise TargetError(f"preflight of {chosen.target.url}, {failure.name}: {failure.words}", failure.remedy)
    return seen


def check_reachable(target: Target) -> None:
    """Check that something listens at a target.

    Raises:
        TargetError: if not.
    """
    try:
        socket.create_connection((target.address, target.port), timeout=_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        raise refused(target) from None
    except OSError as error:
        raise TargetError(
            f"nothing answers at {target.url}: {error.strerror or error}", "Check its URL, or leave out --host."
        ) from None


def make_preflight(chosen: ChosenTarget, scenario: Mapping[str, Any], environment: Mapping[str, str]) -> Preflight:
    """Make a preflight in a process of its own: nothing else here needs an HTTP client.

    Raises:
        LoadtestError: if it failed, which is our bug.
    """
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.preflight"],
        input=msgspec.json.encode(chosen.preflight_order(scenario)),
        env=dict(environment),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise LoadtestError(f"the preflight failed: {done.stderr.decode(errors='replace').strip()}")
    return msgspec.json.decode(done.stdout, type=Preflight)
