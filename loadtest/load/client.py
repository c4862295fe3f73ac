"""WorkflowClient: the three requests of the API, sent and understood.

Request bytes are put together from parts made once; answers are decoded straight into typed structures.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec

from loadtest.load.wire import Address, Exchange, Wire
from loadtest.samples import Kind, Outcome

TERMINAL: Final = frozenset({"completed", "failed"})
_PATHS: Final = {"run": "/v1/workflows/run", "submit": "/v1/workflows/jobs", "retrieve": "/v1/workflows/jobs/"}
_Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
_State = Annotated[str, msgspec.Meta(max_length=200)]


class RunAnswer(msgspec.Struct, rename="camel", gc=False):
    """200 of a sync run; ``executionTime`` in ms."""

    result: dict[str, Any]
    execution_time: _Milliseconds


class SubmitAnswer(msgspec.Struct, rename="camel", gc=False):
    """202 of a submit."""

    job_id: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    status: _State


class JobAnswer(msgspec.Struct, rename="camel", gc=False):
    """200 of a retrieval."""

    job_id: str
    status: _State
    result: Any = None
    error: Any = None
    execution_time: _Milliseconds | None = None


class ErrorAnswer(msgspec.Struct, gc=False):
    """The API's error body, as far as it is used."""

    code: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """An exchange, understood."""

    exchange: Exchange
    outcome: Outcome
    reason: str | None = None
    error_code: str | None = None
    execution_time_ms: float | None = None
    job_id: str | None = None
    job_state: str | None = None


_run = msgspec.json.Decoder(RunAnswer)
_submit = msgspec.json.Decoder(SubmitAnswer)
_job = msgspec.json.Decoder(JobAnswer)
_error = msgspec.json.Decoder(ErrorAnswer)
_SUCCESS: Final[dict[Kind, int]] = {"run": 200, "submit": 202, "poll": 200, "retrieve": 200}


class Endpoint:
    """Where the API is and with which keys it is asked: made once, shared by all clients.

    Args:
        address: where to connect to.
        host: value of the Host header.
        prefix: path before ``/v1``, without a slash at its end.
        keys: API keys; request n of key index i is sent with ``keys[i]``.
        workflow_endpoint: value of ``x-wf-endpoint``.
        user_agent: product, version and run.
    """

    def __init__(
        self, address: Address, *, host: str, prefix: str, keys: Sequence[str], workflow_endpoint: str, user_agent: str
    ) -> None:
        self.address = address
        self.key_count = len(keys)
        self._prefix = quote(prefix, safe="/%:@!$&'()*+,;=~")
        # A scenario's file name is in the run's id, and may hold anything.
        agent = re.sub(r"[^\x20-\x7e]", "?", user_agent)
        common = f" HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: application/json\r\n"
        self._heads = [
            f"{common}x-api-key: {key}\r\nx-wf-endpoint: {workflow_endpoint}\r\n".encode("latin-1") for key in keys
        ]

    def post(self, kind: Kind, workflow: str, parameters: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        """Everything of a run or submit but its ``traceparent``: for each key, what comes before and after it."""
        body = msgspec.json.encode({"name": workflow, "parameters": parameters})
        line = f"POST {self._prefix}{_PATHS[kind]}".encode()
        length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\ntraceparent: ".encode()
        return [(line + head + length, b"\r\n\r\n" + body) for head in self._heads]

    def get(self, job_id: str, key_index: int, trace: str) -> bytes:
        """A whole retrieval. The id is quoted, since it comes from outside."""
        line = f"GET {self._prefix}{_PATHS['retrieve']}{quote(job_id, safe='')}".encode()
        return line + self._heads[key_index] + f"traceparent: {trace}\r\n\r\n".encode()


class WorkflowClient:
    """Sends requests to the API over one connection of its own.

    Args:
        endpoint: where to.
        timeout: seconds for each request, from its start to its complete answer.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self.wire = Wire(endpoint.address)
        self._timeout = timeout

    def post(self, kind: Kind, template: tuple[bytes, bytes], trace: str) -> Answer:
        """Run or submit a workflow; ``template`` is one of ``Endpoint.post``."""
        before, after = template
        return understand(kind, self.wire.exchange(before + trace.encode() + after, self._timeout))

    def get(self, kind: Kind, job_id: str, key_index: int, trace: str) -> Answer:
        """Retrieve a job, or poll it."""
        exchange = self.wire.exchange(self.endpoint.get(job_id, key_index, trace), self._timeout)
        return understand(kind, exchange, job_id)

    def close(self) -> None:
        """Close the connection."""
        self.wire.close()


def understand(kind: Kind, exchange: Exchange, job_id: str | None = None) -> Answer:
    """Say what an exchange means: its outcome, and why where it is not ok. Pure.

    A job that failed is an ok *request*; what it means for the operation is the user's to say.
    """
    if exchange.failure is not None:
        outcome: Outcome = "timed_out" if exchange.timed_out else "failed"
        return Answer(exchange=exchange, outcome=outcome, reason=exchange.failure, job_id=job_id)
    if exchange.status != _SUCCESS[kind]:
        return _refused(exchange, job_id)
    try:
        if kind == "run":
            run = _run.decode(exchange.body)
            return Answer(exchange=exchange, outcome="ok", execution_time_ms=run.execution_time)
        if kind == "submit":
            submit = _submit.decode(exchange.body)
            return Answer(exchange=exchange, outcome="ok", job_id=submit.job_id, job_state=submit.status)
        return _job_answer(exchange, _job.decode(exchange.body), job_id)
    except msgspec.ValidationError:
        return Answer(exchange=exchange, outcome="failed", reason="wrong_shape", job_id=job_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer(exchange=exchange, outcome="failed", reason="invalid_json", job_id=job_id)


def _job_answer(exchange: Exchange, job: JobAnswer, job_id: str | None) -> Answer:
    reason = None
    terminal = job.status in TERMINAL
    if job.job_id != job_id:
        reason = "wrong_job"
    elif (
        (terminal and job.execution_time is None)
        or (job.status == "completed" and not isinstance(job.result, dict))
        or (job.status == "failed" and not isinstance(job.error, str))
    ):
        reason = "wrong_shape"
    return Answer(
        exchange=exchange,
        outcome="ok" if reason is None else "failed",
        reason=reason,
        job_id=job_id,
        job_state=job.status,
        execution_time_ms=job.execution_time if terminal else None,
    )


def _refused(exchange: Exchange, job_id: str | None) -> Answer:
    try:
        code = _error.decode(exchange.body).code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        code = None
    status = exchange.status or 0
    if status == 429:
        return Answer(exchange=exchange, outcome="throttled", reason="throttled", error_code=code, job_id=job_id)
    reason = "redirect" if 300 <= status < 400 else "unexpected_status"
    return Answer(exchange=exchange, outcome="failed", reason=reason, error_code=code, job_id=job_id)
