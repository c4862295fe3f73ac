"""The recorder. Every half second, it counts new samples for the live view and writes them to the record."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import gevent
from gevent import get_hub
from gevent.hub import Waiter

from loadtest.foreign_text import KeyFilter
from loadtest.record.run_directory import PENDING_NAME
from loadtest.record.samples import SETUP, Sample, SampleWriter
from loadtest.schedule import Arrival

FLUSH_INTERVAL: Final = 0.5
_BATCH: Final = 500
_STEP_NS: Final = 100_000
"""The recorder works for this long between two rests, in which users run. A rest costs about 15 µs."""
_GROUP: Final = 8
"""Number of arrivals and samples that are counted between two looks at the clock."""
_TURN_S: Final = 1e-6
"""A sleep of this many seconds lasts for one turn of the event loop. A sleep of 0 would skip sockets and timers."""
_MUCH: Final = 20_000
"""Per ``_MUCH`` waiting samples, rests are ``_STEP_NS`` further apart, so that overload cannot stop recording."""
_LONGEST_REST_S: Final = 0.002
"""A rest ends after this many seconds even if the event loop is not idle."""


def _lines(jobs: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Yield lines for a ``job_ids`` file. Each line has a job's id, a tab, and the index of the job's key."""
    return (f"{job}\t{key}\n" for job, key in jobs if job.isprintable() and job == job.strip())


class Output(Protocol):
    """Destination of a recorder. It raises OSError if it cannot write.

    ``write`` calls ``rest`` regularly. ``write_jobs`` takes ids of accepted jobs, each with the index of its key.
    """

    count: int  # of written samples

    def write(self, samples: list[Sample], rest: Callable[[], None]) -> None: ...

    def write_jobs(self, jobs: Sequence[tuple[str, int]]) -> None: ...

    def end(self, pending: dict[str, int]) -> None: ...


class RunFiles(SampleWriter):
    """Files of a run directory: the record, all job ids, and the ids of jobs that were pending at the end.

    The files of ids omit ids that contain unprintable characters, or begin or end with a space.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._directory = directory
        self._ids = (directory / "job_ids.txt").open("w", encoding="utf-8")

    def write_jobs(self, jobs: Sequence[tuple[str, int]]) -> None:
        self._ids.writelines(_lines(jobs))
        self._ids.flush()

    def end(self, pending: dict[str, int]) -> None:
        self.close()
        self._ids.close()
        (self._directory / PENDING_NAME).write_text("".join(_lines(pending.items())), encoding="utf-8")


class Recorder:
    """Writes a run's samples and job ids to the run directory or another output.

    Samples are counted and packed in groups while the event loop is idle, in steps of about 0.1 ms. At 500 requests per
    second, handling each sample by itself would cost several times as much. ``secrets`` such as API keys are never
    recorded, even if a service echoes them. ``count`` takes the recorded arrivals and samples in their order.
    """

    def __init__(
        self,
        directory: Path,
        count: Callable[[Iterator[Arrival | Sample]], None],
        output: Output | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self.failure: OSError | None = None
        """Error that stopped the writing."""
        self.pending: dict[str, int] = {}
        """Ids of accepted jobs whose end was not observed, each with the index of its key. Such jobs may cost money."""
        self.watch: Callable[[Sample], None] = lambda _: None
        """Called with every request. An engine sets it, so that breakers see the request and update ``pending``."""
        self.output = output or RunFiles(directory)
        self.blank = KeyFilter(secrets).blank
        """Removes secrets from a text of the service."""
        self._recorded: deque[Arrival | Sample] = deque()
        """Arrivals and samples that are not yet counted."""
        self.offer: Callable[[Arrival], None] = self._recorded.append
        self._count = count
        self._counted: deque[Sample] = deque()
        """Samples that are not yet written."""
        self._ids: list[tuple[str, int]] = []
        self._rested_ns = 0
        loop = get_hub().loop
        self._idle = loop.idle(priority=loop.MINPRI)
        self._longest_rest = loop.timer(_LONGEST_REST_S)
        self._flusher = gevent.spawn(self._flush_forever)

    @property
    def count(self) -> int:
        return self.output.count

    def append(self, sample: Sample) -> None:
        if sample.job_id is not None:
            sample.job_id = self.blank(sample.job_id)
            # Jobs of seeding are already stored.
            if sample.accepted_job is not None and sample.stage != SETUP:
                self._ids.append((sample.job_id, sample.key_index or 0))
        self._recorded.append(sample)
        if sample.row == "request":
            self.watch(sample)

    def job(self, job_id: str, key_index: int) -> None:
        """Store the id of an accepted job and the index of its key. The submit's sample may be recorded later."""
        job_id = self.blank(job_id)
        self.pending[job_id] = key_index
        self._ids.append((job_id, key_index))

    def count_all(self) -> None:
        """Count the arrivals and samples that were recorded so far."""
        if self._recorded:
            self._count(self._take())

    def flush(self, rest: Callable[[], None] = lambda: None) -> None:
        """Count and write everything that was recorded so far."""
        self._count(self._take(rest))
        # Only samples that exist now are packed. At high rates, new samples would form many small batches.
        for _ in range(-(-len(self._counted) // _BATCH)):
            self._write_some(rest)
            rest()
        if self._ids:
            ids, self._ids = self._ids, []
            self.output.write_jobs(ids)

    def close(self) -> None:
        self._flusher.kill()
        self._idle.close()
        self._longest_rest.close()
        try:
            self.flush()
            self.output.end(self.pending)
        except OSError as error:
            self.failure = error

    def _flush_forever(self) -> None:
        try:
            while True:
                gevent.sleep(FLUSH_INTERVAL)
                self.flush(self._rest)
        except OSError as error:
            self.failure = error

    def _take(self, rest: Callable[[], None] = lambda: None) -> Iterator[Arrival | Sample]:
        """Yield the arrivals and samples that were recorded so far, without secrets."""
        for number in range(len(self._recorded)):
            if not self._recorded:
                return  # during a rest, another call has counted all of them
            recorded = self._recorded.popleft()
            if isinstance(recorded, Sample):
                # The service sets these fields and the job id. ``append`` has cleaned the job id.
                if recorded.error_code is not None:
                    recorded.error_code = self.blank(recorded.error_code)
                if recorded.job_state is not None:
                    recorded.job_state = self.blank(recorded.job_state)
                if recorded.retry_after is not None:
                    recorded.retry_after = self.blank(recorded.retry_after)
                if recorded.rate_limit is not None:
                    recorded.rate_limit = self.blank(recorded.rate_limit)
                self._counted.append(recorded)
            yield recorded
            if number % _GROUP == 0:
                rest()

    def _write_some(self, rest: Callable[[], None]) -> None:
        batch = [self._counted.popleft() for _ in range(min(_BATCH, len(self._counted)))]
        try:
            self.output.write(batch, rest)
        except gevent.GreenletExit:
            self._counted.extendleft(reversed(batch))
            raise

    def _rest(self) -> None:
        """Let users run until none of them is ready. If samples accumulate, let users run for one turn only."""
        waiting = len(self._recorded) + len(self._counted)
        if time.perf_counter_ns() - self._rested_ns > _STEP_NS * (1 + waiting // _MUCH):
            if waiting < _MUCH:
                self._until_idle()
            else:
                gevent.sleep(_TURN_S)
            self._rested_ns = time.perf_counter_ns()

    def _until_idle(self) -> None:
        """Wait until the event loop is idle. Limit the wait, because a saturated loop is never idle."""
        waiter = Waiter()
        self._idle.start(waiter.switch, None)
        self._longest_rest.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            self._idle.stop()
            self._longest_rest.stop()
