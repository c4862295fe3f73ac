"""The Workflow REST API as this project knows it: operations, requests, limits, job states, errors, outcomes, reasons.

Every other module takes these words from here, and none spells them itself. A new kind of operation is an entry in
``OPERATIONS`` (and in ``REQUESTS``, if it sends a new kind of request), a user class, and its docs.

Source: the API's documentation, "Rate limits": synchronous runs 100 requests per minute, asynchronous submits 1000 per
minute, retrieval of results 500 per minute; a request beyond a limit is answered with 429. The documentation does not
say by which algorithm, nor whether limits are per key: see ``ARCHITECTURE.md``.

The members are strings: they equal their text, and are written to files as it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Self

from loadtest.units import Limit


class Word(StrEnum):
    """A word of the API: it looks like its text in messages, too."""

    def __repr__(self) -> str:
        return repr(str(self))

    @classmethod
    def _made(cls, word: str, **about: str | int) -> Self:
        """A member with what is known of it beside its text."""
        member = str.__new__(cls, word)
        member._value_ = word
        vars(member).update(about)
        return member


class _Counted(Word):
    """A word for what can be counted: what ``one`` and ``several`` of it are called in a sentence."""

    one: str
    several: str

    def __new__(cls, word: str, one: str = "", several: str = "") -> Self:
        return cls._made(word, one=one, several=several)

    def called(self, count: int) -> str:
        """What so many are called."""
        return self.one if count == 1 else self.several


class Operation(_Counted):
    """What an arrival asks for."""

    SYNC_RUN = "sync_run", "sync run", "sync runs"
    ASYNC_RUN = "async_run", "job", "jobs"
    RETRIEVAL = "retrieval", "retrieval", "retrievals"


class RequestKind(_Counted):
    """One HTTP exchange. Those that begin an operation come first."""

    RUN = "run", "run", "runs"
    SUBMIT = "submit", "submit", "submits"
    RETRIEVE = "retrieve", "retrieval", "retrievals"
    POLL = "poll", "poll", "polls"


class LimitName(Word):
    """A documented rate limit."""

    SYNC_RUN = "sync_run"
    ASYNC_SUBMIT = "async_submit"
    RETRIEVAL = "retrieval"


ALL: Final = "all"
"""Stands for a limit's name where one limit holds for all requests together."""

LIMIT_NAMES: Final = tuple(LimitName)

DOCUMENTED: Final[dict[LimitName, Limit]] = {
    LimitName.SYNC_RUN: Limit(100, 60.0),
    LimitName.ASYNC_SUBMIT: Limit(1000, 60.0),
    LimitName.RETRIEVAL: Limit(500, 60.0),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is documented of a kind of request.

    Attributes:
        method: of HTTP.
        path: where it goes; a job's id follows where it ends with a slash.
        success: the status of its success.
        limit: the limit that it draws on.
        executes: whether it makes the target execute a workflow.
    """

    method: str
    path: str
    success: int
    limit: LimitName
    executes: bool = False


RUN_PATH: Final = "/v1/workflows/run"
JOBS_PATH: Final = "/v1/workflows/jobs"
JOB_PREFIX: Final = JOBS_PATH + "/"

REQUESTS: Final[dict[RequestKind, Request]] = {
    RequestKind.RUN: Request("POST", RUN_PATH, 200, LimitName.SYNC_RUN, executes=True),
    RequestKind.SUBMIT: Request("POST", JOBS_PATH, 202, LimitName.ASYNC_SUBMIT, executes=True),
    RequestKind.RETRIEVE: Request("GET", JOB_PREFIX, 200, LimitName.RETRIEVAL),
    RequestKind.POLL: Request("GET", JOB_PREFIX, 200, LimitName.RETRIEVAL),
}

OPERATIONS: Final[dict[Operation, tuple[RequestKind, ...]]] = {
    Operation.SYNC_RUN: (RequestKind.RUN,),
    Operation.ASYNC_RUN: (RequestKind.SUBMIT, RequestKind.POLL),
    Operation.RETRIEVAL: (RequestKind.RETRIEVE,),
}
"""The requests of each operation: the one that begins it, and what may follow."""

FIRST_KIND: Final = {operation: kinds[0] for operation, kinds in OPERATIONS.items()}
"""The kind of request that an operation begins with."""

FIRST_KINDS: Final = frozenset(FIRST_KIND.values())

JOB_KINDS: Final = frozenset(kind for kind, request in REQUESTS.items() if request.path == JOB_PREFIX)
"""Requests about one job, by its id."""

JOB_OPERATIONS: Final = tuple(operation for operation, kind in FIRST_KIND.items() if kind in JOB_KINDS)
"""Operations on a job that exists already: one that was seeded, one of the run, or one of a file."""

POLLED_OPERATIONS: Final = tuple(operation for operation, kinds in OPERATIONS.items() if RequestKind.POLL in kinds)
"""Operations that submit a job and poll it: their requests are several, and their result is there later."""

EXECUTING_KINDS: Final = frozenset(kind for kind, request in REQUESTS.items() if request.executes)

EXECUTING_OPERATIONS: Final = tuple(operation for operation, kind in FIRST_KIND.items() if kind in EXECUTING_KINDS)
"""Operations that make the target execute a workflow."""

EXECUTING_LIMITS: Final = tuple(request.limit for request in REQUESTS.values() if request.executes)
"""The limits on requests that make the target execute a workflow."""

LIMIT_OF_KIND: Final = {kind: request.limit for kind, request in REQUESTS.items()}

LIMIT_OF_OPERATION: Final = {operation: LIMIT_OF_KIND[kind] for operation, kind in FIRST_KIND.items()}
"""The limit that an operation's first request draws on. A rate "of limit" refers to it."""

LIMITS_OF_OPERATION: Final = {
    operation: tuple(dict.fromkeys(LIMIT_OF_KIND[kind] for kind in kinds)) for operation, kinds in OPERATIONS.items()
}
"""Every limit that an operation's requests draw on."""

THROTTLED_STATUS: Final = 429


class JobState(Word):
    """What a retrieval says of a job."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED})
"""States that a job never leaves again."""


class ErrorCode(Word):
    """The codes of the reference API's errors, each with its usual ``status``.

    Assumption: the documentation gives errors a ``code`` and lists none, nor every status that is used here. A server
    can be told to answer any of them otherwise (``--answer``), which is why scenarios must know them, too.
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
    """How an operation ended; requests use the first four."""

    OK = "ok"
    THROTTLED = "throttled"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DROPPED = "dropped"
    LOST = "lost"


TIMED: Final = frozenset({Outcome.OK, Outcome.TIMED_OUT})
"""Outcomes whose operations are in latency figures."""

ERRORS: Final = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})


class Reason(Word):
    """Why a request or an operation is not ok, each with the ``sentence`` that explains it.

    ``docs/client.md`` names them all.
    """

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        return cls._made(word, sentence=sentence)

    THROTTLED = "throttled", "The target answered with 429."

    CONNECT_TIMEOUT = "connect_timeout", "No connection was made within connect_timeout, TLS included."
    READ_TIMEOUT = "read_timeout", "The target was silent for longer than read_timeout."
    TIMEOUT = "timeout", "No complete answer came within timeout."
    GIVE_UP = "give_up", "The job had not ended when the polling policy gave up."
    DRAIN = "drain", "The run ended before the answer came."

    CONNECTION_REFUSED = "connection_refused", "Nothing listens at the target's address."
    CONNECT_FAILED = "connect_failed", "The target's address cannot be reached."
    ADDRESS_NOT_ALLOWED = "address_not_allowed", "The target's name leads to an address that may not be loaded."
    CERTIFICATE_UNTRUSTED = "certificate_untrusted", "No trusted authority vouches for the target's certificate."
    CERTIFICATE_WRONG_NAME = "certificate_wrong_name", "The target's certificate is for another name."
    CERTIFICATE_EXPIRED = "certificate_expired", "The target's certificate has expired."
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid", "The target's certificate is not valid yet."
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused", "The target refused the client's certificate."
    TLS_FAILED = "tls_failed", "The target broke off TLS, or does not speak it."
    CONNECTION_RESET = "connection_reset", "The target reset the connection."
    CONNECTION_CLOSED = "connection_closed", "The target closed the connection before the answer began."
    CONNECTION_FAILED = "connection_failed", "The network failed during the exchange."
    HUNG_UP = "hung_up", "The target closed an idle connection while the request was on its way."
    TRUNCATED = "truncated", "The connection ended within the answer."
    MALFORMED_HTTP = "malformed_http", "The answer breaks the rules of HTTP."
    HEAD_TOO_LARGE = "head_too_large", "The answer has more than 256 KiB before its body."
    ANSWER_TOO_LARGE = (
        "answer_too_large",
        "The answer has more than 16 MiB, decompressed or not, or all that are being read have more than 512.",
    )
    UNKNOWN_ENCODING = "unknown_encoding", "The answer is compressed in a way that was not asked for, or is not known."
    UNDECODABLE_BODY = "undecodable_body", "The compressed body is damaged."
    REDIRECT = "redirect", "The target redirected; redirects are not followed."
    UNEXPECTED_STATUS = "unexpected_status", "The status is not the expected one."
    INVALID_JSON = "invalid_json", "The body is not JSON."
    WRONG_SHAPE = "wrong_shape", "The body is not the documented one."
    WRONG_JOB = "wrong_job", "The answer is about another job."

    DUPLICATE_JOB_ID = "duplicate_job_id", "A submit was answered with the id of another job."
    BACK_TO_PENDING = "back_to_pending", "A job that had ended is pending again."
    JOB_FAILED = "job_failed", "The job failed, and was to complete."
    JOB_COMPLETED = "job_completed", "The job completed, and was to fail."
    WRONG_RESULT = "wrong_result", "The result is not the expected one."
    HARNESS_ERROR = "harness_error", "An error of the load generator's own; load.log has it."

    NO_JOB_ID = "no_job_id", "There was no job yet to ask for."
    NO_USER_FREE = "no_user_free", "No user was free before the end of the run."
    ABORTED = "aborted", "The run was aborted before it was sent."
    LEASH = "leash", "The request budget of the target's entry was spent."
    WORKER_LOST = "worker_lost", "The worker that was to send it was lost."


JOB_REASONS: Final = {JobState.FAILED: Reason.JOB_FAILED, JobState.COMPLETED: Reason.JOB_COMPLETED}
"""Why an operation failed whose job ended in this state, and was to end in the other."""

MistakeKind = Literal["unknown_job", "unknown_workflow", "invalid_body", "bad_key"]
MISTAKE_STATUS: Final[dict[MistakeKind, int]] = {
    "unknown_job": ErrorCode.UNKNOWN_JOB.status,
    "unknown_workflow": ErrorCode.UNKNOWN_WORKFLOW.status,
    "invalid_body": ErrorCode.INVALID_REQUEST.status,
    "bad_key": ErrorCode.INVALID_API_KEY.status,
}
"""The status that each deliberate mistake expects, as the documentation lists them."""
