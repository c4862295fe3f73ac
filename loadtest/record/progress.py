"""What a process that makes load writes to standard output while it does: a line of JSON twice a second."""

from typing import Literal

import msgspec

Phase = Literal["preparing", "running", "draining", "over"]


class WaitingForWorkers(msgspec.Struct, tag="waiting", frozen=True):
    """Not all workers have come yet."""

    workers: int
    expected: int


class BlockBegins(msgspec.Struct, tag="block", kw_only=True, frozen=True):
    """The next block of a comparison begins, once its target had its silence."""

    number: int
    """From 1."""
    blocks: int
    """Of this series."""
    side: str
    series: int
    silence_s: float
    """Until it begins."""


class EntryProgress(msgspec.Struct, kw_only=True, frozen=True):
    """How far a traffic entry is: operations, by how they ended so far."""

    stage: str
    """That it is in; empty between two."""
    offered: int
    """Arrivals that became due."""
    in_flight: int
    """Offered and not ended: those that wait for a user, too."""
    ok: int
    throttled: int
    """Ended with 429."""
    failed: int
    timed_out: int
    p95_ms: float | None
    """Response time (from the intended start) of operations that were ok or timed out in about the last ten seconds;
    null without any."""


class Progress(msgspec.Struct, tag="progress", kw_only=True, frozen=True):
    """Where a run is, and its live figures: rough ones, of which no final one is made."""

    phase: Phase
    elapsed_s: float
    """Since the epoch."""
    total_s: float
    entries: dict[str, EntryProgress]
    """By traffic."""


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """The run could not begin."""

    error: str


LoadProgress = WaitingForWorkers | BlockBegins | Progress
ProgressLine = LoadProgress | Failure

encode_progress = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[ProgressLine] = msgspec.json.Decoder(ProgressLine)


def decode_progress(line: bytes) -> ProgressLine:
    """Read one line.

    Raises:
        msgspec.MsgspecError: if it is none of these.
    """
    return _decoder.decode(line)
