"""The recorder packs in steps between which users run, and loses nothing by it, whenever it is told to stop."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from plugins.records import read_table

from loadtest.load.recorder import Recorder, RunFiles
from loadtest.record.samples import Sample

COUNT = deque[object](maxlen=0).extend
"""Counts nothing."""


def sample(number: int) -> Sample:
    """A plain operation."""
    return Sample(row="operation", traffic="t", operation="sync_run", stage="s", outcome="ok", arrival=number)


class CountingRests(RunFiles):
    """Tells when packing has rested so many times."""

    def __init__(self, directory: Path, rests: int) -> None:
        super().__init__(directory)
        self.reached = Event()
        self._left = rests

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        def counted() -> None:
            self._left -= 1
            if not self._left:
                self.reached.set()
            rest()

        super().write(samples, counted)


@pytest.mark.parametrize("rests", [1, 20, 36, 50, 100])
def test_a_recorder_closed_in_the_middle_of_packing_keeps_everything(tmp_path: Path, rests: int) -> None:
    """Told to close while a batch is half packed: each sample is in the record once."""
    files = CountingRests(tmp_path, rests)
    recorder = Recorder(tmp_path, COUNT, files)
    for number in range(1700):
        recorder.append(sample(number))
    assert files.reached.wait(30)
    assert recorder.count < 1700
    for number in range(1700, 2000):
        recorder.append(sample(number))
    recorder.close()
    assert recorder.failure is None
    assert recorder.count == 2000
    assert sorted(read_table(tmp_path).column("arrival").to_pylist()) == list(range(2000))


def test_users_run_while_a_record_is_packed(tmp_path: Path) -> None:
    """Whoever waits for a moment gets it between two steps of packing, not after the last of them."""
    recorder = Recorder(tmp_path, COUNT)
    for number in range(4000):
        recorder.append(sample(number))
    seen = {recorder.count}
    while recorder.count < 4000:
        gevent.sleep(0.001)
        seen.add(recorder.count)
    recorder.close()
    assert len(seen) > 4


def test_a_record_is_written_while_the_event_loop_is_never_idle(tmp_path: Path) -> None:
    """A saturated generator's samples reach the file while it runs."""
    recorder = Recorder(tmp_path, COUNT)
    for number in range(1500):
        recorder.append(sample(number))
    with gevent.Timeout(20):
        while recorder.count < 1500:
            gevent.sleep(0)
    recorder.close()
