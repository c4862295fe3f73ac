"""Batches of samples: packed by a worker, and kept until the master has them in the record."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from loadtest.load.distributed.protocol import Batch
from loadtest.load.recorder import PendingJobs
from loadtest.record.samples import SCHEMA, Packer, Sample, warm_up

_AGAIN_NS: Final = 3_000_000_000
"""After which a batch that was not acknowledged is sent again: a connection may have broken under it."""


class Outbox:
    """Packs batches and keeps each until it is acknowledged. An ``Output`` for a worker's recorder."""

    def __init__(self) -> None:
        self.count = 0
        self._number = 0
        self._rows: list[pa.RecordBatch] = []
        self._kept: dict[int, Batch] = {}
        self._sent: dict[int, int] = {}
        """When each of them was sent last, on the monotonic clock."""
        self._jobs: list[tuple[str, int]] = []
        warm_up()

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        """Pack samples into the batch that is sent next."""
        # With dictionaries of its own, so that what is sent meanwhile, or has to be sent again, can be read by itself.
        packed = Packer().pack(samples, rest)
        # Only now: while it rested, what was there may have been taken, and the list with it.
        self._rows.append(packed)
        self.count += len(samples)

    def write_jobs(self, jobs: Sequence[tuple[str, int]]) -> None:
        """Send ids of jobs with the next batch."""
        self._jobs += jobs

    def close(self, pending: PendingJobs) -> None:
        """Nothing: the master knows which jobs are pending."""

    @property
    def all_sent(self) -> bool:
        """Whether everything was sent at least once."""
        return not self._rows and not self._jobs and all(self._sent.values())

    @property
    def empty(self) -> bool:
        """Whether the master has everything."""
        return not self._rows and not self._jobs and not self._kept

    def take(self) -> Batch | None:
        """The batch to send now: the oldest that should be acknowledged by now, or a new one; None if there is none."""
        now = time.monotonic_ns()
        if self._rows or self._jobs:
            self._number += 1
            self._kept[self._number] = Batch(number=self._number, samples=self._packed(), jobs=self._jobs)
            self._sent[self._number] = 0
            self._jobs = []
        for number, sent in self._sent.items():
            if now - sent >= _AGAIN_NS:
                self._sent[number] = now
                return self._kept[number]
        return None

    def _packed(self) -> bytes:
        rows, self._rows = self._rows, []
        if not rows:
            return b""
        target = pa.BufferOutputStream()
        with pa.ipc.new_stream(target, SCHEMA) as stream:
            for each in rows:
                stream.write_batch(each)
        packed: bytes = target.getvalue().to_pybytes()
        return packed

    def acknowledged(self, number: int) -> None:
        """Forget every batch up to this one: the master has them."""
        for each in [each for each in self._kept if each <= number]:
            del self._kept[each], self._sent[each]


def unpack(batch: bytes) -> list[pa.RecordBatch]:
    """The record batches of a batch's samples.

    Raises:
        pyarrow.ArrowInvalid: if it is none.
    """
    if not batch:
        return []
    with pa.ipc.open_stream(batch) as stream:
        return list(stream)
