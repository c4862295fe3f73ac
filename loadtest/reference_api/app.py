"""The API as a raw ASGI application: routing, authentication, limits, and the documented responses.

A request is checked in this order, and the first error is the response. Assumption: the documentation gives no order.

1. API key (401), endpoint (400, 404). A request without a valid key counts against no limit.
2. Route (404), method (405).
3. The key's rate limit for this kind of request (429). The request counts even if a later check rejects it.
4. Body (413, 400), workflow (404), parameters (400), room in the queue (503), job (404).

If only valid requests count against limits, check 3 comes last.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from loadtest.contract import JOB_PREFIX, REQUESTS, ErrorCode, JobState, LimitName, RequestKind
from loadtest.reference_api.execution import INTERNAL, Call, Execution, Threads, Workflow, find
from loadtest.reference_api.jobs import JobStore, QueueFullError, WorkHooks
from loadtest.reference_api.limits import STATE_HEADERS, Account, Accounts, RateLimits
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_api.messages import (
    ApiError,
    AsgiScope,
    Attendance,
    DisconnectedError,
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

logger = logging.getLogger(__name__)

_RETRIEVAL: Final = REQUESTS[RequestKind.RETRIEVE]
_WHOLE_PATHS: Final = {request.path: request for request in REQUESTS.values() if request.path != JOB_PREFIX}
# A constant, because reading an enum's member in Python 3.11 costs more than the code that uses it.
_PENDING: Final = str(JobState.PENDING)


def route(scope: AsgiScope, path: str) -> LimitName:
    """Return the name of the rate limit that applies to a path.

    Raises:
        ApiError: 404 ``unknown_route``, 405 ``method_not_allowed``.
    """
    request = _RETRIEVAL if path.startswith(JOB_PREFIX) and len(path) > len(JOB_PREFIX) else _WHOLE_PATHS.get(path)
    if request is None:
        raise ApiError(ErrorCode.UNKNOWN_ROUTE, "There is nothing at this path")
    allow(scope, request.method)
    return request.limit


def allow(scope: AsgiScope, method: str) -> None:
    """Check that a request uses the method ``method``.

    Raises:
        ApiError: 405 ``method_not_allowed``, with the ``Allow`` header.
    """
    if scope["method"] != method:
        headers = ((b"allow", method.encode()),)
        raise ApiError(ErrorCode.METHOD_NOT_ALLOWED, f"Only {method} is allowed here", {"allow": [method]}, headers)


class WorkflowApi:
    """The reference Workflow API."""

    def __init__(
        self, config: ServerConfig, workflows: dict[str, Workflow] | None = None, hooks: WorkHooks | None = None
    ) -> None:
        self._config = config
        self._workflows = workflows or load_workflows(config, Threads(config.threads))
        self._attendance = Attendance(config.run_timeout)
        self._limits = RateLimits(config)
        self.accounts = Accounts(config, self._limits)
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
        self.monitoring = Monitoring(config, self._limits, self.jobs, self._workflows)

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
                account = self.accounts.find(scope["headers"])
                name = route(scope, path)
                if self._limits.first and (delay := self._limits.draw(account.limiters, name, scope)):
                    await wait(delay, scope)
                reply = await self._handlers[name](account, scope, receive)
        except ApiError as error:
            reply = error.reply(self._config.answers)
        except DisconnectedError:
            self.monitoring.abandoned += 1
            return None
        except asyncio.CancelledError:
            # A request is cancelled only when the server stops. Its client still gets a response.
            reply = ApiError(ErrorCode.SHUTTING_DOWN, "The server is stopping").reply(self._config.answers)
        except Exception:
            logger.exception("%s %s broke", scope["method"], scope["path"])
            reply = ApiError(ErrorCode.INTERNAL, INTERNAL).reply(self._config.answers)
        finally:
            # A concurrency limit's slot is freed before the response is sent, so the client's next request can use it.
            if self._limits.releases:
                self._limits.release(scope)
        if self._limits.shows_state:
            reply = reply._replace(headers=reply.headers + scope.get(STATE_HEADERS, ()))
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
            ApiError: if the body or its parameters are invalid, or there is no such workflow. Errors name the field.
            DisconnectedError: if the client hung up before its body was complete.
        """
        body = await read_body(scope, receive, self._config.max_body)
        try:
            request = self._decode(body)
        except msgspec.ValidationError as error:
            details = explain(error)
            if details["field"].startswith("parameters["):  # the number is too large for every type
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
        if not self._limits.first:
            await self._limits.enter(account.limiters, LimitName.SYNC_RUN, scope)
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
            if not self._limits.first:
                self.jobs.check_room()
                await self._limits.enter(account.limiters, LimitName.ASYNC_SUBMIT, scope)
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
        if not self._limits.first and await self._limits.enter(account.limiters, LimitName.RETRIEVAL, scope):
            body = self.jobs.retrieve(account, job_id) or body  # the job went on while the request waited
        return ServerReply(200, body)
