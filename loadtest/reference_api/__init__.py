"""The reference Workflow API, in a process of its own: what a load test runs against when no service is at hand.

It keeps the documented contract (``ARCHITECTURE.md``). Where the documentation is silent it makes assumptions, each
labelled "Assumption" where it is implemented; a real service may differ, so the harness measures and never assumes.

A module with workflows of one's own imports what it needs from here (see ``docs/workflows.md``); no part of the server
comes with it.
"""

import threading

__all__ = ["WorkflowFailedError", "cancelled", "command"]


class WorkflowFailedError(Exception):
    """The workflow ended in failure, as a workflow may; its message is for the caller."""


class StopFlag:
    """Whether a function that executes in a thread should end early."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False
        """Nobody waits for its result any more."""


class _CurrentThread(threading.local):
    flag: StopFlag | None = None


current_thread = _CurrentThread()
"""The flag of the function that this thread executes."""


def cancelled() -> bool:
    """Whether nobody waits for the result: the client hung up, the time limit has passed, or the server stops.

    A plain function that takes long asks this now and then, and returns early. In a coroutine function, which is
    cancelled where it waits, it is always False.
    """
    flag = current_thread.flag
    return flag is not None and flag.stopped
