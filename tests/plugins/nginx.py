"""A real nginx with a test's own configuration. Without nginx, tests are skipped, but never in CI."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugins.processes import until

PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
"""Debian installs nginx in a folder that only root's PATH contains."""
HEAD = """daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log notice;
events {{ worker_connections 1024; }}
"""


def installed(tool: str) -> bool:
    """Whether a tool is installed."""
    return shutil.which(tool, path=PATH) is not None


def need(*tools: str) -> None:
    """Skip the test unless all tools are installed."""
    missing = [tool for tool in tools if not installed(tool)]
    if missing:
        assert not os.environ.get("CI"), f"CI has to have {missing}"
        pytest.skip(f"{' and '.join(missing)} not installed (Debian: nginx-light, openssl)")


@contextlib.contextmanager
def running(folder: Path, http: str, port: int) -> Iterator[None]:
    """Run nginx during the context.

    Args:
        folder: the folder for nginx's files.
        http: the last block of nginx's configuration.
        port: a port on which nginx listens.
    """
    need("nginx")
    # Only the test's user can read its files, but nginx would change to another user.
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(user + HEAD.format(folder=folder) + http)
    command = [str(shutil.which("nginx", path=PATH)), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: _listens(port) or process.poll() is not None)
            assert process.poll() is None
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
