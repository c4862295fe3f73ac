"""A client of the API. It assembles requests from prebuilt parts, sends them, and decodes responses into structs."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec

from loadtest.contract import (
    JOB_KINDS,
    JOB_PREFIX,
    REQUESTS,
    TERMINAL,
    THROTTLED_STATUS,
    JobState,
    Outcome,
    Reason,
    RequestKind,
)
from loadtest.load.connection import Address
from loadtest.load.exchange import HttpConnection, HttpExchange, Timeouts
from loadtest.load.request_budget import BudgetSpentError, RequestBudget

_WRONG_KEY: Final = "not-a-key"


class Endpoint:
    """Address, keys and headers of the API, shared by all clients.

    ``prefix`` is the path before ``/v1``. A request with key index i sends ``keys[i]``. By default, the request budget
    is unlimited.
    """

    def __init__(
        self,
        address: Address,
        *,
        host: str,
        prefix: str,
        keys: Sequence[str],
        workflow_endpoint: str,
        user_agent: str,
        headers: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        budget: RequestBudget | None = None,
    ) -> None:
        self.address = address
        self.budget = budget or RequestBudget()
        self.key_count = len(keys)
        self.secrets = (*keys, *secrets)
        """Values that are never recorded, even if a response contains them."""
        self.wrong_key = len(keys)
        """Key index for requests that send an invalid key."""
        self._prefix = quote(prefix, safe="/%:@!$&'()*+,;=~")
        # The user agent contains the run's id, and thus the scenario's file name, which may have any character.
        agent = re.sub(r"[^\x20-\x7e]", "?", user_agent)
        common = f" HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: application/json\r\n"
        headers = {"accept-encoding": "identity", **(headers or {})}
        common += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._heads = [
            f"{common}x-api-key: {key}\r\nx-wf-endpoint: {workflow_endpoint}\r\n".encode("latin-1")
            for key in (*keys, _WRONG_KEY)
        ]
        self._posts = {
            kind: [
                f"POST {self._prefix}{request.path}".encode() + head + b"content-type: application/json\r\n"
                for head in self._heads
            ]
            for kind, request in REQUESTS.items()
            if kind not in JOB_KINDS
        }
        self._job_lines = {kind: f"{REQUESTS[kind].method} {self._prefix}{JOB_PREFIX}" for kind in JOB_KINDS}

    def post(self, kind: RequestKind, body: bytes, key_index: int, trace: str) -> bytes:
        head = self._posts[kind][key_index]
        return b"%bcontent-length: %d\r\ntraceparent: %b\r\n\r\n%b" % (head, len(body), trace.encode(), body)

    def get(self, kind: RequestKind, job_id: str, key_index: int, trace: str) -> bytes:
        line = f"{self._job_lines[kind]}{quote(job_id, safe='')}".encode()
        return line + self._heads[key_index] + f"traceparent: {trace}\r\n\r\n".encode()


_Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
_State = Annotated[str, msgspec.Meta(max_length=200)]


class _RunBody(msgspec.Struct, rename="camel", gc=False):
    result: dict[str, Any]
    execution_time: _Milliseconds


class _SubmitBody(msgspec.Struct, rename="camel", gc=False):
    job_id: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    status: _State


class _JobBody(msgspec.Struct, rename="camel", gc=False):
    job_id: str
    status: _State
    result: Any = None
    error: Any = None
    execution_time: _Milliseconds | None = None


class _ErrorBody(msgspec.Struct, gc=False):
    code: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """An HTTP exchange with its outcome and the fields of its body."""

    exchange: HttpExchange
    outcome: Outcome
    reason: Reason | None = None
    error_code: str | None = None
    """``code`` of an error body, or a description of what is wrong with the shape of a body."""
    execution_time_ms: float | None = None
    job_id: str | None = None
    job_state: str | None = None
    result: Any = None
    """Result of a sync run or a job. It is not recorded."""


_run = msgspec.json.Decoder(_RunBody)
_submit = msgspec.json.Decoder(_SubmitBody)
_job = msgspec.json.Decoder(_JobBody)
_error = msgspec.json.Decoder(_ErrorBody)
_SHAPES: Final[dict[RequestKind, type[msgspec.Struct]]] = {RequestKind.RUN: _RunBody, RequestKind.SUBMIT: _SubmitBody}
_SUCCESS: Final = {kind: request.success for kind, request in REQUESTS.items()}


class WorkflowClient:
    """Sends requests to the API over its own connection."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self.endpoint = endpoint
        self.connection = HttpConnection(endpoint.address)
        self._timeouts = timeouts

    def post(
        self,
        kind: RequestKind,
        body: bytes | Mapping[str, Any],
        key_index: int,
        trace: str,
        expected: int | None = None,
    ) -> Answer:
        """Run or submit a workflow. ``trace`` is a ``traceparent``.

        If ``expected`` is given, this status counts as ok instead of the documented status.
        """
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._send(kind, self.endpoint.post(kind, content, key_index, trace), None, expected)

    def get(self, kind: RequestKind, job_id: str, key_index: int, trace: str, expected: int | None = None) -> Answer:
        """Retrieve or poll a job. ``trace`` and ``expected`` are as in ``post``.

        If the server closes the idle connection while the request is on its way, the request is sent once more, because
        it is idempotent.
        """
        return self._send(kind, self.endpoint.get(kind, job_id, key_index, trace), job_id, expected)

    def _send(self, kind: RequestKind, request: bytes, job_id: str | None, expected: int | None) -> Answer:
        budget = self.endpoint.budget
        budget.take_request(kind)
        exchange = self.connection.exchange(request, self._timeouts)
        if job_id is not None and exchange.hung_up:
            with suppress(BudgetSpentError):
                budget.take_request(kind)
                exchange = self.connection.exchange(request, self._timeouts, exchange.start)
        budget.answered(kind, exchange.status)
        answer = interpret(kind, exchange, job_id, expected)
        exchange.body = b""
        return answer


def interpret(
    kind: RequestKind, exchange: HttpExchange, job_id: str | None = None, expected: int | None = None
) -> Answer:
    """Return an exchange with its outcome, its reason and the fields of its body.

    A retrieval of a failed job is an ok *request*. The user class decides whether the operation is ok. If ``expected``
    differs from the documented status, bodies are not checked.
    """
    if exchange.failure is not None:
        outcome: Outcome = Outcome.TIMED_OUT if exchange.timed_out else Outcome.FAILED
        reason = Reason.HUNG_UP if exchange.hung_up else exchange.failure
        return Answer(exchange=exchange, outcome=outcome, reason=reason, job_id=job_id)
    success = _SUCCESS[kind]
    if exchange.status != success or expected not in {None, success}:
        return _other_status(exchange, job_id, expected)
    code = None
    try:
        if kind == RequestKind.RUN:
            run = _run.decode(exchange.body)
            return Answer(
                exchange=exchange, outcome=Outcome.OK, execution_time_ms=run.execution_time, result=run.result
            )
        if kind == RequestKind.SUBMIT:
            submit = _submit.decode(exchange.body)
            return Answer(exchange=exchange, outcome=Outcome.OK, job_id=submit.job_id, job_state=submit.status)
        return _job_answer(exchange, _job.decode(exchange.body), job_id)
    except msgspec.ValidationError as error:
        reason = Reason.WRONG_SHAPE
        code = _amiss(kind, exchange.body, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = Reason.INVALID_JSON
    return Answer(exchange=exchange, outcome=Outcome.FAILED, reason=reason, error_code=code, job_id=job_id)


def _amiss(kind: RequestKind, body: bytes, error: str) -> str | None:
    """Describe what is wrong with a body: all missing keys, or the first other error if no key is missing.

    The description quotes no text of the target, so that a report has few different descriptions.
    """
    fields = msgspec.structs.fields(_SHAPES.get(kind, _JobBody))
    try:
        there = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return "no object"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the first decoder stopped early, and the rest is not JSON
    if missing := [field.encode_name for field in fields if field.required and field.encode_name not in there]:
        return f"without {' and '.join(missing)}"
    said, _, where = error.replace("`", "").partition(" - at $.")
    return f"{where}: {said[:1].lower()}{said[1:]}"


def _job_answer(exchange: HttpExchange, job: _JobBody, job_id: str | None) -> Answer:
    answer = Answer(exchange=exchange, outcome=Outcome.OK, job_id=job_id, job_state=job.status)
    missing = []
    if job.status in TERMINAL:
        answer.execution_time_ms = job.execution_time
        answer.result = job.result
        there = {
            "executionTime": job.execution_time is not None,
            "result": job.status != JobState.COMPLETED or isinstance(job.result, dict),
            "error": job.status != JobState.FAILED or isinstance(job.error, str),
        }
        missing = [key for key, fine in there.items() if not fine]
    if job.job_id != job_id:
        answer.outcome = Outcome.FAILED
        answer.reason = Reason.WRONG_JOB
    elif missing:
        answer.outcome = Outcome.FAILED
        answer.reason = Reason.WRONG_SHAPE
        answer.error_code = f"{job.status} without {' and '.join(missing)}"
    return answer


def _other_status(exchange: HttpExchange, job_id: str | None, expected: int | None) -> Answer:
    try:
        code = _error.decode(exchange.body).code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        code = None
    answer = Answer(exchange=exchange, outcome=Outcome.FAILED, error_code=code, job_id=job_id)
    status = exchange.status or 0
    if status == expected:
        answer.outcome = Outcome.OK
    elif status == THROTTLED_STATUS:
        answer.outcome = Outcome.THROTTLED
        answer.reason = Reason.THROTTLED
    else:
        answer.reason = Reason.REDIRECT if 300 <= status < 400 else Reason.UNEXPECTED_STATUS
    return answer
