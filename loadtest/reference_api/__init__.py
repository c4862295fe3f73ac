"""The reference Workflow API: a server for load tests when no real service is available. It runs in its own process.

The server keeps the documented contract (``ARCHITECTURE.md``). The word "Assumption" marks behaviour that is not
documented. A real service may behave differently, so the harness does not rely on assumptions.

Custom workflow modules import from this module (see ``docs/reference-api.md``), which does not import the server.
"""

import threading

__all__ = ["WorkflowFailedError", "cancelled", "command"]


class WorkflowFailedError(Exception):
    """A workflow function raises this error to fail. The caller receives its message."""


current_thread = threading.local()
"""In a thread of ``execution.Threads``, ``call`` is the current call of a workflow function, or None."""


def cancelled() -> bool:
    """Whether the result is no longer needed: the client hung up, the time limit has passed, or the server stops.

    A plain function that runs long should call this from time to time, and return early if it is true. In a coroutine
    function it is always false, because a coroutine is cancelled where it waits.
    """
    call = getattr(current_thread, "call", None)
    return call is not None and bool(call.stopped)
