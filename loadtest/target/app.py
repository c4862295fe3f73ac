"""The API itself, as a raw ASGI application: routing, authentication, limits, and the documented answers.

A request is judged in this order, and the first objection is the answer. Assumption: the documentation gives no order.

1. API key (401), endpoint (400, 404): a request without a valid key draws on no limit;
2. route (404) and method (405);
3. rate limit of the key for this kind of request (429): from here on it is drawn on, whatever comes after;
4. body (413, 400), workflow (404), parameters (400), room in the queue (503), the job (404).

Where only valid requests draw on a limit, 3 comes last.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec

from loadtest.contract import JOB_PREFIX, LimitName
from loadtest.target.accounts import Account, Accounts
from loadtest.target.answers import AnswerHeaders, ApiError, Header, Receive, Reply, Scope, Send, encode
from loadtest.target.bodies import DisconnectedError, RequestReader, RunRequest
from loadtest.target.config import ServerConfig
from loadtest.target.durable import StorageError, open_store
from loadtest.target.execution import INTERNAL, Execution, Outcome
from loadtest.target.hangup import Attendance, RunTimeoutError, wait
from loadtest.target.job import Meddler
from loadtest.target.jobs import QueueFullError
from loadtest.target.loading import load_workflows
from loadtest.target.routes import allow, route
from loadtest.target.threads import Threads
from loadtest.target.throttle import Throttle
from loadtest.target.upkeep import Upkeep
from loadtest.target.workflows import Workflow, find

logger = logging.getLogger(__name__)


class Misbehaviour(Meddler, Protocol):
    """Who lets executions misbehave on demand, be they those of runs or of jobs."""

    def run(self, owner: object, work: Coroutine[Any, Any, Outcome]) -> Coroutine[Any, Any, Outcome]:
        """The execution of a synchronous run, in place of ``work``."""


class WorkflowApi:
    """The reference Workflow API.

    Args:
        config: keys, limits and bounds.
        workflows: what can be run, by name; loaded as the config says unless given.
        faults: who lets executions and jobs misbehave, if anyone.
    """

    def __init__(
        self, config: ServerConfig, workflows: dict[str, Workflow] | None = None, faults: Misbehaviour | None = None
    ) -> None:
        self._config = config
        self._workflows = workflows or load_workflows(config, Threads(config.threads))
        self._attendance = Attendance(config.run_timeout)
        self._throttle = Throttle(config)
        self.accounts = Accounts(config, self._throttle)
        self._faults = faults
        self._headers = AnswerHeaders()
        self._reader = RequestReader(config.max_body, unknown=config.unknown_parameters == "ignore")
        self._handlers: dict[LimitName, Callable[[Account, Scope, Receive], Awaitable[Reply]]] = {
            LimitName.SYNC_RUN: self._run,
            LimitName.ASYNC_SUBMIT: self._submit,
            LimitName.RETRIEVAL: self._retrieve,
        }
        self.jobs = open_store(config, self.accounts.by_key, self._workflows, faults)
        self.upkeep = Upkeep(config, self._throttle, self.jobs, self._workflows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        try:
            reply = await self._answer(scope, receive)
        except ApiError as error:
            reply = error.reply(self._config.recodes)
        except DisconnectedError:
            self.upkeep.abandoned += 1
            return
        except asyncio.CancelledError:
            # Only a stopping server cancels a request; its client gets an answer all the same.
            reply = ApiError(503, "shutting_down", "The server is stopping").reply(self._config.recodes)
        except Exception:
            logger.exception("%s %s broke", scope["method"], scope["path"])
            reply = ApiError(500, "internal", "Internal error").reply(self._config.recodes)
        finally:
            # Before the answer goes out, so that its reader's next request finds the room.
            if self._throttle.releases:
                self._throttle.release(scope)
        headers = self._headers.build(reply)
        if self._throttle.tells:
            headers += self._throttle.told(scope)
        self.upkeep.answered(scope, reply.status)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def bad_request(self) -> tuple[int, list[Header], bytes]:
        """Status, headers and body for bytes that aren't HTTP, which never become a request."""
        error = ApiError(400, "malformed_http", "The request is not valid HTTP")
        reply = error.reply(self._config.recodes)
        self.upkeep.answered(None, reply.status)
        return reply.status, self._headers.build(reply), reply.body

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path: str = scope["path"]
        upkeep = self.upkeep.routes.get(path)
        if upkeep is not None:
            allow(scope, "GET")
            return await upkeep(scope)
        account = self.accounts.find(scope["headers"])
        name = route(scope, path)
        if self._throttle.first and (delay := self._throttle.draw(account.limiters, name, scope)):
            await wait(delay, scope)
        return await self._handlers[name](account, scope, receive)

    async def _run(self, account: Account, scope: Scope, receive: Receive) -> Reply:
        request = await self._reader.read(scope, receive)
        workflow = find(self._workflows, request.name)
        parameters = workflow.parse(request.parameters)
        if not self._throttle.first:
            await self._throttle.enter(account.limiters, LimitName.SYNC_RUN, scope)
        execution = Execution(workflow, parameters)
        work = execution.run() if self._faults is None else self._faults.run(account, execution.run())
        try:
            outcome = await self._attendance.attend(work, scope)
        except RunTimeoutError:
            details = {"workflow": workflow.name, "timeLimitMs": self._config.run_timeout * 1000}
            details["executionTime"] = execution.milliseconds
            raise ApiError(500, "run_timeout", "The workflow took longer than a run may", details) from None
        return _run_reply(request, outcome)

    async def _submit(self, account: Account, scope: Scope, receive: Receive) -> Reply:
        request = await self._reader.read(scope, receive)
        workflow = find(self._workflows, request.name)
        parameters = workflow.parse(request.parameters)
        try:
            if not self._throttle.first:
                self.jobs.check_room()
                await self._throttle.enter(account.limiters, LimitName.ASYNC_SUBMIT, scope)
            job = await self.jobs.accept(account, workflow, parameters, request.parameters)
        except QueueFullError:
            # Assumption: the documentation does not say what happens to a submit that finds no room.
            details = {"queue": self._config.queue, "workers": self._config.workers}
            raise ApiError(503, "queue_full", "Too many jobs are waiting", details) from None
        except StorageError:
            raise ApiError(500, "internal", "The job could not be written to disk") from None
        return Reply(202, encode({"jobId": job.id, "status": "pending"}))

    async def _retrieve(self, account: Account, scope: Scope, _receive: Receive) -> Reply:
        job_id = scope["path"][len(JOB_PREFIX) :]
        body = self.jobs.retrieve(account, job_id)
        if body is None:
            raise ApiError(404, "unknown_job", "There is no such job, or no longer")
        if not self._throttle.first and await self._throttle.enter(account.limiters, LimitName.RETRIEVAL, scope):
            body = self.jobs.retrieve(account, job_id) or body  # it had to wait, and the job went on
        return Reply(200, body)


def _run_reply(request: RunRequest, outcome: Outcome) -> Reply:
    if outcome.result is None:
        details = {"workflow": request.name, "executionTime": outcome.milliseconds}
        if outcome.internal:
            raise ApiError(500, "internal", INTERNAL, details)
        raise ApiError(500, "workflow_failed", outcome.error or "The workflow failed", details)
    return Reply(200, encode({"result": msgspec.Raw(outcome.result), "executionTime": outcome.milliseconds}))
