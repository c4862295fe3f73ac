"""Tells an embedded target when the epoch is: the faults that it was started with count from there."""

import os
import time
from typing import Final

import msgspec

from loadtest.errors import LoadtestError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.wire import Address, Timeouts, Wire
from loadtest.runfile import RunInfo
from loadtest.targets import allow

_AHEAD_NS: Final = 100_000_000
"""How far ahead the epoch is set, for the target to know of it before the first arrival."""
_TRIES: Final = 5


def set_epoch(info: RunInfo, ahead_ns: int = 0) -> int:
    """Choose the epoch, and tell it to a target with faults.

    Args:
        info: the run.
        ahead_ns: how far ahead it is to be.

    Returns:
        The epoch in monotonic ns: so far ahead, and shortly ahead at least where a target has to know of it.

    Raises:
        LoadtestError: if the target with faults can't be told.
    """
    control = os.environ.get(CONTROL_VARIABLE)
    if control is None or not info.target.faults:
        return time.monotonic_ns() + ahead_ns
    ahead_ns = max(ahead_ns, _AHEAD_NS)
    target = allow(control)
    wire = Wire(Address(target.address, target.port))
    try:
        for _ in range(_TRIES):
            epoch = time.monotonic_ns() + ahead_ns
            answer = wire.exchange(_request(target.host, time.time() + ahead_ns / 1e9), Timeouts(5.0))
            if answer.status == 200 and time.monotonic_ns() < epoch:
                return epoch
    finally:
        wire.close()
    raise LoadtestError("the embedded target could not be told when its faults begin", "Is this machine overloaded?")


def _request(host: str, unix_s: float) -> bytes:
    body = msgspec.json.encode({"unix_s": unix_s})
    head = (
        f"POST /epoch HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
