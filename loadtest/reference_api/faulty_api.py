"""The API with faults, and the control endpoint that adds and removes them at run time.

``FaultyApi`` is an ASGI application that wraps the reference API and may damage its responses.

The control endpoint is for tests and needs no authentication. Other machines cannot reach its loopback port. To keep
web pages out, it rejects a foreign ``Origin``, and any ``Host`` that is not a loopback name: a page could make another
name resolve to this machine.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from loadtest.contract import ErrorCode, LimitName
from loadtest.errors import InputError
from loadtest.faults import Fault, from_values, parse, to_text, to_words
from loadtest.faults.kinds import DuplicateResult, Error, Freeze, Garbage, Reset, Throttle, Truncate
from loadtest.reference_api.app import WorkflowApi, route
from loadtest.reference_api.execution import INTERNAL, Workflow, pause
from loadtest.reference_api.faults import HITS, ActiveFault, ActiveFaults, WorkFaults, without_time
from loadtest.reference_api.messages import (
    ApiError,
    AsgiScope,
    DisconnectedError,
    Receive,
    Send,
    ServerReply,
    encode,
    read_body,
    respond,
)
from loadtest.reference_api.protocol import TRANSPORT, SilentServer, head, uvicorn_config
from loadtest.reference_settings import ServerConfig

_KINDS: Final = b"x-loadtest-faults"
_HIT: Final = b"x-loadtest-fault-hit"
_CUT: Final = (Truncate, Reset, Garbage)
_SLICE: Final = 0.05
_SHOWN: Final = 0.02
"""A reset comes this many seconds after the first half of a response, so that the client can read this half."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_NO_HTTP: Final = b"\x16\x03\x01\x00\x02\xfe this is no answer to anybody \xff\r\n\r\n"
_HOSTS: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_LARGEST: Final = 64 * 1024
_KNOWN: Final = "GET or POST or DELETE /faults, DELETE /faults/ID, GET /jobs, POST /epoch"


class FaultyApi:
    """The reference API with faults. A stopping server does not freeze."""

    def __init__(self, config: ServerConfig, workflows: dict[str, Workflow]) -> None:
        self.active = ActiveFaults(config.fault_seed, len(config.keys))
        work = WorkFaults(self.active)
        self.api = api = WorkflowApi(config, workflows, work)
        self._config = config
        self._timer: asyncio.TimerHandle | None = None
        """Begins the next freeze of the whole server."""
        self._keys = {key.encode(): number for number, key in enumerate(config.keys)}
        self._ids: dict[int, str] = {}
        self.active.on_change = self._changed
        work.attach({account: n for n, account in enumerate(api.limits.accounts.values())}, api.jobs.wake)

    def begin(self) -> None:
        """Activate the faults of the config. The server calls this when it is ready."""
        if self._config.fault:
            zero = self.active.clock() if self._config.fault_clock == "ready" else None
            self.active.add(self._config.fault, zero)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if not len(self.active):
            await self.api(scope, receive, send)
            return
        hits: list[Fault] = []
        HITS.set(hits)
        caller = self._caller(scope)
        strikes = [] if caller is None else self.active.strikes(*caller, work=False)
        faults = [fault for fault, _ in strikes]
        hits.extend(faults)
        if (early := await self._before(strikes)) is not None:
            self.api.monitoring.answered(scope, early.status)
            await respond(send, self._marked(early, hits))
            return
        if any(isinstance(fault, Reset) and fault.when == "before" for fault in faults):
            await _reset(scope, receive)
            return
        if (reply := await self.api.reply(scope, receive)) is not None:
            if caller is not None:
                reply = reply._replace(body=self._altered(*caller, reply, hits))
            await self._send(self._marked(reply, hits), faults, scope, receive, send)

    def bad_request(self, error: ApiError) -> ServerReply:
        return self._marked(self.api.bad_request(error), [])

    def _caller(self, scope: AsgiScope) -> tuple[LimitName, int] | None:
        """Return a request's limit name and key index, or None if its key, path or method is not valid."""
        key = next((self._keys.get(value) for name, value in scope["headers"] if name == b"x-api-key"), None)
        if key is None:
            return None
        try:
            return route(scope, scope["path"]), key
        except ApiError:
            return None

    async def _before(self, strikes: Sequence[tuple[Fault, float]]) -> ServerReply | None:
        """Wait for the faults' delays and freezes. Return a response if the request is not to be executed."""
        try:
            if (seconds := sum(wait for _, wait in strikes)) > 0:
                await pause(seconds)
        except asyncio.CancelledError:
            return ApiError(ErrorCode.SHUTTING_DOWN, "The server is stopping").reply(self._config.answers)
        for fault, _ in strikes:
            if isinstance(fault, Freeze) and fault.ms is not None:
                self._freeze(self.active.clock() + fault.ms / 1000)
            elif isinstance(fault, Throttle):
                return ApiError(ErrorCode.RATE_LIMIT_EXCEEDED, "The rate limit is exceeded").reply(self._config.answers)
            elif isinstance(fault, Error):
                return ApiError(ErrorCode.INTERNAL, INTERNAL).reply({})._replace(status=fault.status)
        return None

    def _altered(self, name: LimitName, key: int, reply: ServerReply, hits: list[Fault]) -> bytes:
        """Apply faults to a response's body, and return it."""
        if name == LimitName.SYNC_RUN and reply.status == 200:
            return without_time(reply.body)
        if name == LimitName.ASYNC_SUBMIT and reply.status == 202:
            job_id: str = msgspec.json.decode(reply.body)["jobId"]
            before = self._ids.get(key)
            doubled = any(isinstance(fault, DuplicateResult) and fault.what == "id" for fault in hits)
            if doubled and before is not None:
                return reply.body.replace(job_id.encode(), before.encode())
            self._ids[key] = job_id
        return reply.body

    async def _send(
        self, reply: ServerReply, faults: Iterable[Fault], scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        cut = next((fault for fault in faults if isinstance(fault, _CUT)), None)
        length = len(reply.body)
        half = head(reply) + b"\r\n" + reply.body[: length // 2]
        if isinstance(cut, Truncate):
            await _close(scope, receive, half)
        elif isinstance(cut, Reset):
            await _reset(scope, receive, half)
        elif isinstance(cut, Garbage) and cut.what == "answer":
            await _close(scope, receive, _NO_HTTP)
        elif cut is not None:
            neither_json_nor_text = (b"\xfe\xff{garbage:" * (length // 11 + 1))[:length]
            await respond(send, reply._replace(body=neither_json_nor_text))
        else:
            await respond(send, reply)

    def _marked(self, reply: ServerReply, hits: Sequence[Fault]) -> ServerReply:
        """Add a header with the kinds of all faults, and another with the kinds that affected this response."""
        if not len(self.active):
            return reply
        hit = ",".join(dict.fromkeys(fault.kind for fault in hits)).encode()
        return reply._replace(headers=(*reply.headers, (_KINDS, self.active.header), *([(_HIT, hit)] if hit else [])))

    def _freeze(self, until: float) -> None:
        """Block the event loop until a time in monotonic seconds, or until the server stops.

        The kernel continues to accept connections, and threads continue their work.
        """
        # The freeze consists of short sleeps, so that a signal handler can run between them.
        while (left := until - time.monotonic()) > 0 and not self.api.monitoring.stopping:
            time.sleep(min(left, _SLICE))

    def _changed(self) -> None:
        self._ids.clear()
        self._plan_freeze()

    def _plan_freeze(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self.active.clock()
        due = [each for each in self.active if each.freezes and each.end > now and each.zero is not None]
        if due:
            wait = max(min(each.begin for each in due) - now, 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait, self._freeze_all)

    def _freeze_all(self) -> None:
        now = self.active.clock()
        for each in self.active:
            if each.freezes and each.in_force(now):
                each.hits += 1
                self._freeze(each.end)
        if not self.api.monitoring.stopping:
            self._plan_freeze()


async def _close(scope: AsgiScope, receive: Receive, data: bytes) -> None:
    """Send ``data``, close the connection, and wait for its end."""
    transport = scope["state"][TRANSPORT]
    transport.write(data)
    transport.close()
    await _gone(receive)


async def _reset(scope: AsgiScope, receive: Receive, data: bytes = b"") -> None:
    """Send ``data``, reset the connection (RST), and wait for its end."""
    transport = scope["state"][TRANSPORT]
    # The event loop's socket object cannot set options, so a second object is made for the same connection.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as ours:
        if data:
            # The bytes are sent directly, because the event loop would drop waiting bytes at a reset. The kernel takes
            # as many bytes as it has room for.
            with contextlib.suppress(OSError):
                ours.setblocking(False)
                ours.send(data)
            await asyncio.sleep(_SHOWN)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(status: int, error: str, remedy: str) -> ServerReply:
    return ServerReply(status, encode({"error": error, "remedy": remedy}))


class _Epoch(msgspec.Struct):
    unix_s: float


class Control:
    """The control endpoint, as an ASGI application."""

    def __init__(self, faulty: FaultyApi) -> None:
        self._jobs = faulty.api.jobs
        self._active = faulty.active

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            reply = _foreign(scope) or self._answer(
                scope["method"], scope["path"], await read_body(scope, receive, _LARGEST)
            )
        except InputError as error:
            reply = _refusal(400, error.message, error.remedy)
        except ApiError as error:
            reply = error.reply({})
        except DisconnectedError:
            return  # a partial body is discarded
        await respond(send, reply)

    def _answer(self, method: str, path: str, body: bytes) -> ServerReply:
        match method, path:
            case "GET", "/faults":
                return ServerReply(200, self._shown(self._active))
            case "POST", "/faults":
                return ServerReply(201, self._shown(self._active.add(_faults(body), self._active.clock())))
            case "DELETE", "/faults":
                return ServerReply(200, encode({"removed": self._active.remove()}))
            case "GET", "/jobs":
                return ServerReply(200, encode(self._jobs.counts))
            case "POST", "/epoch":
                return self._begin(body)
        if method != "DELETE" or not path.startswith("/faults/"):
            return _refusal(404, f"there is no {method} {path}", f"Valid requests: {_KNOWN}.")
        number = path.removeprefix("/faults/")
        if not (number.isascii() and number.isdecimal() and len(number) < 10 and self._active.remove(int(number))):
            return _refusal(404, f"there is no fault {number}", "GET /faults lists the faults.")
        return ServerReply(200, encode({"removed": 1}))

    def _begin(self, body: bytes) -> ServerReply:
        """Count every fault's ``start`` from the time in the body (seconds since 1970)."""
        try:
            unix_s = msgspec.json.decode(body, type=_Epoch).unix_s
        except msgspec.MsgspecError:
            raise InputError("the body is not an epoch", 'Send {"unix_s": 1700000000.0}.') from None
        self._active.restart(self._active.clock() + unix_s - time.time())
        return ServerReply(200, encode({"faults": len(self._active)}))

    def _shown(self, faults: Iterable[ActiveFault]) -> bytes:
        now = self._active.clock()
        return encode(
            [
                {
                    "id": each.number,
                    "fault": to_text(each.fault),
                    "words": to_words(each.fault),
                    "active": each.in_force(now),
                    "hits": each.hits,
                }
                for each in faults
            ]
        )


def _faults(body: bytes) -> list[Fault]:
    """Parse faults. A body is a JSON object, a JSON list of objects, or text with one fault on each line."""
    if body.lstrip()[:1] not in {b"{", b"["}:
        lines = body.decode(errors="replace").splitlines()
        return [parse(line) for line in lines if line.strip()] or [parse("")]
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}", 'Send {"kind": "latency", "ms": 200}.') from None
    values = decoded if isinstance(decoded, list) else [decoded]
    if not all(isinstance(each, dict) for each in values):
        raise InputError("a fault must be a JSON object", 'Send {"kind": "latency", "ms": 200}.')
    return [from_values(each) for each in values]


def _foreign(scope: AsgiScope) -> ServerReply | None:
    """Return a rejection if a web page may have caused the request, else None."""
    headers = dict(scope["headers"])
    host: bytes = headers.get(b"host", b"")
    if host.rpartition(b":")[0] not in _HOSTS and host not in _HOSTS:
        return _refusal(403, "only loopback names are allowed", "Use 127.0.0.1.")
    if (origin := headers.get(b"origin")) is not None and origin != b"http://" + host:
        return _refusal(403, "requests from other sites are rejected", "Send no Origin.")
    return None


@contextlib.asynccontextmanager
async def controlled(faulty: FaultyApi | None, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve the control endpoint during the context. Without a listener, do nothing."""
    if faulty is None or listener is None:
        yield
        return
    server = SilentServer(uvicorn_config(Control(faulty), timeout_graceful_shutdown=1))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
