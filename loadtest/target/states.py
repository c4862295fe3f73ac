"""The states of a job and every way from one to another.

What is on disk of a job (``--data``) is *queued*, *completed* or *failed*: after a crash it goes on from there, so that
what was *arriving* was never acknowledged, and what was *running* or *saving* is executed again.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job is."""

    ARRIVING = "arriving"
    """Submitted, and not yet on disk: nobody has been told its id."""
    REFUSED = "refused"
    """The disk could not keep it: its submit was answered with an error."""
    QUEUED = "queued"
    """Accepted; waits for a worker."""
    RUNNING = "running"
    """A worker executes it."""
    SAVING = "saving"
    """Executed; its answer is not yet on disk, so nobody has seen it."""
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    """Its retention is over: its id is unknown."""


class Event(StrEnum):
    """What moves a job on."""

    STORE = "store"
    REFUSE = "refuse"
    START = "start"
    SAVE = "save"
    SUCCEED = "succeed"
    FAIL = "fail"
    EXPIRE = "expire"


FIRST: Final = State.QUEUED
"""Where a job begins that is kept in memory."""

FIRST_ON_DISK: Final = State.ARRIVING
"""Where a job begins that is kept on disk."""

TRANSITIONS: Final = {
    (State.ARRIVING, Event.STORE): State.QUEUED,
    (State.ARRIVING, Event.REFUSE): State.REFUSED,
    (State.QUEUED, Event.START): State.RUNNING,
    (State.RUNNING, Event.SUCCEED): State.COMPLETED,  # in memory; on disk by way of SAVING
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.SAVE): State.SAVING,
    (State.SAVING, Event.SUCCEED): State.COMPLETED,
    (State.SAVING, Event.FAIL): State.FAILED,
    (State.COMPLETED, Event.EXPIRE): State.EXPIRED,
    (State.FAILED, Event.EXPIRE): State.EXPIRED,
}
"""Every transition that exists."""

STATUS: Final[dict[State, str | None]] = {
    State.ARRIVING: None,
    State.REFUSED: None,
    State.QUEUED: "pending",
    State.RUNNING: "pending",
    State.SAVING: "pending",
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
