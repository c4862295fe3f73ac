"""What the process that makes the load tells the command line while it runs: one JSON object a line.

The figures are rough and live; those of a report come from the record alone.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

Phase = Literal["preparing", "running", "draining", "over"]
"""Where a run is: before its epoch, offering arrivals, waiting for the last answers, or ended."""


class WaitingForWorkers(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """The run has not begun: workers are still to come."""

    connected: int
    expected: int


class LiveFigures(msgspec.Struct, frozen=True, kw_only=True, tag="figures"):
    """Counts since the run began.

    Attributes:
        phase: where the run is.
        elapsed_s: since the epoch; 0 before it.
        total_s: of the schedule.
        stages: the stage that each traffic entry is in; empty where it is in none.
        offered: arrivals that became due.
        in_flight: those of them whose operation has not ended.
        sent: requests.
        accepted: requests that were answered, and not with 429.
        throttled: requests that were answered with 429.
        failed: operations.
        timed_out: operations.
        p95_ms: of response times of the last five to ten seconds; None without any.
    """

    phase: Phase
    elapsed_s: float
    total_s: float
    stages: Mapping[str, str]
    offered: int
    in_flight: int
    sent: int
    accepted: int
    throttled: int
    failed: int
    timed_out: int
    p95_ms: float | None


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The run could not begin, or broke off: the last message of its process."""

    error: str


Message = WaitingForWorkers | LiveFigures | LoadFailed

_ENCODER = msgspec.json.Encoder()
_DECODER: "msgspec.json.Decoder[Message]" = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """One line. It stays below PIPE_BUF, so that a pipe takes it whole or not at all."""
    return _ENCODER.encode(message) + b"\n"


def decode(line: bytes) -> Message:
    """Read one line.

    Raises:
        msgspec.DecodeError: if it is no message.
    """
    return _DECODER.decode(line)
