"""Ways in which a process of the load ends: by a signal, with its parent, or with a sentence instead of a traceback."""

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
    """Have SIGINT and SIGTERM call ``act`` in a greenlet of its own: raised where they come, they would lose arrivals.

    The handlers that are returned can be cancelled.
    """
    return [gevent.signal_handler(number, act) for number in (signal.SIGINT, signal.SIGTERM)]


def on_end_of(descriptor: int, act: Callable[[], object]) -> None:
    """Call ``act`` when there is nothing more to read from a parent, which is gone then."""

    def watch() -> None:
        while gevent_os.tp_read(descriptor, 1024):
            pass
        act()

    gevent.spawn(watch)


@contextmanager
def plain_refusal() -> Iterator[None]:
    """End the process with our sentence and exit code instead of a traceback of a ``LoadtestError``."""
    try:
        yield
    except LoadtestError as error:
        sys.stderr.write(pasteable(f"loadtest: {error}\n"))
        raise SystemExit(int(error.exit_code)) from None
