"""The states of a job and every way from one to another."""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """Accepted; waits for a worker."""
    RUNNING = "running"
    """A worker executes it."""
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its retention is over: its id is unknown."""


class Event(StrEnum):
    """What moves a job on."""

    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    EXPIRE = "expire"


FIRST: Final = State.QUEUED
"""Where a job begins."""

TRANSITIONS: Final = {
    (State.QUEUED, Event.START): State.RUNNING,
    (State.RUNNING, Event.SUCCEED): State.COMPLETED,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.COMPLETED, Event.EXPIRE): State.EXPIRED,
    (State.FAILED, Event.EXPIRE): State.EXPIRED,
}
"""Every transition that exists."""

STATUS: Final[dict[State, str | None]] = {
    State.QUEUED: "pending",
    State.RUNNING: "pending",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.EXPIRED: None,
}
"""The documented ``status`` that a retrieval shows; None where it answers 404."""

TERMINAL: Final = frozenset({State.COMPLETED, State.FAILED})
"""States whose answer never changes again: all that may follow is that it is forgotten."""


def move(state: State, event: Event) -> State:
    """The state that follows.

    Raises:
        RuntimeError: if there is no such transition.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise RuntimeError(f"a job that is {state} cannot {event}")
    return following
