"""The codes of the reference API's errors, each with its usual status.

Assumption: the documentation gives errors a ``code`` and lists none, nor every status that is used here. A server can
be told to answer any of them otherwise (``--answer``), which is why scenarios must know them, too.
"""

from typing import Final, Literal, get_args

ErrorCode = Literal[
    "missing_api_key",
    "invalid_api_key",
    "missing_endpoint",
    "unknown_endpoint",
    "malformed_http",
    "unknown_route",
    "method_not_allowed",
    "rate_limit_exceeded",
    "body_too_large",
    "invalid_json",
    "invalid_request",
    "unknown_workflow",
    "invalid_parameters",
    "queue_full",
    "unknown_job",
    "workflow_failed",
    "run_timeout",
    "internal",
    "shutting_down",
]

ERROR_CODES: Final[tuple[ErrorCode, ...]] = get_args(ErrorCode)
