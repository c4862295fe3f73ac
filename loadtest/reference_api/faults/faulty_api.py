"""The API as it misbehaves: an ASGI application around the real one, and answers that break on the wire."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from loadtest.contract import ErrorCode, LimitName
from loadtest.faults import AnyFault
from loadtest.faults.kinds import DuplicateResult, Error, Freeze, Garbage, Reset, Throttle, Truncate
from loadtest.reference_api.app import WorkflowApi, route
from loadtest.reference_api.faults.active_faults import ActiveFaults, Freezer, Strike, pause
from loadtest.reference_api.faults.work_faults import HITS, WorkFaults, without_time
from loadtest.reference_api.http.messages import (
    AnswerHeaders,
    ApiError,
    AsgiScope,
    Header,
    Message,
    Receive,
    Send,
    ServerReply,
)
from loadtest.reference_api.http.protocol import TRANSPORT
from loadtest.reference_api.workflows.execution import INTERNAL
from loadtest.reference_settings import ServerConfig

_KINDS: Final = b"x-loadtest-faults"
_HIT: Final = b"x-loadtest-fault-hit"
_CUT: Final = (Truncate, Reset, Garbage)
_SHOWN: Final = 0.02
"""Seconds between the first half of an answer and the reset in its middle, in which the client may read it."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_NO_HTTP: Final = b"\x16\x03\x01\x00\x02\xfe this is no answer to anybody \xff\r\n\r\n"


class _Caller(NamedTuple):
    name: LimitName
    key: int


class FaultyApi:
    """The reference API with faults."""

    def __init__(
        self, api: WorkflowApi, config: ServerConfig, active: ActiveFaults, work: WorkFaults, freezer: Freezer
    ) -> None:
        self._api = api
        self._active = active
        self._work = work
        self._freezer = freezer
        self._keys = {key.encode(): number for number, key in enumerate(config.keys)}
        self._recodes = config.answers
        self._headers = AnswerHeaders()
        self._ids: dict[int, str] = {}
        active.on_change.append(self._ids.clear)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if not len(self._active):
            await self._api(scope, receive, send)
            return
        hits: list[AnyFault] = []
        HITS.set(hits)
        caller = self._caller(scope)
        strikes = [] if caller is None else self._active.strikes(caller.name, caller.key, work=False)
        faults = [strike.fault for strike in strikes]
        hits.extend(faults)
        if (early := await self._before(strikes)) is not None:
            await self._reply(early, hits, scope, send)
            return
        if any(isinstance(fault, Reset) and fault.when == "before" for fault in faults):
            await _reset(scope, receive)
            return
        answer = _Answer()
        await self._api(scope, receive, answer.take)
        if answer.begun:
            if caller is not None:
                self._alter(caller, scope, answer, faults)
            await self._send(answer, faults, scope, receive, send)

    def bad_request(self, error: ApiError) -> tuple[int, list[Header], bytes]:
        status, headers, body = self._api.bad_request(error)
        return status, [*headers, *self._mark([])], body

    def _caller(self, scope: AsgiScope) -> _Caller | None:
        """Who asks what; None for what faults don't concern."""
        key = next((self._keys.get(value) for name, value in scope["headers"] if name == b"x-api-key"), None)
        if key is None:
            return None
        try:
            return _Caller(route(scope, scope["path"]), key)
        except ApiError:
            return None

    async def _before(self, strikes: Sequence[Strike]) -> ServerReply | None:
        """Let time pass; give the answer of a request that doesn't get to be executed."""
        try:
            if (seconds := sum(strike.wait for strike in strikes)) > 0:
                await pause(seconds)
        except asyncio.CancelledError:
            return ApiError(ErrorCode.SHUTTING_DOWN, "The server is stopping").reply(self._recodes)
        for fault, _ in strikes:
            if isinstance(fault, Freeze) and fault.ms is not None:
                self._freezer.freeze(self._active.clock() + fault.ms / 1000)
            elif isinstance(fault, Throttle):
                return ApiError(ErrorCode.RATE_LIMIT_EXCEEDED, "The rate limit is exceeded").reply(self._recodes)
            elif isinstance(fault, Error):
                return ApiError(ErrorCode.INTERNAL, INTERNAL).reply({})._replace(status=fault.status)
        return None

    def _alter(self, caller: _Caller, scope: AsgiScope, answer: "_Answer", faults: Iterable[AnyFault]) -> None:
        """Change what an answer says, and note what hit the job that it is about."""
        if caller.name == LimitName.ASYNC_SUBMIT and answer.status == 202:
            job_id: str = msgspec.json.decode(answer.body)["jobId"]
            hits = HITS.get()
            hits.extend(self._work.marks(job_id))
            if any(isinstance(fault, DuplicateResult) for fault in faults) and caller.key in self._ids:
                answer.replace(answer.body.replace(job_id.encode(), self._ids[caller.key].encode()))
            else:
                self._ids[caller.key] = job_id
        elif caller.name == LimitName.SYNC_RUN and answer.status == 200:
            answer.replace(without_time(answer.body))

    async def _send(
        self, answer: "_Answer", faults: Iterable[AnyFault], scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        headers = [*answer.headers, *self._mark(HITS.get())]
        cut = next((fault for fault in faults if isinstance(fault, _CUT)), None)
        head, body = _raw(answer.status, headers, answer.body)
        if isinstance(cut, Truncate):
            await _close(scope, receive, head + body[: len(body) // 2])
        elif isinstance(cut, Reset):
            _send_now(scope, head + body[: len(body) // 2])
            await asyncio.sleep(_SHOWN)
            await _reset(scope, receive)
        elif isinstance(cut, Garbage) and cut.what == "answer":
            await _close(scope, receive, _NO_HTTP)
        else:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": _no_json(len(body)) if cut else body})

    async def _reply(self, reply: ServerReply, hits: Sequence[AnyFault], scope: AsgiScope, send: Send) -> None:
        self._api.upkeep.answered(scope, reply.status)
        headers = [*self._headers.build(reply), *self._mark(hits)]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _mark(self, hits: Sequence[AnyFault]) -> list[Header]:
        """The headers that say what may be wrong with an answer, and what is."""
        if not len(self._active):
            return []
        hit = ",".join(dict.fromkeys(fault.kind for fault in hits))
        return [(_KINDS, self._active.header), *([(_HIT, hit.encode())] if hit else [])]


class _Answer:
    """An answer that is kept until it is known what becomes of it."""

    def __init__(self) -> None:
        self.begun = False
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")

    def replace(self, body: bytes) -> None:
        if body != self.body:
            self.body = body
            length = (b"content-length", b"%d" % len(body))
            self.headers = [length if name == b"content-length" else (name, value) for name, value in self.headers]


def _raw(status: int, headers: Sequence[Header], body: bytes) -> tuple[bytes, bytes]:
    """Head and body of an answer, as they go over the wire."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, phrase.encode(), lines), body


async def _close(scope: AsgiScope, receive: Receive, data: bytes) -> None:
    """Send ``data`` as it is, close the connection, and wait until it is gone."""
    transport = scope["state"][TRANSPORT]
    transport.write(data)
    transport.close()
    await _gone(receive)


async def _reset(scope: AsgiScope, receive: Receive) -> None:
    """Reset the connection (RST), and wait until it is gone."""
    transport = scope["state"][TRANSPORT]
    # The event loop's own view of the socket can't set options; this one is of the same connection.
    with _socket(transport) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
    await _gone(receive)


def _no_json(length: int) -> bytes:
    """So many bytes that are neither JSON nor text."""
    return (b"\xfe\xff{garbage:" * (length // 11 + 1))[:length]


def _send_now(scope: AsgiScope, data: bytes) -> None:
    """Hand ``data`` to the kernel at once, as much as it takes: the event loop would drop it at a reset."""
    with _socket(scope["state"][TRANSPORT]) as ours:
        ours.setblocking(False)
        try:
            ours.send(data)
        except OSError:
            return


def _socket(transport: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
