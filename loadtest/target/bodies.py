"""What the server reads: a request's body, within bounds, and the news that the client is gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import msgspec

from loadtest.target.answers import ApiError, Receive, Scope
from loadtest.target.validation import explain

_T = TypeVar("_T")

DRAINED: Final = 1024 * 1024
"""Bytes of an oversized body that are read and dropped before the answer.

A client that is still writing when the connection closes may never see the answer, so a body of any usual size is
read to its end; only beyond this does the server hang up in the middle.
"""


class DisconnectedError(Exception):
    """The client went away: nobody waits for the answer."""


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a synchronous run and of a submit."""

    name: str
    parameters: dict[str, Any] = {}


_decode: Final = msgspec.json.Decoder(RunRequest).decode


async def read_request(scope: Scope, receive: Receive, max_body: int) -> RunRequest:
    """Read and check the body of a run or submit.

    Raises:
        ApiError: 413 ``body_too_large``, 400 ``invalid_json`` or ``invalid_request`` (naming the field).
        DisconnectedError: if the client went away before its body was complete.
    """
    body = await _read(scope, receive, max_body)
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise ApiError(400, "invalid_request", "The request body has the wrong shape", dict(explain(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "invalid_json", "The request body is not JSON", {"problem": str(error)}) from None
    except RecursionError:
        raise ApiError(400, "invalid_json", "The request body is nested too deeply") from None


async def _read(scope: Scope, receive: Receive, max_body: int) -> bytes:
    body, size, more = b"", _declared(scope), True
    if size > DRAINED:
        raise _too_large(max_body, close=True)
    size = 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size <= max_body:
            body += chunk
        elif size > DRAINED:
            raise _too_large(max_body, close=True)
    if size > max_body:
        raise _too_large(max_body, close=False)
    return body


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def _too_large(max_body: int, *, close: bool) -> ApiError:
    headers = ((b"connection", b"close"),) if close else ()
    return ApiError(413, "body_too_large", "The request body is too large", {"maxBytes": max_body}, headers)


async def until_disconnect(work: Coroutine[Any, Any, _T], receive: Receive) -> _T:
    """Await ``work`` while watching the connection; cancel it when the client hangs up.

    Raises:
        DisconnectedError: if the client went away first.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise DisconnectedError
    finally:
        watcher.cancel()
        task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
