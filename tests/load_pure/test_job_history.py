"""Answers about a job are held against what the same run was told of it before."""

import pytest

from loadtest.load.client import Answer
from loadtest.load.history import JobHistory
from loadtest.load.wire import Exchange
from loadtest.samples import Kind


def told(
    history: JobHistory, kind: Kind, state: str, start: int, end: int, *, job_id: str = "a"
) -> tuple[str, str | None]:
    """What becomes of one answer."""
    answer = Answer(exchange=Exchange(start=start, end=end, status=200), outcome="ok", job_id=job_id, job_state=state)
    history.check(kind, answer)
    return answer.outcome, answer.reason


OK = ("ok", None)


def test_an_id_is_given_once() -> None:
    """The second submit with an id has failed; another id has not."""
    history = JobHistory()
    assert told(history, "submit", "pending", 0, 1) == OK
    assert told(history, "submit", "pending", 2, 3) == ("failed", "duplicate_job_id")
    assert told(history, "submit", "pending", 4, 5, job_id="b") == OK


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_job_that_ended_is_not_pending_again(state: str) -> None:
    """Pending after an end has failed; the end again has not, nor has what was asked before the end was known."""
    history = JobHistory()
    assert told(history, "poll", "pending", 0, 1) == OK
    assert told(history, "poll", state, 2, 5) == OK
    assert told(history, "retrieve", "pending", 4, 9) == OK
    assert told(history, "retrieve", "pending", 5, 6) == ("failed", "back_to_pending")
    assert told(history, "retrieve", state, 7, 8) == OK
    assert told(history, "retrieve", "pending", 7, 8, job_id="b") == OK
