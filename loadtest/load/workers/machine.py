"""Which machine and which version a process is of."""

import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """The machine's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Which boot of which machine this is: processes with the same one read the same monotonic clock.

    Empty where the system does not say it.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def package_version() -> str:
    """The version of this package; ``unknown`` in a checkout that was never installed."""
    try:
        return version("workflow-loadtest")
    except PackageNotFoundError:
        return "unknown"
