"""The page "Workflow API" beside Locust's own: a run as it goes on, from our own samples.

It is fed by server-sent events. What is sent is encoded once a second for all who watch, and not at all while nobody
does. Whoever comes late, or reloads, is sent the run from its start.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import flask
import gevent
from gevent.queue import Empty, Full, Queue
from locust.web import WebUI

from loadtest.contract import Outcome
from loadtest.load.engine import Engine
from loadtest.load.live_series import MOST_BUCKETS
from loadtest.load.plain.reports import Reports
from loadtest.load.web.live_state import EntryNow, LiveRun, Message, RunShown, encode, entries_of
from loadtest.load.web.metrics import metrics_app

_HERE: Final = Path(__file__).parent
# Where its JavaScript is; to import the package would take a quarter of a second and 40 MB.
_SCRIPTS: Final = Path(getattr(find_spec("bokeh"), "origin", "")).parent / "server/static/js"
_ASSETS: Final = {
    "live_page.css": _HERE,
    "live_page.js": _HERE,
    "live_charts.js": _HERE,
    "live_link.js": _HERE,
    "bokeh.min.js": _SCRIPTS,
    "bokeh-api.min.js": _SCRIPTS,
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    # Bokeh writes its styles into the page.
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MOST_WATCHERS: Final = 50
_BACKLOG: Final = 30
"""Messages that wait for a browser before it is cut off; it comes again by itself, and begins anew."""
_QUIET_S: Final = 5.0


class LiveFeed:
    """Sends what a run shows to everybody who watches."""

    def __init__(self, engine: Engine, reports: Reports) -> None:
        self._engine = engine
        self._reports = reports
        self._run: LiveRun | None = None
        self._watchers: set[Queue] = set()
        self._sender: gevent.Greenlet | None = None
        self._known: tuple[LiveRun, int, RunShown] | None = None
        """The run, the width of its buckets, and what it is, as those who watch have been sent them."""
        self._sent = b""

    @property
    def full(self) -> bool:
        """Whether nobody else can watch."""
        return len(self._watchers) >= _MOST_WATCHERS

    def watch(self) -> Iterator[bytes]:
        """Yield events until the browser goes away: first the run from its start, then what has changed each second."""
        queue: Queue = Queue(_BACKLOG)
        queue.put_nowait(_event(self._whole()))
        self._watchers.add(queue)
        if self._sender is None:
            self._sender = gevent.spawn(self._send_forever)
        try:
            while queue in self._watchers:
                try:
                    yield queue.get(timeout=_QUIET_S)
                except Empty:
                    # A comment: only by writing is it found out who is gone.
                    yield b":\n\n"
        finally:
            self._watchers.discard(queue)

    def _send_forever(self) -> None:
        while self._watchers:
            gevent.sleep(1)
            event = _event(self._changes())
            if event == self._sent:
                continue
            self._sent = event
            for queue in list(self._watchers):
                try:
                    queue.put_nowait(event)
                except Full:
                    self._watchers.discard(queue)
        self._sender = None

    def _latest(self) -> LiveRun | None:
        """The run under way, or the one before."""
        latest = self._engine.latest
        if latest is not None and (self._run is None or self._run.session is not latest[0]):
            self._run = LiveRun(*latest)
        return self._run

    def _whole(self) -> Message:
        run = self._latest()
        return Message(phase="over") if run is None else run.message(self._engine.phase, None, self._report(run))

    def _changes(self) -> Message:
        """What has changed since this was asked last, for all who watch; the whole run where that is void."""
        run = self._latest()
        if run is None:
            return self._whole()
        series = run.session.live.series
        begin, series.changed_from = series.changed_from, None
        known, self._known = self._known, (run, series.width_s, run.shown)
        if known != self._known:
            return self._whole()
        return run.message(self._engine.phase, MOST_BUCKETS if begin is None else begin, self._report(run))

    def _report(self, run: LiveRun) -> str:
        """Where its report is, from the page on; empty while it is not there."""
        made = [each for each in self._reports.runs if each.directory == run.session.directory and each.report]
        return f"runs/{made[0].directory.name}/report.html" if made else ""


def _event(message: Message) -> bytes:
    return b"data: " + encode(message) + b"\n\n"


def add_live_page(web_ui: WebUI, engine: Engine, reports: Reports) -> None:
    """Add the page, its events and its assets to Locust's web UI, beneath ``--web-base-path``."""
    app = web_ui.app
    if app is None:
        return
    feed = LiveFeed(engine, reports)
    pages = flask.Blueprint("workflow_api", __name__, url_prefix=app.blueprints["locust"].url_prefix)

    def page() -> flask.Response:
        answer = flask.send_from_directory(_HERE, "live_page.html", max_age=0)
        answer.headers["Content-Security-Policy"] = _POLICY
        return answer

    def events() -> flask.Response:
        if feed.full:
            return flask.Response(f"{_MOST_WATCHERS} browsers watch already.", 503)
        return flask.Response(
            feed.watch(), mimetype="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )

    def asset(name: str) -> Any:
        if name not in _ASSETS:
            flask.abort(404)
        return flask.send_from_directory(_ASSETS[name], name)

    for path, view in (("", page), ("/events", events), ("/<name>", asset)):
        pages.add_url_rule(f"/workflow{path}", view_func=web_ui.auth_required_if_enabled(view))
    metrics = metrics_app(engine)
    scrape = web_ui.auth_required_if_enabled(lambda: flask.Response.from_app(metrics, flask.request.environ))
    pages.add_url_rule("/metrics", "metrics", scrape)
    app.register_blueprint(pages)
    add_tab(web_ui, app, engine)


_KEY: Final = "workflow-api"
_TITLE: Final = "Workflow API"
_COLUMNS: Final = {
    "name": "Traffic",
    "stage": "Stage",
    "offered": "# Offered",
    "in_flight": "# In flight",
    "sent": "# Requests",
    "accepted": "# Accepted",
    "got_429": "# 429",
    Outcome.FAILED: "# Failed",
    Outcome.TIMED_OUT: "# Timed out",
    "p50": "Response p50 (ms)",
    "p95": "Response p95 (ms)",
    "p99": "Response p99 (ms)",
    "execution_p50": "executionTime p50 (ms)",
    "execution_p95": "executionTime p95 (ms)",
    "polls": "Polls per job",
}
_LINK: Final = b'<script src="workflow/live_link.js" defer></script>\n  </body>'


def add_tab(web_ui: WebUI, app: flask.Flask, engine: Engine) -> None:
    """Add the tab, and the link, to Locust's page."""
    structure = [{"key": key, "title": title} for key, title in _COLUMNS.items()]
    # For the form's page, which has no tabs.
    web_ui.template_args["loadtest_links"] = [("/workflow", f"{_TITLE}, live")]
    web_ui.template_args["extended_tabs"] = [{"title": _TITLE, "key": _KEY}]
    web_ui.template_args["extended_tables"] = [{"key": _KEY, "structure": structure}]

    def extend(answer: flask.Response) -> flask.Response:
        if answer.status_code != 200:
            return answer
        if flask.request.endpoint == "locust.index":
            answer.set_data(answer.get_data().replace(b"</body>", _LINK))
        elif flask.request.endpoint == "locust.request_stats":
            rows = [] if engine.latest is None else [_row(entry) for entry in entries_of(engine.latest[0])]
            answer.set_data(flask.json.dumps({**answer.get_json(), "extended_stats": [{"key": _KEY, "data": rows}]}))
        return answer

    app.after_request(extend)


def _row(entry: EntryNow) -> dict[str, Any]:
    def shown(value: float | None) -> float | str:
        return "–" if value is None else round(value)

    return {
        "name": entry.traffic,
        "safe_name": entry.traffic,
        **{key: getattr(entry, key) for key in _COLUMNS if hasattr(entry, key)},
        **{percentile: shown(value) for percentile, value in entry.response_time.items()},
        **{f"execution_{percentile}": shown(value) for percentile, value in entry.execution_time.items()},
        "polls": "–" if entry.polls_per_job is None else entry.polls_per_job,
    }
