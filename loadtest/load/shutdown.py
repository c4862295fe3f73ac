"""Ways to end a load process: on a signal, when its parent process ends, or with a one-line error."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import os as gevent_os

from loadtest.errors import LoadtestError
from loadtest.program import pasteable


def on_signals(act: Callable[[], object]) -> list[Any]:
    """Call ``act`` in its own greenlet on SIGINT and SIGTERM. Return the handlers, so that they can be cancelled.

    Python would raise an exception in whichever greenlet runs, and the arrival of that greenlet would be lost.
    """
    return [gevent.signal_handler(number, act) for number in (signal.SIGINT, signal.SIGTERM)]


def on_end_of(descriptor: int, act: Callable[[], object]) -> None:
    """Call ``act`` when a file that the parent process keeps open reaches its end."""

    def watch() -> None:
        while gevent_os.tp_read(descriptor, 1024):
            pass
        act()

    gevent.spawn(watch)


@contextmanager
def plain_refusal() -> Iterator[None]:
    """End the process with the message and exit code of a ``LoadtestError``, without a traceback."""
    try:
        yield
    except LoadtestError as error:
        sys.stderr.write(pasteable(f"loadtest: {error}\n"))
        raise SystemExit(int(error.exit_code)) from None
