"""What the server reads: a request's body, within bounds."""

from typing import Any, Final

import msgspec

from loadtest.reference_api.answers import ApiError, Receive, Scope
from loadtest.reference_api.validation import explain, locate

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


class _LenientRequest(RunRequest, forbid_unknown_fields=False):
    """One that may have other fields, too."""


class _RawParameters(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw(b"")


class RequestReader:
    """Reads and checks the bodies of runs and submits.

    Args:
        max_body: largest body in bytes.
        unknown: whether fields that a request doesn't have are let through.
    """

    def __init__(self, max_body: int, *, unknown: bool = False) -> None:
        self._max_body = max_body
        self._decode = msgspec.json.Decoder(_LenientRequest if unknown else RunRequest).decode

    async def read(self, scope: Scope, receive: Receive) -> RunRequest:
        """Read the body of one request.

        Raises:
            ApiError: 413 ``body_too_large``, 400 ``invalid_json`` or ``invalid_request`` (naming the field).
            DisconnectedError: if the client went away before its body was complete.
        """
        body = await _read(scope, receive, self._max_body)
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            details = explain(error)
            if details["field"].startswith("parameters["):  # a number beyond all types, somewhere within
                raw = msgspec.json.decode(body, type=_RawParameters).parameters
                details["field"] = locate(bytes(raw), "parameters")
            raise ApiError(400, "invalid_request", "The request body has the wrong shape", dict(details)) from None
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
