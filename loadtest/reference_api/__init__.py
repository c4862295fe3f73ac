"""The reference Workflow API, in a separate process: a target for load tests without a real service.

It keeps the documented contract (``ARCHITECTURE.md``). Where the documentation is silent it makes assumptions, labelled
"Assumption" where they are implemented. A real service may differ, so the harness measures and never assumes.

Custom workflow modules import what they need from here (see ``docs/reference-api.md``), without importing the server.
"""

import threading

__all__ = ["WorkflowFailedError", "cancelled", "command"]


class WorkflowFailedError(Exception):
    """The workflow failed; its message is for the caller."""


class StopFlag:
    """Tells a function in a thread to end early."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False
        """Whether the function's result is no longer needed."""


class _CurrentThread(threading.local):
    flag: StopFlag | None = None


current_thread = _CurrentThread()
"""The flag of the function that this thread executes."""


def cancelled() -> bool:
    """Whether the result is no longer needed: the client hung up, the time limit has passed, or the server stops.

    A long plain function should call this from time to time, and return early. A coroutine function always gets False,
    because a coroutine is cancelled where it waits.
    """
    flag = current_thread.flag
    return flag is not None and flag.stopped
