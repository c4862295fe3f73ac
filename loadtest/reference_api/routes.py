"""Which path is which kind of request, and draws on which limit."""

from typing import Final

from loadtest.limits import LimitName
from loadtest.reference_api.answers import ApiError, Scope

RUN_PATH: Final = "/v1/workflows/run"
JOBS_PATH: Final = "/v1/workflows/jobs"
JOB_PREFIX: Final = JOBS_PATH + "/"


def route(scope: Scope, path: str) -> LimitName:
    """The limit name that a path draws on: there is one for each route.

    Raises:
        ApiError: 404 ``unknown_route``, 405 ``method_not_allowed``.
    """
    if path.startswith(JOB_PREFIX) and len(path) > len(JOB_PREFIX):
        allow(scope, "GET")
        return "retrieval"
    if path == RUN_PATH:
        allow(scope, "POST")
        return "sync_run"
    if path == JOBS_PATH:
        allow(scope, "POST")
        return "async_submit"
    raise ApiError(404, "unknown_route", "There is nothing at this path")


def allow(scope: Scope, method: str) -> None:
    """Let only ``method`` pass.

    Raises:
        ApiError: 405 ``method_not_allowed``, with the ``Allow`` header.
    """
    if scope["method"] != method:
        headers = ((b"allow", method.encode()),)
        raise ApiError(405, "method_not_allowed", f"Only {method} is allowed here", {"allow": [method]}, headers)
