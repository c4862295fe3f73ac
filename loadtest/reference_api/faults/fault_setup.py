"""The faults of one server: put together when it starts, set and removed while it runs.

The control endpoint is for tests, on a loopback port of its own. It has no authentication. Other machines can't reach
it, and a web page can't either: it refuses a ``Host`` that isn't loopback's, under which a page could have its own name
point here, and any foreign ``Origin``.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from loadtest.errors import InputError
from loadtest.faults import AnyFault, from_values, parse, to_text, to_words
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.faults.active_faults import ActiveFault, ActiveFaults, Freezer
from loadtest.reference_api.faults.faulty_api import FaultyApi
from loadtest.reference_api.faults.work_faults import WorkFaults
from loadtest.reference_api.http.messages import (
    AnswerHeaders,
    AsgiScope,
    DisconnectedError,
    Message,
    Receive,
    Send,
    ServerReply,
    encode,
)
from loadtest.reference_api.http.protocol import SilentServer, uvicorn_config
from loadtest.reference_api.jobs import State
from loadtest.reference_settings import ServerConfig

_HOSTS: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_LARGEST: Final = 64 * 1024
_FAULTS: Final = "/faults"
_KNOWN: Final = "GET or POST or DELETE /faults, DELETE /faults/ID, GET /jobs, POST /epoch"


class FaultSetup:
    """The faults of a server that may misbehave, now or later."""

    def __init__(self, config: ServerConfig) -> None:
        self.active = ActiveFaults(config.fault_seed, len(config.keys))
        self.hooks = WorkFaults(self.active)
        """What executions and jobs ask."""
        self.counts: Callable[[], dict[State, int]] = dict
        """How many jobs there are in each state."""
        self._config = config

    def around(self, api: WorkflowApi, stopping: Callable[[], bool]) -> FaultyApi:
        self.hooks.attach({account: n for n, account in enumerate(api.accounts.by_key.values())}, api.jobs.wake)
        self.counts = lambda: api.jobs.counts
        return FaultyApi(api, self._config, self.active, self.hooks, Freezer(self.active, stopping))

    def begin(self) -> None:
        """Put the faults that the server was told in force: it is ready."""
        if self._config.fault:
            now = self.active.clock()
            self.active.add(self._config.fault, now if self._config.fault_clock == "ready" else None)


def make_fault_setup(config: ServerConfig) -> FaultSetup | None:
    """Make the fault setup of a server; None where it has no faults and can get none, and so shall pay for none."""
    return FaultSetup(config) if config.fault or config.control_port is not None else None


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reply = ServerReply(status, encode({"error": message, "remedy": remedy}))


class Control:
    """The control endpoint, as an ASGI application."""

    def __init__(self, setup: FaultSetup) -> None:
        self._setup = setup
        self._headers = AnswerHeaders()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            _check_sender(scope)
            reply = self._answer(scope["method"], scope["path"], await _body(receive))
        except _RefusedError as refused:
            reply = refused.reply
        except DisconnectedError:
            return  # and half of what was to be done is not
        await send({"type": "http.response.start", "status": reply.status, "headers": self._headers.build(reply)})
        await send({"type": "http.response.body", "body": reply.body})

    def _answer(self, method: str, path: str, body: bytes) -> ServerReply:
        active = self._setup.active
        if path == _FAULTS and method == "GET":
            return ServerReply(200, encode([_shown(each, active.clock()) for each in active]))
        if path == _FAULTS and method == "POST":
            return self._add(body)
        if path == _FAULTS and method == "DELETE":
            return ServerReply(200, encode({"removed": active.remove()}))
        if path.startswith(_FAULTS + "/") and method == "DELETE":
            number = path[len(_FAULTS) + 1 :]
            if not (number.isascii() and number.isdecimal() and len(number) < 10 and active.remove(int(number))):
                raise _RefusedError(404, f"there is no fault {number}", "GET /faults lists them.")
            return ServerReply(200, encode({"removed": 1}))
        if path == "/jobs" and method == "GET":
            return ServerReply(200, encode(self._setup.counts()))
        if path == "/epoch" and method == "POST":
            return self._begin(body)
        raise _RefusedError(404, f"there is no {method} {path}", f"There is {_KNOWN}.")

    def _add(self, body: bytes) -> ServerReply:
        active = self._setup.active
        try:
            added = active.add(_faults(body), active.clock())
        except InputError as error:
            raise _RefusedError(400, error.message, error.remedy) from None
        return ServerReply(201, encode([_shown(each, active.clock()) for each in added]))

    def _begin(self, body: bytes) -> ServerReply:
        """Let every fault's start count from the time that the body says, in s since 1970."""
        try:
            unix_s = msgspec.json.decode(body, type=_Epoch).unix_s
        except msgspec.MsgspecError:
            raise _RefusedError(400, "the body is no epoch", 'Send {"unix_s": 1700000000.0}.') from None
        active = self._setup.active
        active.restart(active.clock() + unix_s - time.time())
        return ServerReply(200, encode({"faults": len(active)}))


class _Epoch(msgspec.Struct):
    unix_s: float


def _faults(body: bytes) -> list[AnyFault]:
    """Faults as JSON, one or a list of them, or as text, one a line."""
    if body.lstrip()[:1] not in {b"{", b"["}:
        lines = body.decode(errors="replace").splitlines()
        return [parse(line) for line in lines if line.strip()] or [parse("")]
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}", 'Send {"kind": "latency", "ms": 200}.') from None
    values = decoded if isinstance(decoded, list) else [decoded]
    if not all(isinstance(each, dict) for each in values):
        raise InputError("a fault is an object", 'Send {"kind": "latency", "ms": 200}.')
    return [from_values(each) for each in values]


def _shown(fault: ActiveFault, now: float) -> dict[str, Any]:
    return {
        "id": fault.number,
        "fault": to_text(fault.fault),
        "words": to_words(fault.fault),
        "active": fault.in_force(now),
        "hits": fault.hits,
    }


def _check_sender(scope: AsgiScope) -> None:
    headers = dict(scope["headers"])
    host: bytes = headers.get(b"host", b"")
    if host.rpartition(b":")[0] not in _HOSTS and host not in _HOSTS:
        raise _RefusedError(403, "this is for the loopback's own names only", "Ask 127.0.0.1.")
    if (origin := headers.get(b"origin")) is not None and origin != b"http://" + host:
        raise _RefusedError(403, "this is not for web pages of others", "Send no Origin.")


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _LARGEST:
            raise _RefusedError(413, "the body is too large")
    return body


@contextlib.asynccontextmanager
async def controlled(setup: FaultSetup | None, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve the control endpoint while the context lasts; nothing without a listener."""
    if setup is None or listener is None:
        yield
        return
    server = SilentServer(uvicorn_config(Control(setup), timeout_graceful_shutdown=1))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
