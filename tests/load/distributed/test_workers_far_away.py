"""A worker on the far side of a slow line, or of one that breaks: a relay of our own between it and its master."""

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from plugins.processes import clean_environment, until


class Line:
    """Passes bytes on after a delay, in both directions; while it is cut, it passes nothing, and nothing is lost."""

    def __init__(self, port: int, delay: float) -> None:
        self._target = ("127.0.0.1", port)
        self._delay = delay
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Pass nothing on."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass on what came meanwhile, and what comes."""
        self._whole.set()

    def close(self) -> None:
        """Hang up on both sides."""
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                # A master that does not listen yet: a worker tries again.
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._take, args=(source, due), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(sink, due), daemon=True).start()

    def _take(self, source: socket.socket, due: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        try:
            while data := source.recv(65536):
                due.put((time.monotonic() + self._delay, data))
        except OSError:
            pass
        due.put((0.0, b""))

    def _pass_on(self, sink: socket.socket, due: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        try:
            while (item := due.get())[1]:
                time.sleep(max(0.0, item[0] - time.monotonic()))
                self._whole.wait()
                sink.sendall(item[1])
        except OSError:
            pass


@pytest.fixture
def far(free_port: int) -> Iterator[tuple[Line, Callable[[int], None]]]:
    """A line of 200 ms to a master at ``free_port``, and what starts a worker of a port."""
    line = Line(free_port, 0.2)
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> None:
        command = [sys.executable, "-m", "loadtest.load.distributed", f"127.0.0.1:{port}", "."]
        environment = clean_environment(WORKFLOW_API_KEYS="local-dev-key")
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment))

    yield line, start
    for process in started:
        process.kill()
        process.wait()
    line.close()


@pytest.mark.heavy
def test_a_slow_line_changes_nothing(offer: Any, open_api: Any, far: Any, free_port: int) -> None:
    """200 ms each way, also for one that joins in the middle: each arrival once, on time, and the clock is known."""
    line, start = far
    text = offer.scenario(offer.entry("runs", "sync_run", "60/s", "60s"))
    run = offer(text, open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "2")
    start(free_port)
    start(line.port)
    until(lambda: run.epoch and len({row["worker"] for row in run.operations}) == 2)
    start(line.port)
    until(lambda: any(row["worker"] == 3 for row in run.operations))
    assert run.stop(60).keys() == {"ok"}
    assert [each.workers for each in run.info.assignments] == [[1, 2], [1, 2, 3]]
    slow = [each for each in run.info.worker_processes if each.uncertainty_ms > 190]
    assert len(slow) == 2
    for each in slow:
        # Both directions are alike, so that the estimate is far better than it can know.
        assert abs(each.offset_ms) < each.uncertainty_ms / 4
        assert each.uncertainty_ms < 300
    early = [row for row in run.operations if row["start"] < row["intended_start"]]
    assert early == []


@pytest.mark.heavy
def test_a_worker_that_is_cut_off_sends_nothing_of_what_others_send(offer, open_api, far, free_port):
    """It reaches the target all the while, but not its master: it stops by itself, and comes back when it can."""
    line, start = far
    text = offer.scenario(offer.entry("runs", "sync_run", "60/s", "60s"))
    run = offer(text, open_api.url, "--bind", f"127.0.0.1:{free_port}", "--expect-workers", "2")
    start(free_port)
    start(line.port)
    until(lambda: run.epoch and len({row["worker"] for row in run.operations}) == 2)
    cut_s = psutil.time.time() - (run.epoch or 0) / 1e9
    line.cut()
    until(lambda: "is lost" in run.log)
    line.mend()
    mended_s = psutil.time.time() - (run.epoch or 0) / 1e9
    until(lambda: {row["worker"] for row in run.operations if row["intended_start"] / 1e9 > mended_s + 0.5} == {1, 2})
    assert run.stop(60).keys() == {"ok", "lost"}
    lost = [row["intended_start"] / 1e9 for row in run.operations if row["outcome"] == "lost"]
    # What it sent after the cut is told later, and then it is not lost.
    assert all(cut_s < each < run.info.assignments[1].from_s for each in lost)
    assert [len(each.workers) for each in run.info.assignments] == [2, 1, 2]
