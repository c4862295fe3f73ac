"""The reference API as it is used, every answer held against its own document."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from plugins.faulty_server import Faulty
from plugins.openapi_answers import problems
from plugins.served import KEYS, NO_LIMITS, Served

from loadtest.cli import main
from loadtest.errors import ExitCode
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.command import command, server_config

UNDOCUMENTED = {"--answer", "--fault", "--pending-execution-time"}
"""Options that make a server answer otherwise than its document says."""


class Documented(Served):
    """A server whose clients hold each answer against ``openapi.yaml``, unless it was told to answer otherwise."""

    def client(self, key: str | None = KEYS[0], endpoint: str | None = "tests") -> httpx.Client:
        """A keep-alive client that sends these headers."""
        client = super().client(key, endpoint)
        if not UNDOCUMENTED & set(self.process.args):
            client.event_hooks = {"response": [_documented]}
        return client


def _documented(response: httpx.Response) -> None:
    request = response.request
    wrong = problems(request.method, request.url.path, response.status_code, dict(response.headers), response.read())
    assert not wrong, f"openapi.yaml and the server disagree: {wrong}\n{response.text[:1000]}"


Launch = Callable[..., Served]


@pytest.fixture(scope="session")
def launch(launch: Launch) -> Launch:
    """Start servers with two keys; each must exit with 0 at its end, and must have printed no traceback."""
    return lambda *arguments, **options: launch(*arguments, kind=Documented, **options)


class InProcess(httpx.BaseTransport):
    """The API without a process and a socket of its own, for what neither has to do with."""

    def __init__(self, *options: str) -> None:
        parsed = command.make_context("serve", list(options)).params
        del parsed["exit_with_parent"]
        self.api = WorkflowApi(server_config(keys=KEYS, endpoint=None, **parsed))
        self._documented = not UNDOCUMENTED & set(options)
        self._runner = asyncio.Runner()
        self._transport = httpx.ASGITransport(self.api)

    def client(self, key: str = KEYS[0], endpoint: str | None = "tests") -> httpx.Client:
        """A client that sends these headers."""
        headers = {name: value for name, value in (("x-api-key", key), ("x-wf-endpoint", endpoint)) if value}
        client = httpx.Client(base_url="http://api", headers=headers, transport=self)
        if self._documented:
            client.event_hooks = {"response": [_documented]}
        return client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Have the API answer."""

        async def answer() -> httpx.Response:
            response = await self._transport.handle_async_request(request)
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        return self._runner.run(answer())

    def close(self) -> None:
        """Clients are closed by nobody: the API ends with ``end``."""

    def end(self) -> None:
        """Cancel what still executes."""
        self._runner.close()


@pytest.fixture
def in_process() -> Iterator[Callable[..., InProcess]]:
    """Make APIs of options of the server's, with two keys; they end with the test."""
    made: list[InProcess] = []

    def make(*options: str) -> InProcess:
        made.append(InProcess(*options))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give ``loadtest serve`` options that it must refuse; gives what it says."""

    def serve(*arguments: str, keys: str = "one") -> str:
        monkeypatch.setenv("WORKFLOW_API_KEYS", keys)
        assert main(["serve", "--port", "0", *arguments]) == ExitCode.USAGE
        output = capsys.readouterr()
        assert output.out == ""
        assert "Traceback" not in output.err
        return output.err

    return serve


@pytest.fixture(scope="session")
def server(launch: Launch) -> Served:
    """A server without limits that matter, for what doesn't need one of its own."""
    return launch(*NO_LIMITS)


@pytest.fixture(scope="session")
def one_faulty(launch: Launch) -> Iterator[Faulty]:
    """A server whose faults can be set; made once, since each test sets its own."""
    faulty = Faulty(launch("--control-port", "0", "--workers", "2", *NO_LIMITS))
    yield faulty
    faulty.set()
    faulty.close()


@pytest.fixture
def faulty(one_faulty: Faulty) -> Faulty:
    """The server without a fault, seen to work."""
    one_faulty.set()
    answer = one_faulty.run(n=1)
    assert answer.json()["result"] == {"n": 1}
    assert not [name for name in answer.headers if name.startswith("x-loadtest")]
    return one_faulty
