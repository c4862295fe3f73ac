"""Progress of a load process. During a run, the process writes a line of JSON to standard output twice a second."""

from typing import Literal

import msgspec

Phase = Literal["preparing", "running", "draining", "over"]


class WaitingForWorkers(msgspec.Struct, tag="waiting", frozen=True):
    """Some workers have not joined yet."""

    workers: int
    expected: int


class BlockBegins(msgspec.Struct, tag="block", kw_only=True, frozen=True):
    """Block ``number`` of the ``blocks`` in a series starts in ``silence_s`` seconds. Numbers count from 1."""

    number: int
    blocks: int
    side: str
    series: int
    silence_s: float


class EntryProgress(msgspec.Struct, kw_only=True, frozen=True):
    """Progress of a traffic entry, with its operations by outcome so far."""

    stage: str
    """Empty outside all stages."""
    offered: int
    in_flight: int
    """Operations that have not ended, including operations that wait for a user."""
    ok: int
    throttled: int
    failed: int
    timed_out: int
    p95_ms: float | None
    """95th percentile of the response times of operations that ended ok or timed out in about the last 10 s."""


class Progress(msgspec.Struct, tag="progress", kw_only=True, frozen=True):
    """Progress of a run: time since the epoch, and approximate live figures."""

    phase: Phase
    elapsed_s: float
    total_s: float
    entries: dict[str, EntryProgress]
    bottleneck: str = ""
    """Warning that the load generator cannot keep up or is near its limit, with a remedy. Otherwise empty."""


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """The run could not start, or an error ended it."""

    error: str


LoadProgress = WaitingForWorkers | BlockBegins | Progress
ProgressLine = LoadProgress | Failure

encode_progress = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[ProgressLine] = msgspec.json.Decoder(ProgressLine)
decode_progress = _decoder.decode
