"""Which path is which kind of request, and draws on which limit."""

from loadtest.contract import JOB_PREFIX, JOBS_PATH, RUN_PATH, LimitName
from loadtest.target.answers import ApiError, Scope


def route(scope: Scope, path: str) -> LimitName:
    """The limit name that a path draws on: there is one for each route.

    Raises:
        ApiError: 404 ``unknown_route``, 405 ``method_not_allowed``.
    """
    if path.startswith(JOB_PREFIX) and len(path) > len(JOB_PREFIX):
        allow(scope, "GET")
        return LimitName.RETRIEVAL
    if path == RUN_PATH:
        allow(scope, "POST")
        return LimitName.SYNC_RUN
    if path == JOBS_PATH:
        allow(scope, "POST")
        return LimitName.ASYNC_SUBMIT
    raise ApiError(404, "unknown_route", "There is nothing at this path")


def allow(scope: Scope, method: str) -> None:
    """Let only ``method`` pass.

    Raises:
        ApiError: 405 ``method_not_allowed``, with the ``Allow`` header.
    """
    if scope["method"] != method:
        headers = ((b"allow", method.encode()),)
        raise ApiError(405, "method_not_allowed", f"Only {method} is allowed here", {"allow": [method]}, headers)
