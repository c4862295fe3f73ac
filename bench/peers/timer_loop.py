"""A bare timer loop without Locust: waits for each intended start on a timerfd, sends a request, reads its answer.

Run by ``bench/pacing.py``: ``python timer_loop.py PORT RATE SECONDS``. Prints intended and real starts as JSON, in ns.
"""

import ctypes
import gc
import json
import os
import socket
import sys
import time

REQUEST = b"GET /v1/workflows/jobs/j HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nx-wf-endpoint: x\r\n\r\n"
CLOCK_MONOTONIC, ABSOLUTE = 1, 1


class Timespec(ctypes.Structure):
    """As C has it."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Setting(ctypes.Structure):
    """``struct itimerspec``."""

    _fields_ = (("interval", Timespec), ("value", Timespec))


def main() -> None:
    """Send evenly, and print when."""
    port, rate, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    library = ctypes.CDLL(None)
    timer = library.timerfd_create(CLOCK_MONOTONIC, 0)
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pairs: list[tuple[int, int]] = []
    gc.collect()
    gc.freeze()
    epoch = time.monotonic_ns() + 100_000_000
    for number in range(int(rate * seconds)):
        due = epoch + number * 1_000_000_000 // rate
        if due > time.monotonic_ns():
            setting = Setting(Timespec(0, 0), Timespec(due // 1_000_000_000, due % 1_000_000_000))
            library.timerfd_settime(timer, ABSOLUTE, ctypes.byref(setting), None)
            os.read(timer, 8)
        start = time.monotonic_ns()
        connection.send(REQUEST)
        connection.recv(65_536)
        pairs.append((due, start))
    print(json.dumps(pairs))


if __name__ == "__main__":
    main()
