"""How samples become Locust's request events, which feed its statistics and a user's listeners.

Locust's tables know requests by kind and name. A 429 is under a name of its own, since what a refusal took says nothing
of how long answers take. An async run consists of requests, so its row is not counted in *Aggregated*.
"""

from http import HTTPStatus
from typing import Final

from locust.env import Environment
from locust.stats import RequestStats, StatsError

from loadtest.contract import THROTTLED_STATUS, TIMED, Operation, Outcome, Reason, RequestKind
from loadtest.record.samples import Sample

_OPERATION: Final = str(Operation.ASYNC_RUN)
"""The one operation that has a row of its own: the others are their only request, retries aside."""
_PHRASES: Final[dict[int, str]] = {each.value: each.phrase for each in HTTPStatus}
_SENTENCES: Final[dict[str, str]] = {each.value: each.sentence for each in Reason}


class RequestFailure(Exception):  # noqa: N818 - its name is what Locust shows as the error's type
    """A request that failed, with status and meaning, for Locust's statistics."""


def fire_request(environment: Environment, sample: Sample, expected: frozenset[int] | tuple[int, ...]) -> None:
    """Fire Locust's event for a sample, if it is of a request or of an async run."""
    if sample.row == "operation":
        if sample.operation != Operation.ASYNC_RUN or sample.outcome not in TIMED:
            return
        kind, since = _OPERATION, sample.intended_start
    elif sample.kind is not None:
        # A poll is a request of its own; the first request of an operation counts from when it was wanted.
        kind = sample.kind
        since = sample.start if sample.kind == RequestKind.POLL else sample.intended_start
    else:
        return
    if sample.end is None or since is None:
        return
    failed = sample.outcome != Outcome.OK and (sample.status is None or sample.status not in expected)
    environment.events.request.fire(
        request_type=kind,
        name=f"{sample.traffic} {sample.status}" if sample.status == THROTTLED_STATUS else sample.traffic,
        response_time=(sample.end - since) / 1e6,
        response_length=sample.bytes_received or 0,
        exception=RequestFailure(_meaning(sample)) if failed else None,
        context={},
    )


def _meaning(sample: Sample) -> str:
    """Status and code of an answer that is an error; else what went wrong, as a sentence."""
    status = sample.status
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return f"{status} {sample.error_code or _PHRASES.get(status, 'of no known meaning')}"
    why = _SENTENCES.get(sample.reason or "", "it failed").rstrip(".")
    why += f": {sample.error_code}" if sample.error_code else ""
    return why if status is None else f"{why} (status {status})"


def count_operations_apart(stats: RequestStats) -> None:
    """Keep operations out of the total of Locust's statistics: their requests are in it."""
    log_request, log_error = stats.log_request, stats.log_error

    def request(method: str, name: str, response_time: int, content_length: int) -> None:
        if method == _OPERATION:
            stats.entries[(name, method)].log(response_time, content_length)
        else:
            log_request(method, name, response_time, content_length)

    def error(method: str, name: str, error: Exception | str | None) -> None:
        if method != _OPERATION:
            log_error(method, name, error)
            return
        stats.entries[(name, method)].log_error(error)
        found = stats.errors.setdefault(StatsError.create_key(method, name, error), StatsError(method, name, error))
        found.occurred()

    # Of this environment's object alone; its runner has listeners that are bound to it already.
    vars(stats).update(log_request=request, log_error=error)
