"""Requests through httpx to a checked address: no redirects, no proxy, bounded answers.

httpx's time-outs apply to single reads, so a slow trickle would never end; asyncio's time-out bounds the whole
exchange.
"""

import asyncio
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
UNKNOWN_JOB: Final = "00000000-0000-0000-0000-000000000000"
LONGEST: Final = 20.0
"""Maximum seconds that a preflight waits for an answer, whatever the scenario's time-out."""


@dataclass(frozen=True, slots=True)
class PreflightReply:
    """A reply to a request, or the reason for its absence."""

    sent_s: float
    """Unix seconds."""
    took_s: float
    """Seconds to the end of the answer."""
    failure: str | None = None
    """Reason for a missing or incomplete answer, in words."""
    status: int = 0
    body: Any = None
    """Decoded from JSON; None if it is not JSON."""
    date_s: float | None = None
    """Its ``Date``, in unix seconds."""
    late: bool = False
    """Whether it failed by a time-out."""

    @property
    def is_error_body(self) -> bool:
        return isinstance(self.body, dict) and all(isinstance(self.body.get(key), str) for key in ("error", "code"))

    @property
    def summary(self) -> str:
        """The status, with the error's code if it is printable: ``404 (unknown_job)``."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        shown = code[:60] if isinstance(code, str) and code.isprintable() else ""
        return f"{self.status} ({shown})" if shown else str(self.status)


def http_client(target: Target, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> httpx.AsyncClient:
    """Return a client that connects only to a target's checked address, even if its name now resolves differently.

    Without ``tls`` it trusts the system's certificates.
    """
    address = f"[{target.address}]" if ":" in target.address else target.address
    return httpx.AsyncClient(
        base_url=f"{target.scheme}://{address}:{target.port}{target.prefix}/",
        headers={"host": target.host, "accept": "application/json", "accept-encoding": "identity", **headers},
        timeout=None,  # noqa: S113 - ``exchange`` has a time-out as a whole
        verify=tls or True,
        follow_redirects=False,
        trust_env=False,  # a proxy would be a host that was not allowed
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    )


class PreflightClient:
    """Sends requests to one target. A context manager.

    A whole exchange, from connecting to the last byte, may take ``timeout`` seconds, at most ``LONGEST``.
    """

    def __init__(
        self, target: Target, headers: Mapping[str, str], timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._timeout = min(timeout, LONGEST)
        self._runner = asyncio.Runner()
        self._client = http_client(target, headers, tls)
        self._extensions = {"sni_hostname": target.server_name}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def send(self, method: str, path: str, key: str, body: Any = None) -> PreflightReply:
        """Send one request. Failures are returned as replies."""
        sent, began = time.time(), time.monotonic()
        content = None if body is None else msgspec.json.encode(body)
        headers = {"x-api-key": key, **({} if body is None else {"content-type": "application/json"})}
        request = self._client.build_request(
            method, path, content=content, headers=headers, extensions=self._extensions
        )
        try:
            answer, data = self._runner.run(exchange(self._client, request, self._timeout))
        except TimeoutError:
            return PreflightReply(
                sent, time.monotonic() - began, f"no whole answer within {self._timeout:g} s", late=True
            )
        except httpx.HTTPError as error:
            return PreflightReply(sent, time.monotonic() - began, why(error))
        took = time.monotonic() - began
        if data is None:
            return PreflightReply(sent, took, f"an answer of more than {_MAX_ANSWER:,} bytes")
        return PreflightReply(sent, took, None, answer.status_code, decode(data), _date(answer.headers.get("date")))


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, seconds: float
) -> tuple[httpx.Response, bytes | None]:
    """Return a response and its body; None for a body above 1 MiB.

    Raises:
        TimeoutError: if it took longer than ``seconds``.
        httpx.HTTPError: if there is no response.
    """
    async with asyncio.timeout(seconds):
        answer = await client.send(request, stream=True)
        try:
            data = bytearray()
            async for chunk in answer.aiter_raw():
                data += chunk
                if len(data) > _MAX_ANSWER:
                    return answer, None
            return answer, bytes(data)
        finally:
            await answer.aclose()


def why(error: httpx.HTTPError) -> str:
    """Return the reason for a missing response, in words."""
    cause: BaseException = error
    # Outer exceptions only state that all attempts failed.
    while not getattr(cause, "errno", None) and (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if not isinstance(error, httpx.ConnectError):
        reset = isinstance(cause, ConnectionResetError)
        return "the connection was reset" if reset else f"no answer in HTTP ({type(error).__name__})"
    if isinstance(cause, ConnectionRefusedError):
        return REFUSED
    if isinstance(cause, ConnectionError):
        cause = OSError(cause.errno, os.strerror(cause.errno or 0))  # asyncio's own text repeats the address
    return f"no connection ({str(cause)[:200] or type(cause).__name__})"


def decode(data: bytes) -> Any:
    """Decode JSON; None if it is invalid."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _date(header: str | None) -> float | None:
    moment = None if header is None else parse_date(header)
    return None if moment is None else moment.timestamp()
