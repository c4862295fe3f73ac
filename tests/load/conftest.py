"""Peers for the wire, and whole runs of the load in a process of its own."""

import contextlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plugins.processes import clean_environment
from plugins.records import RunDirectory

from loadtest.prepare import prepare_run
from loadtest.scenario import load_scenario

Script = Callable[["Talk"], None]


class Talk:
    """One accepted connection, as a script of a peer sees it."""

    def __init__(self, connection: socket.socket, peer: "Peer") -> None:
        self.connection = connection
        self.peer = peer

    def read(self) -> bytes:
        """One request, head and body; what there is when the client hangs up."""
        data = b""
        while True:
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if found and len(body) >= (int(length[1]) if length else 0):
                break
            if not (more := self.connection.recv(65536)):
                break
            data += more
        if data:
            self.peer.requests.append(data)
        return data

    def send(self, *parts: bytes) -> None:
        """Send bytes, each part in a packet of its own."""
        for part in parts:
            self.connection.sendall(part)
            if len(parts) > 1:
                time.sleep(0.005)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def wait(self) -> None:
        """Keep the connection open until the client hangs up or the test is over."""
        with contextlib.suppress(OSError):
            while self.connection.recv(65536):
                pass


class Peer:
    """A server that follows a script for each connection; the last script serves all further ones."""

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._scripts = scripts
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(script, connection), daemon=True).start()

    def _serve(self, script: Script, connection: socket.socket) -> None:
        # A client that hangs up early is what some tests are about.
        with contextlib.suppress(OSError), connection:
            script(Talk(connection, self))

    def close(self) -> None:
        """Hang up on everybody."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Make peers from scripts; they are closed at the end."""
    made: list[Peer] = []

    def make(*scripts: Script) -> Peer:
        made.append(Peer(*scripts))
        return made[-1]

    yield make
    for each in made:
        each.close()


@dataclass
class Run(RunDirectory):
    """A load under way, or over, in a process of its own."""

    process: subprocess.Popen[bytes]
    said: list[bytes] = field(default_factory=list)

    def wait(self, seconds: float = 60.0) -> "Run":
        """Wait for its end."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read().splitlines()
        self.process.wait(seconds)
        return self

    def stop(self, rate: int) -> Counter[str]:
        """End a run on workers that has one even entry, when it has shown enough; gives the outcomes.

        Up to then every arrival was sent or is lost; the last ones of a second each worker ended by itself.

        Args:
            rate: of the entry, per second.
        """
        self.process.send_signal(signal.SIGINT)
        self.wait()
        outcomes = self.check_conservation(lost=True, ragged=True)
        whole = int((self.info.elapsed_s or 0) * rate) - rate
        assert sorted(row["arrival"] for row in self.operations)[:whole] == list(range(whole))
        return outcomes

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.directory / "load.log").read_text()

    def check_conservation(self, *, lost: bool = False, ragged: bool = False) -> Counter[str]:
        """As of any run; and nobody raised."""
        assert "Traceback" not in self.log
        return super().check_conservation(lost=lost, ragged=ragged)


class Offering:
    """Starts the load of a scenario's text against a URL, and writes such texts."""

    def __init__(self, folder: Path) -> None:
        self.runs: list[Run] = []
        self.folder = folder

    @staticmethod
    def entry(name: str, operation: str, rate: str, duration: str, more: str = "") -> str:
        """A traffic entry with one stage."""
        workflow = "" if "workflow" in more else 'workflow = "echo"\n'
        return (
            f'[traffic.{name}]\noperation = "{operation}"\n{workflow}{more}\n'
            f'stages = [{{ name = "only", rate = "{rate}", duration = "{duration}" }}]\n'
        )

    @staticmethod
    def scenario(*entries: str, drain: str = "5s") -> str:
        """A scenario of such entries."""
        return f'title = "t"\nseed = 1\ndrain = "{drain}"\n' + "".join(entries)

    @staticmethod
    def sleep(ms: int) -> str:
        """Lines that let an entry's workflow take a time."""
        return f'workflow = "sleep"\nparameters = {{ ms = {ms} }}\n'

    def __call__(
        self, text: str, url: str, *arguments: str, keys: str = "local-dev-key", stdout: int = subprocess.PIPE
    ) -> Run:
        """Start the load in a process of its own, with arguments of its own; keys are separated by commas."""
        path = self.folder / f"scenario{len(self.runs)}.toml"
        path.write_text(text, encoding="utf-8")
        directory, _ = prepare_run(
            load_scenario(path),
            url=url,
            embedded=False,
            keys=keys.count(",") + 1,
            command=["loadtest", "run"],
            output_dir=self.folder / "reports",
        )
        with (directory / "load.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.load", str(directory), str(self.folder), *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=log,
                env=clean_environment(WORKFLOW_API_KEYS=keys),
            )
        self.runs.append(Run(directory, process))
        return self.runs[-1]


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offering]:
    """Start loads; what still runs at the end is killed."""
    offering = Offering(tmp_path)
    yield offering
    for run in offering.runs:
        run.process.kill()
        run.process.wait()
        for stream in (run.process.stdin, run.process.stdout):
            if stream is not None:
                stream.close()
