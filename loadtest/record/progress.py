"""Progress of a load process. The process writes it to standard output twice a second, as a line of JSON."""

from typing import Literal

import msgspec

Phase = Literal["preparing", "running", "draining", "over"]


class WaitingForWorkers(msgspec.Struct, tag="waiting", frozen=True):
    """Some workers have not joined yet."""

    workers: int
    expected: int


class BlockBegins(msgspec.Struct, tag="block", kw_only=True, frozen=True):
    """The next block of a comparison starts after its target's pause."""

    number: int
    """Number of the block, from 1."""
    blocks: int
    """Number of blocks in this series."""
    side: str
    series: int
    silence_s: float
    """Seconds until the block starts."""


class EntryProgress(msgspec.Struct, kw_only=True, frozen=True):
    """Progress of a traffic entry, with its operations by outcome so far."""

    stage: str
    """The current stage. Empty between two stages."""
    offered: int
    """Number of arrivals that became due."""
    in_flight: int
    """Number of operations that have not ended, including operations that wait for a user."""
    ok: int
    throttled: int
    failed: int
    timed_out: int
    p95_ms: float | None
    """95th percentile of response times of operations that ended ok or timed out in about the last 10 s. Null without
    such operations."""


class Progress(msgspec.Struct, tag="progress", kw_only=True, frozen=True):
    """Progress of a run with approximate live figures. Final figures are computed separately."""

    phase: Phase
    elapsed_s: float
    """Seconds since the epoch."""
    total_s: float
    entries: dict[str, EntryProgress]
    bottleneck: str = ""
    """Reason why the load generator cannot keep up, with a remedy. Empty while it keeps up."""


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """The run could not start, or an error ended it."""

    error: str


LoadProgress = WaitingForWorkers | BlockBegins | Progress
ProgressLine = LoadProgress | Failure

encode_progress = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[ProgressLine] = msgspec.json.Decoder(ProgressLine)


def decode_progress(line: bytes) -> ProgressLine:
    """Decode one line.

    Raises:
        msgspec.MsgspecError: if the line is invalid.
    """
    return _decoder.decode(line)
