"""Tasks distributed over this process and forked children, which inherit the data.

A fork avoids repeated imports and copies of the data. A child writes each result to a file and exits. This process
runs missing tasks itself, so that a child that dies costs only time.
"""

import gc
import os
import pickle
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar

_Result = TypeVar("_Result")

_MOST: Final = 4
_PATIENCE_S: Final = 60.0
"""Maximum seconds to wait for children after the last task was taken."""


def cores() -> int:
    """Return the number of processes to use: one per core, at most four; one if a fork could inherit a held lock."""
    if sys.platform != "linux" or threading.active_count() > 1 or "gevent" in sys.modules:
        return 1
    return min(_MOST, len(os.sched_getaffinity(0)))


def shared_out(tasks: Mapping[str, Callable[[], _Result]], processes: int) -> dict[str, _Result]:
    """Run each task in the next free process, and return results in the order of the tasks.

    Args:
        tasks: at most 256, by name; their results can be pickled.
        processes: number of processes, including this.
    """
    processes = min(processes, len(tasks))
    if processes < 2:
        return {name: task() for name, task in tasks.items()}
    found = _shared_out(list(tasks.values()), processes)
    return {name: found[place] if place in found else task() for place, (name, task) in enumerate(tasks.items())}


def _shared_out(tasks: Sequence[Callable[[], _Result]], processes: int) -> dict[int, _Result]:
    """Return the available results by task number."""
    # Each byte is a task's number; the process that reads it runs the task.
    queue, fill = os.pipe()
    os.write(fill, bytes(range(len(tasks))))
    os.close(fill)
    # Its other end is open in children alone, so that it ends with the last of them.
    ended, alive = os.pipe()
    children: dict[int, int] = {}
    try:
        for _ in range(processes - 1):
            results = os.memfd_create("results")
            child = _fork()
            if child == 0:
                _be_child(tasks, queue, results)
            if child is None:
                break
            children[child] = results
        os.close(alive)
        found = {place: tasks[place]() for place in _places(queue)}
        select.select([ended], [], [], _PATIENCE_S)
    finally:
        for child in children:
            # Where SIGCHLD is ignored, the kernel has reaped it.
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        os.close(queue)
        os.close(ended)
    for results in children.values():
        found |= _brought(results)
    return found


def _fork() -> int | None:
    """As ``os.fork``; None if the machine allows no further process."""
    with warnings.catch_warnings(), suppress(OSError):
        # NumPy's idle threads hold no lock that a child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
    return None


def _places(queue: int) -> Iterator[int]:
    while number := os.read(queue, 1):
        yield number[0]


def _be_child(tasks: Sequence[Callable[[], object]], queue: int, results: int) -> NoReturn:
    """Run tasks until none are left, and always end this process: the parent does the missing tasks."""
    try:
        gc.disable()  # what it inherited stays shared
        with os.fdopen(results, "wb") as file:
            for place in _places(queue):
                pickle.dump((place, tasks[place]()), file)
                file.flush()
    finally:
        os._exit(0)


def _brought(results: int) -> dict[int, Any]:
    """Return the results of an ended child; the last may be truncated."""
    found: dict[int, Any] = {}
    os.lseek(results, 0, os.SEEK_SET)
    with os.fdopen(results, "rb") as file, suppress(EOFError, pickle.UnpicklingError):
        while True:
            place, result = pickle.load(file)  # noqa: S301 - our own
            found[place] = result
    return found
