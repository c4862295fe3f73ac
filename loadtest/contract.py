"""Vocabulary of the Workflow REST API: operations, requests, limits, job states, errors, outcomes and reasons.

All other modules import these names instead of spelling them. The members of the enumerations are strings, and files
contain their text.

Source: the API's documentation, "Rate limits": synchronous runs 100 requests per minute, asynchronous submits 1000 per
minute, retrieval of results 500 per minute. A request beyond a limit is answered with 429. The documentation specifies
neither the algorithm nor whether limits are per key (see ``ARCHITECTURE.md``).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Self

from loadtest.units import Limit


class Word(StrEnum):
    """A string enumeration whose ``repr`` is the quoted text."""

    def __repr__(self) -> str:
        return repr(str(self))

    @classmethod
    def _made(cls, word: str, **about: str | int) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        vars(member).update(about)
        return member


class _Counted(Word):
    """A word with a singular and a plural for sentences."""

    one: str
    several: str

    def __new__(cls, word: str, one: str = "", several: str = "") -> Self:
        return cls._made(word, one=one, several=several)

    def called(self, count: int) -> str:
        return self.one if count == 1 else self.several


class Operation(_Counted):
    """The kinds of operation that an arrival can start."""

    SYNC_RUN = "sync_run", "sync run", "sync runs"
    ASYNC_RUN = "async_run", "job", "jobs"
    RETRIEVAL = "retrieval", "retrieval", "retrievals"


class RequestKind(_Counted):
    """The kinds of HTTP request. The kinds that start an operation come first."""

    RUN = "run", "run request", "run requests"
    SUBMIT = "submit", "submit", "submits"
    RETRIEVE = "retrieve", "retrieval", "retrievals"
    POLL = "poll", "poll", "polls"


class LimitName(Word):
    """A documented rate limit."""

    SYNC_RUN = "sync_run"
    ASYNC_SUBMIT = "async_submit"
    RETRIEVAL = "retrieval"


ALL: Final = "all"
"""The name of a limit on all requests together."""

LIMIT_NAMES: Final = tuple(LimitName)

DOCUMENTED: Final[dict[LimitName, Limit]] = {
    LimitName.SYNC_RUN: Limit(100, 60.0),
    LimitName.ASYNC_SUBMIT: Limit(1000, 60.0),
    LimitName.RETRIEVAL: Limit(500, 60.0),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A kind of request, as the API's documentation describes it."""

    method: str
    path: str
    """If the path ends with a slash, a job id follows."""
    success: int
    """The status of a successful response."""
    limit: LimitName
    executes: bool = False
    """Whether the request makes the target execute a workflow."""


JOB_PREFIX: Final = "/v1/workflows/jobs/"

REQUESTS: Final[dict[RequestKind, Request]] = {
    RequestKind.RUN: Request("POST", "/v1/workflows/run", 200, LimitName.SYNC_RUN, executes=True),
    RequestKind.SUBMIT: Request("POST", "/v1/workflows/jobs", 202, LimitName.ASYNC_SUBMIT, executes=True),
    RequestKind.RETRIEVE: Request("GET", JOB_PREFIX, 200, LimitName.RETRIEVAL),
    RequestKind.POLL: Request("GET", JOB_PREFIX, 200, LimitName.RETRIEVAL),
}

OPERATIONS: Final[dict[Operation, tuple[RequestKind, ...]]] = {
    Operation.SYNC_RUN: (RequestKind.RUN,),
    Operation.ASYNC_RUN: (RequestKind.SUBMIT, RequestKind.POLL),
    Operation.RETRIEVAL: (RequestKind.RETRIEVE,),
}
"""The requests of each operation. The first request starts the operation, and the others may follow."""

FIRST_KIND: Final = {operation: kinds[0] for operation, kinds in OPERATIONS.items()}

FIRST_KINDS: Final = frozenset(FIRST_KIND.values())

JOB_KINDS: Final = frozenset(kind for kind, request in REQUESTS.items() if request.path == JOB_PREFIX)
"""Kinds of request that name a job by its id."""

JOB_OPERATIONS: Final = tuple(operation for operation, kind in FIRST_KIND.items() if kind in JOB_KINDS)
"""Operations on an existing job. The job was seeded, submitted during the run, or listed in a file."""

POLLED_OPERATIONS: Final = tuple(operation for operation, kinds in OPERATIONS.items() if RequestKind.POLL in kinds)
"""Operations that submit a job and poll it."""

EXECUTING_KINDS: Final = frozenset(kind for kind, request in REQUESTS.items() if request.executes)

EXECUTING_OPERATIONS: Final = tuple(operation for operation, kind in FIRST_KIND.items() if kind in EXECUTING_KINDS)

EXECUTING_LIMITS: Final = tuple(request.limit for request in REQUESTS.values() if request.executes)

LIMIT_OF_KIND: Final = {kind: request.limit for kind, request in REQUESTS.items()}

LIMIT_OF_OPERATION: Final = {operation: LIMIT_OF_KIND[kind] for operation, kind in FIRST_KIND.items()}
"""The limit of an operation's first request. A rate "of limit" refers to this limit."""

LIMITS_OF_OPERATION: Final = {
    operation: tuple(dict.fromkeys(LIMIT_OF_KIND[kind] for kind in kinds)) for operation, kinds in OPERATIONS.items()
}
"""All limits that an operation's requests count against."""

THROTTLED_STATUS: Final = 429


class JobState(Word):
    """The states of a job that the API reports."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED})
"""The states that a job never leaves."""


class ErrorCode(Word):
    """The error codes of the reference API, each with its default ``status``.

    They are assumptions: the API's documentation says that errors have a ``code``, but lists neither the codes nor all
    statuses used here. The option ``--answer`` and the scenario's key ``answers`` name a code and change its answer.
    """

    status: int

    def __new__(cls, code: str, status: int) -> Self:
        return cls._made(code, status=status)

    MISSING_API_KEY = "missing_api_key", 401
    INVALID_API_KEY = "invalid_api_key", 401
    MISSING_ENDPOINT = "missing_endpoint", 400
    UNKNOWN_ENDPOINT = "unknown_endpoint", 404
    MALFORMED_HTTP = "malformed_http", 400
    HEADERS_TOO_LARGE = "headers_too_large", 431
    UNSUPPORTED_CODING = "unsupported_coding", 501
    UNKNOWN_ROUTE = "unknown_route", 404
    METHOD_NOT_ALLOWED = "method_not_allowed", 405
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded", THROTTLED_STATUS
    BODY_TOO_LARGE = "body_too_large", 413
    INVALID_JSON = "invalid_json", 400
    INVALID_REQUEST = "invalid_request", 400
    UNKNOWN_WORKFLOW = "unknown_workflow", 404
    INVALID_PARAMETERS = "invalid_parameters", 400
    QUEUE_FULL = "queue_full", 503
    UNKNOWN_JOB = "unknown_job", 404
    WORKFLOW_FAILED = "workflow_failed", 500
    RUN_TIMEOUT = "run_timeout", 500
    INTERNAL = "internal", 500
    SHUTTING_DOWN = "shutting_down", 503


ERROR_CODES: Final = tuple(ErrorCode)


class Outcome(Word):
    """The ways in which an operation can end. A request can end only in the first four ways."""

    OK = "ok"
    THROTTLED = "throttled"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DROPPED = "dropped"
    LOST = "lost"


TIMED: Final = frozenset({Outcome.OK, Outcome.TIMED_OUT})
"""Outcomes that latency figures include."""

ERRORS: Final = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})


class Reason(Word):
    """The reasons why a request or operation is not ok, each with a ``sentence`` that explains it.

    ``docs/record.md`` lists them all.
    """

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        return cls._made(word, sentence=sentence)

    THROTTLED = "throttled", "The target answered with 429."

    CONNECT_TIMEOUT = "connect_timeout", "No connection was made within connect_timeout, TLS included."
    READ_TIMEOUT = "read_timeout", "The target was silent for longer than read_timeout."
    TIMEOUT = "timeout", "No complete answer came within timeout."
    GIVE_UP = "give_up", "The job had not ended when the polling policy gave up."
    DRAIN = "drain", "The run ended before the operation had ended."

    CONNECTION_REFUSED = "connection_refused", "Nothing listens at the target's address."
    CONNECT_FAILED = "connect_failed", "The target's address cannot be reached."
    ADDRESS_NOT_ALLOWED = "address_not_allowed", "The target's name resolves to an address that is not allowed."
    CERTIFICATE_UNTRUSTED = "certificate_untrusted", "The target's certificate is not signed by a trusted authority."
    CERTIFICATE_WRONG_NAME = "certificate_wrong_name", "The target's certificate is for another name."
    CERTIFICATE_EXPIRED = "certificate_expired", "The target's certificate has expired."
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid", "The target's certificate is not valid yet."
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused", "The target refused the client's certificate."
    TLS_FAILED = "tls_failed", "TLS failed, during the handshake or later, or the target does not support TLS."
    CONNECTION_RESET = "connection_reset", "The target reset the connection."
    CONNECTION_CLOSED = "connection_closed", "The target closed the connection before the answer began."
    CONNECTION_FAILED = "connection_failed", "The network failed during the exchange."
    HUNG_UP = "hung_up", "The target closed a reused connection before the answer began."
    TRUNCATED = "truncated", "The connection closed before the answer was complete."
    MALFORMED_HTTP = "malformed_http", "The answer breaks the rules of HTTP."
    HEAD_TOO_LARGE = "head_too_large", "The answer has more than 256 KiB before its body."
    ANSWER_TOO_LARGE = (
        "answer_too_large",
        "The answer exceeds 16 MiB, decompressed or not, or the answers being read exceed 512 MiB in all.",
    )
    UNKNOWN_ENCODING = "unknown_encoding", "The answer's compression was not requested, or is unknown."
    UNDECODABLE_BODY = "undecodable_body", "The compressed body is damaged."
    REDIRECT = "redirect", "The target redirected; redirects are not followed."
    UNEXPECTED_STATUS = "unexpected_status", "The status differs from the expected status."
    INVALID_JSON = "invalid_json", "The body is not JSON."
    WRONG_SHAPE = "wrong_shape", "The body does not have the documented structure."
    WRONG_JOB = "wrong_job", "The answer is about another job."

    DUPLICATE_JOB_ID = "duplicate_job_id", "A submit was answered with the id of another job."
    BACK_TO_PENDING = "back_to_pending", "A job that had ended is pending again."
    JOB_FAILED = "job_failed", "The job failed but was expected to complete."
    JOB_COMPLETED = "job_completed", "The job completed but was expected to fail."
    WRONG_RESULT = "wrong_result", "The result differs from the expected result."
    HARNESS_ERROR = "harness_error", "Internal error of the load generator; see load.log."

    NO_JOB_ID = "no_job_id", "No job existed yet to retrieve."
    NO_USER_FREE = "no_user_free", "No user was free before the end of the run."
    ABORTED = "aborted", "The run was aborted before the operation was sent."
    LEASH = "leash", "The request budget of the target's entry was exhausted."
    WORKER_LOST = "worker_lost", "The worker that should have sent the operation was lost."


JOB_REASONS: Final = {JobState.FAILED: Reason.JOB_FAILED, JobState.COMPLETED: Reason.JOB_COMPLETED}
"""Reasons by the final state of a job. They apply if another state was expected."""

MistakeKind = Literal["unknown_job", "unknown_workflow", "invalid_body", "bad_key"]
MISTAKE_STATUS: Final[dict[MistakeKind, int]] = {
    "unknown_job": ErrorCode.UNKNOWN_JOB.status,
    "unknown_workflow": ErrorCode.UNKNOWN_WORKFLOW.status,
    "invalid_body": ErrorCode.INVALID_REQUEST.status,
    "bad_key": ErrorCode.INVALID_API_KEY.status,
}
"""The documented status of the response to each deliberate mistake."""
