"""Requests through httpx to a checked address: no redirects, no proxy, no endless answers."""

import errno
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx
import msgspec

from loadtest.http_headers import parse_date
from loadtest.record.run_info import REFUSED
from loadtest.targets import Target

_MAX_ANSWER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PreflightReply:
    """An answer, or why there is none.

    Attributes:
        sent_s: when the request was sent, in unix seconds.
        took_s: seconds until the answer was complete.
        failure: why there is no complete answer, in words; None if there is one.
        status: of HTTP.
        body: decoded from JSON; None if it is not JSON.
        date_s: its ``Date``, in unix seconds.
    """

    sent_s: float
    took_s: float
    failure: str | None = None
    status: int = 0
    body: Any = None
    date_s: float | None = None

    @property
    def code(self) -> str:
        """The ``code`` of an error body, if it can be shown; else empty."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return code[:60] if isinstance(code, str) and code.isprintable() else ""

    @property
    def is_error_body(self) -> bool:
        """Whether the body is an error as the API documents it."""
        return isinstance(self.body, dict) and all(isinstance(self.body.get(key), str) for key in ("error", "code"))

    @property
    def summary(self) -> str:
        """The status, with the error's code where there is one: ``404 (unknown_job)``."""
        return f"{self.status} ({self.code})" if self.code else str(self.status)


class PreflightClient:
    """Sends requests to one target. A context manager.

    Args:
        target: connected to at its checked address, whatever its name resolves to by now.
        headers: of each request.
        timeout: seconds for each request as a whole.
        tls: for https; the system's certificates by default.
    """

    def __init__(
        self, target: Target, headers: Mapping[str, str], timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._timeout = timeout
        address = f"[{target.address}]" if ":" in target.address else target.address
        self._client = httpx.Client(
            base_url=f"{target.scheme}://{address}:{target.port}{target.prefix}/",
            headers={"host": target.host, "accept": "application/json", "accept-encoding": "identity", **headers},
            timeout=timeout,
            verify=tls or True,
            follow_redirects=False,
            trust_env=False,  # a proxy would be another host than the one that was allowed
        )
        self._extensions = {"sni_hostname": target.server_name}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, method: str, path: str, key: str, body: Any = None) -> PreflightReply:
        """Send one request. Whatever happens is a reply."""
        sent, began = time.time(), time.monotonic()
        content = None if body is None else msgspec.json.encode(body)
        headers = {"x-api-key": key, **({} if body is None else {"content-type": "application/json"})}
        try:
            with self._client.stream(
                method, path, content=content, headers=headers, extensions=self._extensions
            ) as answer:
                data = self._read(answer, began + self._timeout)
        except httpx.TimeoutException:
            return PreflightReply(sent, time.monotonic() - began, f"no answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            return PreflightReply(sent, time.monotonic() - began, _why(error))
        took = time.monotonic() - began
        if data is None:
            return PreflightReply(
                sent, took, f"no end of its answer within {_MAX_ANSWER:,} bytes and {self._timeout:g} s"
            )
        return PreflightReply(sent, took, None, answer.status_code, _decode(data), _date(answer.headers.get("date")))

    def _read(self, answer: httpx.Response, deadline: float) -> bytes | None:
        data = bytearray()
        for chunk in answer.iter_raw():
            data += chunk
            if len(data) > _MAX_ANSWER or time.monotonic() > deadline:
                return None
        return bytes(data)


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        if os.strerror(errno.ECONNREFUSED) in str(error):
            return REFUSED
        return f"no connection ({str(error)[:200] or type(error).__name__})"
    return f"no answer in HTTP ({type(error).__name__})"


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _date(header: str | None) -> float | None:
    moment = None if header is None else parse_date(header)
    return None if moment is None else moment.timestamp()
