"""The reference API in processes of its own, to which tests connect over sockets.

A server ends with the test that started it, or with the fixture that started it.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
import pytest
from plugins import warm
from plugins.processes import clean_environment

KEYS = ("alpha", "beta")
NO_LIMITS = [part for name in ("sync_run", "async_submit", "retrieval") for part in ("--limit", f"{name}=1000000000/s")]


@dataclass
class Served:
    """A running server and its clients."""

    process: subprocess.Popen[str]
    url: str
    errors: IO[str]
    strict: bool
    clients: list[httpx.Client] = field(default_factory=list)
    told: bool = False
    """Whether the server was told to end. A second SIGTERM would end it in another way."""

    def client(self, key: str | None = KEYS[0], endpoint: str | None = "tests") -> httpx.Client:
        """Return a keep-alive client that sends these headers."""
        headers = {name: value for name, value in (("x-api-key", key), ("x-wf-endpoint", endpoint)) if value}
        client = httpx.Client(base_url=self.url, headers=headers, verify=False, trust_env=False, timeout=30)
        self.clients.append(client)
        return client

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        self.told = self.told or number in {SIGINT, SIGTERM}
        self.process.send_signal(number)

    def stop(self, number: int = SIGTERM) -> tuple[int, str, str]:
        """Signal the server once, and wait for its end. Return its exit code, further output and errors."""
        if self.process.poll() is None and not self.told:
            self.signal(number)
        code = self.process.wait(timeout=20)
        rest = self.process.stdout.read()
        self.errors.seek(0)
        return code, rest, self.errors.read()

    def end(self) -> str:
        """End the server in any case. If it is ``strict``, return what was wrong with its end."""
        for client in self.clients:
            client.close()
        try:
            code, _, errors = self.stop() if self.strict else (0, "", "")
        except subprocess.TimeoutExpired:
            code, errors = -1, "it did not stop"
        self.process.kill()
        self.process.wait()
        self.errors.close()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return errors or f"exit code {code}" if code or "Traceback" in errors else ""


_being_made: list[pytest.FixtureDef[Any]] = []
"""The fixtures that are being set up. The innermost is last."""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
    """Remember which fixture starts a server. A test may request a fixture of any scope while it runs."""
    _being_made.append(fixturedef)
    try:
        return (yield)
    finally:
        _being_made.pop()


class Servers:
    """Starts servers. A server ends with the fixture or the test that started it.

    Args:
        folder: makes a folder for the errors that a server prints.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.of_test: list[Served] = []
        self._folder = folder

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: Any = subprocess.DEVNULL,
        strict: bool = False,
        kind: type[Served] = Served,
    ) -> Served:
        """Start ``loadtest serve`` with more arguments and variables.

        Args:
            arguments: arguments besides the port.
            env: variables in addition to `clean_environment`.
            stdin: the argument of `subprocess.Popen`.
            strict: whether the server must end with exit code 0 and without a traceback.
            kind: the class of the returned object.
        """
        errors = (self._folder() / "stderr").open("w+")
        process = warm.start(
            [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=clean_environment(**(env or {})),
        )
        line = process.stdout.readline()
        match = re.fullmatch(r"Workflow API \(reference\) on (http://127\.0\.0\.1:\d+)\n", line)
        served = kind(process, match[1] if match else "", errors, strict)
        if match is None:
            served.strict = False
            served.end()
            raise AssertionError(f"first line {line!r}, exit {process.returncode}, see {errors.name}")
        if _being_made:
            _being_made[-1].addfinalizer(lambda: _end([served]))
        else:
            self.of_test.append(served)
        return served


def _end(servers: list[Served]) -> None:
    wrong = [said for served in servers if (said := served.end())]
    servers.clear()
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """A starter of servers."""
    return Servers(lambda: tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)  # set up before the test's other fixtures, so it ends after them
def _end_servers_of_a_test(servers: Servers) -> Iterator[None]:
    yield
    _end(servers.of_test)


@pytest.fixture(scope="session")
def launch(servers: Servers) -> Callable[..., Served]:
    """Start servers with two keys. Each must exit with 0 and print no traceback."""

    def start(*arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Served:
        variables = {"WORKFLOW_API_KEYS": ",".join(KEYS), **(env or {})}
        return servers.start(*arguments, env=variables, strict=True, **options)

    return start


@pytest.fixture(scope="session")
def serve(servers: Servers) -> Callable[..., Served]:
    """Start servers that may end in any way. Variables are passed by name."""

    def start(*arguments: str, **environment: str) -> Served:
        return servers.start(*arguments, env=environment)

    return start


@pytest.fixture(scope="session")
def open_api(servers: Servers) -> Served:
    """A server with very high limits. Many tests share it, so they must not harm it."""
    return servers.start(*NO_LIMITS)


@pytest.fixture(scope="session")
def api(servers: Servers) -> str:
    """The URL of a server with the documented limits."""
    return servers.start().url
