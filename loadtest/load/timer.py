"""Waking a greenlet at a moment of the monotonic clock, to about 0.1 ms.

``gevent.sleep`` wakes on a 1 ms grid and oversleeps; a Linux ``timerfd`` watched by gevent's loop does not.
Elsewhere, sleeping has to do.
"""

import ctypes
import ctypes.util
import os
import time
from typing import Final

import gevent
from gevent import get_hub

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_READ: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _library() -> ctypes.CDLL | None:
    # os.timerfd_create comes with Python 3.13 only.
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "timerfd_create") else None


class Timer:
    """Lets one greenlet at a time wait until a moment."""

    def __init__(self) -> None:
        self._library = _library()
        self._fd = -1
        if self._library is not None:
            self._fd = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        loop = get_hub().loop
        # Before whatever else became ready at the same time.
        self._watcher = loop.io(self._fd, _READ, priority=loop.MAXPRI) if self._fd >= 0 else None

    def wait_until(self, moment_ns: int) -> None:
        """Wait until ``time.monotonic_ns()`` reaches a moment; return at once if it has passed."""
        if self._watcher is None or self._library is None:
            gevent.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
            return
        if moment_ns <= time.monotonic_ns():
            return
        setting = _Setting(_Timespec(0, 0), _Timespec(moment_ns // 1_000_000_000, moment_ns % 1_000_000_000))
        self._library.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None)
        get_hub().wait(self._watcher)
        os.read(self._fd, 8)

    def close(self) -> None:
        """Give the timer back to the system."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            os.close(self._fd)
