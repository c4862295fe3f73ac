"""Workers of this machine beside Locust's web UI, as ``loadtest run --processes`` has them beside its load."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.cli import _children as children


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass(slots=True)
class Workers:
    """Worker processes, and what makes Locust their master.

    Attributes:
        number: how many; 0 for one process that makes the load itself.
        base: what a relative path in the scenario starts from.
        environment: with the credentials.
        port: where the master waits for them, on loopback.
    """

    number: int
    base: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=_free_port)

    @property
    def arguments(self) -> list[str]:
        """For Locust."""
        if not self.number:
            return []
        return ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(self.port)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have them there; they wait for their master, and end with it, with us, or after the block."""
        processes = [self._start() for _ in range(self.number)]
        try:
            yield
        finally:
            for process in processes:
                children.stop(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        # A session of its own, so that Ctrl-C reaches only us; the end of its input tells it that we are gone.
        command = [sys.executable, "-m", "loadtest.load.workers", f"127.0.0.1:{self.port}", str(self.base)]
        return subprocess.Popen(
            [*command, "--with-parent"],
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
