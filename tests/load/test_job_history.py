"""ResponseParser about a job are held against what the same run was told of it before."""

import pytest

from loadtest.contract import RequestKind
from loadtest.load.client import Answer
from loadtest.load.exchange import HttpExchange
from loadtest.load.payloads import JobHistory


def told(history: JobHistory, kind: RequestKind, state: str, start: int, end: int, *, job_id: str = "a") -> str | None:
    """How one answer contradicts the earlier ones."""
    answer = Answer(
        exchange=HttpExchange(start=start, end=end, status=200), outcome="ok", job_id=job_id, job_state=state
    )
    return history.contradiction(kind, answer)


def test_an_id_is_given_once() -> None:
    """The second submit with an id is a contradiction; one with another id is not."""
    history = JobHistory()
    assert told(history, "submit", "pending", 0, 1) is None
    assert told(history, "submit", "pending", 2, 3) == "duplicate_job_id"
    assert told(history, "submit", "pending", 4, 5, job_id="b") is None


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_job_that_ended_is_not_pending_again(state: str) -> None:
    """Pending after an end is a contradiction; the end again is not, nor what was asked before the end was known."""
    history = JobHistory()
    assert told(history, "poll", "pending", 0, 1) is None
    assert told(history, "poll", state, 2, 5) is None
    assert told(history, "retrieve", "pending", 4, 9) is None
    assert told(history, "retrieve", "pending", 5, 6) == "back_to_pending"
    assert told(history, "retrieve", state, 7, 8) is None
    assert told(history, "retrieve", "pending", 7, 8, job_id="b") is None
