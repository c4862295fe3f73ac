"""The API as a raw ASGI application: routing, authentication, limits, and the documented responses.

A request is checked in this order, and the first error is the response. The order is assumed, not documented.

1. API key (401), endpoint (400, 404). A request without a valid key counts against no limit.
2. Route (404), method (405).
3. The rate limit that applies (429). The request counts even if a later check rejects it.
4. Body (413, 400), workflow (404), parameters (400), room in the queue (503), job (404).

If only valid requests count against limits, check 3 comes last.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

import msgspec

from loadtest.contract import ALL, JOB_PREFIX, REQUESTS, ErrorCode, JobState, LimitName, RequestKind
from loadtest.limits import CONCURRENCY, SHARED_SCOPES, Decision, Limiter, make
from loadtest.reference_api.execution import INTERNAL, Call, Execution, Threads, Workflow, find
from loadtest.reference_api.jobs import JobStore, QueueFullError, WorkHooks
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_api.messages import (
    DRAWN,
    ApiError,
    AsgiScope,
    Attendance,
    DisconnectedError,
    Header,
    LenientRequest,
    Receive,
    RunRequest,
    RunTimeoutError,
    Send,
    ServerReply,
    answer_headers,
    encode,
    explain,
    infinite_number,
    read_body,
    wait,
)
from loadtest.reference_api.monitoring import Monitoring
from loadtest.reference_settings import ServerConfig
from loadtest.units import Limit

logger = logging.getLogger(__name__)
Limiters = Mapping[LimitName, Limiter]

_RETRIEVAL: Final = REQUESTS[RequestKind.RETRIEVE]
_WHOLE_PATHS: Final = {request.path: request for request in REQUESTS.values() if request.path != JOB_PREFIX}
_STATE_HEADERS: Final = "loadtest.rate_headers"
"""Key of an ASGI scope. Its value is the headers that report the limit's state."""
_HELD: Final = "loadtest.limiter"
"""Key of an ASGI scope. Its value is the limiter whose slot the request occupies until it ends."""
# A constant, because reading an enum's member is slow in Python 3.11.
_PENDING: Final = str(JobState.PENDING)


def route(scope: AsgiScope, path: str) -> LimitName:
    """Return the rate limit that applies to a request. Raise ``ApiError`` 404 (unknown path) or 405 (wrong method)."""
    request = _RETRIEVAL if path.startswith(JOB_PREFIX) and len(path) > len(JOB_PREFIX) else _WHOLE_PATHS.get(path)
    if request is None:
        raise ApiError(ErrorCode.UNKNOWN_ROUTE, "There is nothing at this path")
    allow(scope, request.method)
    return request.limit


def allow(scope: AsgiScope, method: str) -> None:
    """Raise ``ApiError`` 405 with the ``Allow`` header if a request does not use ``method``."""
    if scope["method"] != method:
        headers = ((b"allow", method.encode()),)
        raise ApiError(ErrorCode.METHOD_NOT_ALLOWED, f"Only {method} is allowed here", {"allow": [method]}, headers)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The limiters of an API key. The account is also the owner of the key's jobs."""

    limiters: Limiters


class RateLimits:
    """The limits of one server, and the accounts of its API keys."""

    def __init__(self, config: ServerConfig) -> None:
        self.first = config.draws == "all"
        """Whether requests are counted before their bodies are checked. Otherwise only valid requests count."""
        self.shows_state = config.rate_headers != "none"
        """Whether responses have headers that report the limit's state."""
        self.releases = config.limiter.algorithm == CONCURRENCY
        """Whether a request occupies a slot until it ends."""
        self.decisions = {decision: dict.fromkeys(config.limits, 0) for decision in ("allowed", "rejected")}
        """Number of decisions so far, by decision and limit."""
        self._allowed, self._rejected = self.decisions.values()
        self._spec = config.limiter
        self._together = config.limit_scope in SHARED_SCOPES
        """Whether all kinds of requests share one limit."""
        self._limits = dict.fromkeys(config.limits, config.enforce[ALL]) if self._together else config.limits
        self._config = config
        shared = self._make() if self._spec.scope in ("name", "global") else None
        self.accounts = {key.encode(): Account(shared or self._make()) for key in config.keys}
        """Accounts by API key."""
        self._endpoint = config.endpoint.encode() if config.endpoint else None

    def _make(self) -> Limiters:
        if self._together:
            return dict.fromkeys(self._limits, make(self._spec, self._config.enforce[ALL]))
        return {name: make(self._spec, limit) for name, limit in self._limits.items()}

    def draw(self, limiters: Limiters, name: LimitName, scope: AsgiScope) -> float:
        """Count a request against a limit, and return the seconds that it must wait, or raise ``ApiError`` 429."""
        limiter = limiters[name]
        now = time.time()
        decision = limiter.decide(now)
        scope[DRAWN] = name
        if self.shows_state:
            scope[_STATE_HEADERS] = self._state_headers(self._limits[name], decision)
        if not decision.allowed:
            self._rejected[name] += 1
            raise self._rejection(name, decision, now)
        self._allowed[name] += 1
        if self.releases:
            scope[_HELD] = limiter
        return decision.delay

    async def enter(self, limiters: Limiters, name: LimitName, scope: AsgiScope) -> bool:
        """Count a request against a limit, wait if the limiter delays it, and return whether it waited.

        This raises the errors of ``draw`` and ``wait``.
        """
        delay = self.draw(limiters, name, scope)
        if delay:
            await wait(delay, scope)
        return delay > 0

    def release(self, scope: AsgiScope) -> None:
        if (limiter := scope.pop(_HELD, None)) is not None:
            limiter.release(time.time())

    def _state_headers(self, limit: Limit, decision: Decision) -> tuple[Header, ...]:
        reset_after = math.ceil(decision.reset_after)
        if self._config.rate_headers == "x-ratelimit":  # used by many services
            return (
                (b"x-ratelimit-limit", b"%d" % limit.count),
                (b"x-ratelimit-remaining", b"%d" % decision.remaining),
                (b"x-ratelimit-reset", b"%d" % reset_after),
            )
        # draft-ietf-httpapi-ratelimit-headers-11. Windows and times are in whole seconds.
        policy = b'"default";q=%d' % limit.count
        state = b'"default";r=%d' % decision.remaining
        if self.releases:
            policy += b';qu="concurrent-requests"'
        else:
            policy = policy + b";w=%d" % math.ceil(limit.window)
            state = state + b";t=%d" % reset_after
        return (b"ratelimit-policy", policy), (b"ratelimit", state)

    def _rejection(self, name: LimitName, decision: Decision, now: float) -> ApiError:
        headers: tuple[Header, ...] = ()
        if self._config.retry_after != "none":
            # A concurrency limit cannot tell when a slot becomes free, so its wait is a guess: one second.
            seconds = (decision.retry_after or 1.0) * self._config.retry_after_factor
            value = b"%d" % math.ceil(seconds)
            if self._config.retry_after == "date":
                value = formatdate(math.ceil(now + seconds), usegmt=True).encode()
            headers = ((b"retry-after", value),)
        details = {"limit": ALL if self._together else name, "allowed": str(self._limits[name])}
        return ApiError(ErrorCode.RATE_LIMIT_EXCEEDED, "The rate limit is exceeded", details, headers)

    def account(self, headers: list[Header]) -> Account:
        """Return the account of a request, or raise ``ApiError`` 401 (for the key), 400 or 404 (for the endpoint).

        The values of a repeated header are joined with commas.
        """
        key = endpoint = None
        for name, value in headers:
            if name == b"x-api-key":
                key = value if key is None else key + b", " + value
            elif name == b"x-wf-endpoint":
                endpoint = value if endpoint is None else endpoint + b", " + value
        if not key:
            raise ApiError(ErrorCode.MISSING_API_KEY, "The API key is missing", {"header": "x-api-key"})
        # The parser keeps white space at the end of values.
        account = self.accounts.get(key) or self.accounts.get(key.strip())
        if account is None:
            raise ApiError(ErrorCode.INVALID_API_KEY, "The API key is not valid", {"header": "x-api-key"})
        if not endpoint:
            raise ApiError(ErrorCode.MISSING_ENDPOINT, "The endpoint header is missing", {"header": "x-wf-endpoint"})
        if self._endpoint is not None and endpoint.strip() != self._endpoint:
            raise ApiError(ErrorCode.UNKNOWN_ENDPOINT, "There is no such endpoint", {"header": "x-wf-endpoint"})
        return account


class WorkflowApi:
    """The reference Workflow API."""

    def __init__(
        self, config: ServerConfig, workflows: dict[str, Workflow] | None = None, hooks: WorkHooks | None = None
    ) -> None:
        self._config = config
        self._workflows = workflows or load_workflows(config, Threads(config.threads))
        self._attendance = Attendance(config.run_timeout)
        self.limits = RateLimits(config)
        self._hooks = hooks or WorkHooks()
        ignore = config.unknown_parameters == "ignore"
        self._decode = msgspec.json.Decoder(LenientRequest if ignore else RunRequest).decode
        self._handlers: dict[LimitName, Callable[[Account, AsgiScope, Receive], Awaitable[ServerReply]]] = {
            LimitName.SYNC_RUN: self._run,
            LimitName.ASYNC_SUBMIT: self._submit,
            LimitName.RETRIEVAL: self._retrieve,
        }
        self.jobs = JobStore(
            config.workers,
            config.queue,
            config.retention,
            pending_time=config.pending_execution_time,
            hooks=self._hooks,
        )
        self.monitoring = Monitoring(config, self.limits.decisions, self.jobs, self._workflows)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if (reply := await self.reply(scope, receive)) is not None:
            # This does the work of `respond` without the cost of another coroutine.
            await send({"type": "http.response.start", "status": reply.status, "headers": answer_headers(reply)})
            await send({"type": "http.response.body", "body": reply.body})

    async def reply(self, scope: AsgiScope, receive: Receive) -> ServerReply | None:
        """Return the response to a request, or None if the client hung up."""
        try:
            path: str = scope["path"]
            if (monitor := self.monitoring.routes.get(path)) is not None:
                allow(scope, "GET")
                reply = await monitor(scope)
            else:
                account = self.limits.account(scope["headers"])
                name = route(scope, path)
                if self.limits.first and (delay := self.limits.draw(account.limiters, name, scope)):
                    await wait(delay, scope)
                reply = await self._handlers[name](account, scope, receive)
        except ApiError as error:
            reply = error.reply(self._config.answers)
        except DisconnectedError:
            self.monitoring.abandoned += 1
            return None
        except asyncio.CancelledError:
            # Only the cancellation by a stopping server arrives here. The client still gets a response.
            reply = ApiError(ErrorCode.SHUTTING_DOWN, "The server is stopping").reply(self._config.answers)
        except Exception:
            logger.exception("%s %s broke", scope["method"], scope["path"])
            reply = ApiError(ErrorCode.INTERNAL, INTERNAL).reply(self._config.answers)
        finally:
            # A concurrency limit's slot is freed before the response is sent, so the client's next request can use it.
            if self.limits.releases:
                self.limits.release(scope)
        if self.limits.shows_state:
            reply = reply._replace(headers=reply.headers + scope.get(_STATE_HEADERS, ()))
        self.monitoring.answered(scope, reply.status)
        return reply

    def bad_request(self, error: ApiError) -> ServerReply:
        """Return the response to bytes that are not a valid request."""
        reply = error.reply(self._config.answers)
        self.monitoring.answered(None, reply.status)
        return reply

    async def _read(self, scope: AsgiScope, receive: Receive) -> tuple[Workflow, Call]:
        """Read the body of a run or a submit, and return the workflow and its call with the parameters.

        Raises:
            ApiError: if the body, the workflow or its parameters are invalid.
            DisconnectedError: if the client hung up before the body was complete.
        """
        body = await read_body(scope, receive, self._config.max_body)
        try:
            request = self._decode(body)
        except msgspec.ValidationError as error:
            details = explain(error)
            if details["field"].startswith("parameters["):  # a number in the parameters is too large
                details["field"] = infinite_number(body)
            raise ApiError(ErrorCode.INVALID_REQUEST, "The request body has the wrong shape", dict(details)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError(ErrorCode.INVALID_JSON, "The request body is not JSON", {"problem": str(error)}) from None
        except RecursionError:
            raise ApiError(ErrorCode.INVALID_JSON, "The request body is nested too deeply") from None
        workflow = find(self._workflows, request.name)
        return workflow, workflow.call(request.parameters)

    async def _run(self, account: Account, scope: AsgiScope, receive: Receive) -> ServerReply:
        workflow, call = await self._read(scope, receive)
        if not self.limits.first:
            await self.limits.enter(account.limiters, LimitName.SYNC_RUN, scope)
        execution = Execution(workflow, call)
        try:
            outcome = await self._attendance.attend(self._hooks.run(account, execution.run()), scope)
        except RunTimeoutError:
            details = {
                "workflow": workflow.name,
                "timeLimitMs": self._config.run_timeout * 1000,
                "executionTime": execution.milliseconds,
            }
            raise ApiError(ErrorCode.RUN_TIMEOUT, "The workflow exceeded the time limit of a run", details) from None
        if outcome.result is None:
            details = {"workflow": workflow.name, "executionTime": outcome.milliseconds}
            if outcome.internal:
                raise ApiError(ErrorCode.INTERNAL, INTERNAL, details)
            raise ApiError(ErrorCode.WORKFLOW_FAILED, outcome.error or "The workflow failed", details)
        body = {"result": msgspec.Raw(outcome.result), "executionTime": outcome.milliseconds}
        return ServerReply(200, encode(body))

    async def _submit(self, account: Account, scope: AsgiScope, receive: Receive) -> ServerReply:
        workflow, call = await self._read(scope, receive)
        try:
            if not self.limits.first:
                self.jobs.check_room()
                await self.limits.enter(account.limiters, LimitName.ASYNC_SUBMIT, scope)
            job = self.jobs.submit(account, workflow, call)
        except QueueFullError:
            # Assumption: the documentation does not specify the response to a submit when the queue is full.
            details = {"queue": self._config.queue, "workers": self._config.workers}
            raise ApiError(ErrorCode.QUEUE_FULL, "Too many jobs are waiting", details) from None
        return ServerReply(202, encode({"jobId": job.id, "status": _PENDING}))

    async def _retrieve(self, account: Account, scope: AsgiScope, _receive: Receive) -> ServerReply:
        job_id = scope["path"][len(JOB_PREFIX) :]
        body = self.jobs.retrieve(account, job_id)
        if body is None:
            raise ApiError(ErrorCode.UNKNOWN_JOB, "There is no such job, or it has expired")
        if not self.limits.first and await self.limits.enter(account.limiters, LimitName.RETRIEVAL, scope):
            body = self.jobs.retrieve(account, job_id) or body  # the job may have ended meanwhile
        return ServerReply(200, body)
