"""Server-sent events of the page "Workflow API", made from the harness's samples.

An event is encoded once a second for all browsers, and only while one is connected. A new connection receives the run
from its start.
"""

from collections.abc import Iterator
from typing import Final

import gevent
from gevent.queue import Empty, Full, Queue

from loadtest.load.engine import Engine
from loadtest.load.live import MOST_BUCKETS
from loadtest.load.plain.locust_test import Reports
from loadtest.load.web.live_state import LiveRun, LiveUpdate, RunShown, encode

MOST_WATCHERS: Final = 50
_BACKLOG: Final = 30
"""Maximum number of messages that wait for a browser; then it is disconnected, and reconnects by itself."""
_QUIET_S: Final = 5.0


class LiveFeed:
    """Sends a run's figures to all connected browsers."""

    def __init__(self, engine: Engine, reports: Reports) -> None:
        self._engine = engine
        self._reports = reports
        self._run: LiveRun | None = None
        self._watchers: set[Queue] = set()
        self._sender: gevent.Greenlet | None = None
        self._known: tuple[LiveRun, int, RunShown] | None = None
        """The run, its bucket width and description as last sent."""

    @property
    def full(self) -> bool:
        return len(self._watchers) >= MOST_WATCHERS

    def watch(self) -> Iterator[bytes]:
        """Yield events until the browser disconnects: the run so far, then changes each second."""
        queue: Queue = Queue(_BACKLOG)
        queue.put_nowait(self._event(self._latest(), None))
        self._watchers.add(queue)
        if self._sender is None:
            self._sender = gevent.spawn(self._send_forever)
        try:
            while queue in self._watchers:
                try:
                    yield queue.get(timeout=_QUIET_S)
                except Empty:
                    # A comment: only a write shows that a browser is gone.
                    yield b":\n\n"
        finally:
            self._watchers.discard(queue)

    def _send_forever(self) -> None:
        sent = b""
        while self._watchers:
            gevent.sleep(1)
            event = self._changes()
            if event == sent:
                continue
            sent = event
            for queue in list(self._watchers):
                try:
                    queue.put_nowait(event)
                except Full:
                    self._watchers.discard(queue)
        self._sender = None

    def _latest(self) -> LiveRun | None:
        latest = self._engine.latest
        if latest is not None and (self._run is None or self._run.session is not latest[0]):
            self._run = LiveRun(*latest)
        return self._run

    def _changes(self) -> bytes:
        run = self._latest()
        if run is None:
            return self._event(None, None)
        series = run.session.live.series
        begin, series.changed_from = series.changed_from, None
        known, self._known = self._known, (run, series.width_s, run.shown)
        return self._event(run, None if known != self._known else MOST_BUCKETS if begin is None else begin)

    def _event(self, run: LiveRun | None, begin: int | None) -> bytes:
        if run is None:
            update = LiveUpdate(phase="over")
        else:
            directory = run.session.directory
            made = any(each.directory == directory and each.report for each in self._reports.runs)
            # Relative to the page.
            report = f"runs/{directory.name}/report.html" if made else ""
            update = run.update(self._engine.phase, begin, report)
        return b"data: " + encode(update) + b"\n\n"
