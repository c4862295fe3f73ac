"""The API as it misbehaves: an ASGI application around the real one."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from loadtest.contract import LimitName
from loadtest.faults import AnyFault
from loadtest.faults.kinds import DuplicateResult, Error, Freeze, Garbage, Reset, Throttle, Truncate
from loadtest.target.answers import AnswerHeaders, ApiError, Header, Message, Receive, Reply, Scope, Send
from loadtest.target.app import WorkflowApi
from loadtest.target.config import ServerConfig
from loadtest.target.faults import exchange
from loadtest.target.faults.board import Board, Strike
from loadtest.target.faults.marks import HITS
from loadtest.target.faults.outcomes import without_time
from loadtest.target.faults.pauses import Freezer, pause
from loadtest.target.faults.work import Work
from loadtest.target.routes import route

_KINDS: Final = b"x-loadtest-faults"
_HIT: Final = b"x-loadtest-fault-hit"
_CUT: Final = (Truncate, Reset, Garbage)
_SHOWN: Final = 0.02
"""Seconds between the first half of an answer and the reset in its middle, in which the client may read it."""


class _Caller(NamedTuple):
    name: LimitName
    key: int


class Misbehaving:
    """The reference API with faults.

    Args:
        api: the real application.
        config: what the server was told.
        board: the faults.
        work: what they do to executions and jobs.
        freezer: stops the server.
    """

    def __init__(self, api: WorkflowApi, config: ServerConfig, board: Board, work: Work, freezer: Freezer) -> None:
        self._api = api
        self._board = board
        self._work = work
        self._freezer = freezer
        self._keys = {key.encode(): number for number, key in enumerate(config.keys)}
        self._recodes = config.recodes
        self._headers = AnswerHeaders()
        self._ids: dict[int, str] = {}
        board.on_change.append(self._ids.clear)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3), or not."""
        if not len(self._board):
            await self._api(scope, receive, send)
            return
        hits: list[AnyFault] = []
        HITS.set(hits)
        caller = self._caller(scope)
        strikes = [] if caller is None else self._board.strikes(caller.name, caller.key, work=False)
        faults = [strike.fault for strike in strikes]
        hits.extend(faults)
        if (early := await self._before(strikes)) is not None:
            await self._reply(early, hits, scope, send)
            return
        if any(isinstance(fault, Reset) and fault.when == "before" for fault in faults):
            await exchange.reset(scope, receive)
            return
        answer = _Answer()
        await self._api(scope, receive, answer.take)
        if answer.begun:
            if caller is not None:
                self._alter(caller, scope, answer, faults)
            await self._send(answer, faults, scope, receive, send)

    def bad_request(self) -> tuple[int, list[Header], bytes]:
        """As the API's own."""
        status, headers, body = self._api.bad_request()
        return status, [*headers, *self._mark([])], body

    def _caller(self, scope: Scope) -> _Caller | None:
        """Who asks what; None for what faults don't concern."""
        key = next((self._keys.get(value) for name, value in scope["headers"] if name == b"x-api-key"), None)
        if key is None:
            return None
        try:
            return _Caller(route(scope, scope["path"]), key)
        except ApiError:
            return None

    async def _before(self, strikes: Sequence[Strike]) -> Reply | None:
        """Let time pass; give the answer of a request that doesn't get to be executed."""
        try:
            if (seconds := sum(strike.wait for strike in strikes)) > 0:
                await pause(seconds)
        except asyncio.CancelledError:
            return ApiError(503, "shutting_down", "The server is stopping").reply(self._recodes)
        for fault, _ in strikes:
            if isinstance(fault, Freeze) and fault.ms is not None:
                self._freezer.freeze(self._board.clock() + fault.ms / 1000)
            elif isinstance(fault, Throttle):
                return ApiError(429, "rate_limit_exceeded", "The rate limit is exceeded").reply(self._recodes)
            elif isinstance(fault, Error):
                return ApiError(500, "internal", "Internal error").reply({})._replace(status=fault.status)
        return None

    def _alter(self, caller: _Caller, scope: Scope, answer: "_Answer", faults: Iterable[AnyFault]) -> None:
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
        self, answer: "_Answer", faults: Iterable[AnyFault], scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = [*answer.headers, *self._mark(HITS.get())]
        cut = next((fault for fault in faults if isinstance(fault, _CUT)), None)
        head, body = exchange.raw(answer.status, headers, answer.body)
        if isinstance(cut, Truncate):
            await exchange.close(scope, receive, head + body[: len(body) // 2])
        elif isinstance(cut, Reset):
            exchange.send_now(scope, head + body[: len(body) // 2])
            await asyncio.sleep(_SHOWN)
            await exchange.reset(scope, receive)
        elif isinstance(cut, Garbage) and cut.what == "answer":
            await exchange.close(scope, receive, exchange.NO_HTTP)
        else:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": exchange.no_json(len(body)) if cut else body})

    async def _reply(self, reply: Reply, hits: Sequence[AnyFault], scope: Scope, send: Send) -> None:
        self._api.upkeep.answered(scope, reply.status)
        headers = [*self._headers.build(reply), *self._mark(hits)]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _mark(self, hits: Sequence[AnyFault]) -> list[Header]:
        """The headers that say what may be wrong with an answer, and what is."""
        if not len(self._board):
            return []
        hit = ",".join(dict.fromkeys(fault.kind for fault in hits))
        return [(_KINDS, self._board.header), *([(_HIT, hit.encode())] if hit else [])]


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
        """Put another body in its place."""
        if body != self.body:
            self.body = body
            length = (b"content-length", b"%d" % len(body))
            self.headers = [length if name == b"content-length" else (name, value) for name, value in self.headers]
