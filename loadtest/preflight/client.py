"""Requests through httpx to a checked address, without redirects and proxies.

The size of an answer is limited. httpx's time-outs apply to single reads, so a slow answer might never end. asyncio's
time-out limits the whole exchange.
"""

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from loadtest.contract import Request
from loadtest.credentials import credentials
from loadtest.http_headers import user_agent
from loadtest.limits.probing.results import ProbeOrder
from loadtest.record.run_info import REFUSED
from loadtest.targets import PreflightOrder, allow, header_values, tls_context

_MAX_ANSWER: Final = 1024 * 1024
_KEPT_S: Final = 1.0
"""An idle connection is kept for this many seconds. A server that closes the connection first (uvicorn after 5 s)
resets the next request."""
UNKNOWN_JOB: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to a request, or the reason for its absence."""

    sent_s: float
    """Unix time in seconds."""
    took_s: float
    """Seconds to the end of the answer."""
    failure: str | None = None
    """Reason for a missing or unusable answer, in words."""
    status: int = 0
    body: Any = None
    """The decoded JSON; None if the answer is not JSON."""
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    late: bool = False
    """Whether the request timed out."""

    @property
    def fields(self) -> dict[str, Any]:
        """The body's fields; empty if it is not an object."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def is_error_body(self) -> bool:
        return all(isinstance(self.fields.get(key), str) for key in ("error", "code"))

    @property
    def summary(self) -> str:
        """The status, with the error's code if it is printable: ``404 (unknown_job)``."""
        code = self.fields.get("code")
        shown = code[:60] if isinstance(code, str) and code.isprintable() else ""
        return f"{self.status} ({shown})" if shown else str(self.status)


class TargetClient:
    """A client of one target. Requests go to the checked address, even if the name now resolves differently.

    Raises:
        LoadtestError: if loading the target is not allowed.
    """

    def __init__(self, order: PreflightOrder | ProbeOrder, purpose: str) -> None:
        self.keys, endpoint = credentials()
        target = allow(order.url, listed=order.listed)
        address = f"[{target.address}]" if ":" in target.address else target.address
        ours = {"accept": "application/json", "accept-encoding": "identity", "user-agent": user_agent(purpose)}
        self._client = httpx.AsyncClient(
            base_url=f"{target.scheme}://{address}:{target.port}{target.prefix}/",
            headers={"host": target.host, "x-wf-endpoint": endpoint, **ours, **header_values(order.headers)},
            timeout=None,  # noqa: S113 - ``ask`` limits the whole exchange
            verify=tls_context(order.tls),
            follow_redirects=False,
            trust_env=False,  # a proxy would be a host that was not allowed
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEPT_S),
        )
        self._extensions = {"sni_hostname": target.server_name}
        self._zero = time.time() - time.monotonic()
        self.close = self._client.aclose

    def now(self) -> float:
        """Unix time in seconds, from a monotonic clock."""
        return self._zero + time.monotonic()

    async def ask(self, request: Request, key: str, seconds: float, *, job: str = "", body: object = None) -> Reply:
        """Send one request. A failure is returned as a reply.

        ``seconds`` is the maximum time from connecting to the last byte. ``job`` is the id of a job to retrieve, and is
        appended to the path. ``body`` is the body of a run or submit.
        """
        headers = {"x-api-key": key, **({} if body is None else {"content-type": "application/json"})}
        content = None if body is None else msgspec.json.encode(body)
        path = request.path.removeprefix("/") + job
        sent = self.now()
        data = bytearray()
        exchange = self._client.stream(
            request.method, path, content=content, headers=headers, extensions=self._extensions
        )
        try:
            async with asyncio.timeout(seconds), exchange as answer:
                async for chunk in answer.aiter_raw():
                    data += chunk
                    if len(data) > _MAX_ANSWER:
                        break
        except TimeoutError:
            return Reply(sent, self.now() - sent, f"no whole answer within {seconds:g} s", late=True)
        except httpx.HTTPError as error:
            return Reply(sent, self.now() - sent, _why(error))
        took = self.now() - sent
        if len(data) > _MAX_ANSWER:
            return Reply(sent, took, f"an answer of more than {_MAX_ANSWER:,} bytes")
        return Reply(sent, took, None, answer.status_code, _decode(data), answer.headers)


def _why(error: httpx.HTTPError) -> str:
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


def _decode(data: bytearray) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
