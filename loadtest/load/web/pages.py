"""Additional pages in Locust's web UI, changes to Locust's own pages, and the protection of all pages.

The additional pages are the live page "Workflow API", a table of runs with their reports, and ``/metrics``. Locust's
page also shows the scenario, its tables have an additional tab, and its report has a label.

The protection rejects requests from pages of other origins, except links to Locust's page. Locust itself accepts any
Host and Origin, so any page in the same browser could start load: by a cross-origin POST to ``/swarm``, or after
rebinding its name to 127.0.0.1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import flask
import gevent
from gevent.queue import Empty, Full, Queue
from locust.web import WebUI
from markupsafe import Markup, escape

from loadtest.contract import Outcome
from loadtest.errors import ExitCode, LoadtestError
from loadtest.load.engine import Engine
from loadtest.load.live import MOST_BUCKETS
from loadtest.load.locust_test import LocustTest, Reports, StartedRun
from loadtest.load.web.live_state import LiveRun, encode, entries_of
from loadtest.load.web.metrics import is_own, metrics_app
from loadtest.program import pasteable
from loadtest.record.run_info import StagePlan
from loadtest.words import times_as

_HERE: Final = Path(__file__).parent
_ASSETS: Final = {"live_page.css", "live_page.js", "live_charts.js", "live_link.js"}
_LIVE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report is self-contained, so it needs no access to this origin. A page with access could start load.
_REPORT_POLICY: Final = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NO_FRAMES: Final = "frame-ancestors 'none'"
_ROOT: Final = '<div id="root"></div>'
_LINK: Final = '<script src="workflow/live_link.js" defer></script>\n  </body>'
_KEY: Final = "workflow-api"
_COLUMNS: Final = {
    "name": "Traffic",
    "stage": "Stage",
    "offered": "# Offered",
    "in_flight": "# In flight",
    "sent": "# Sent",
    "accepted": "# Accepted",
    "got_429": "# 429",
    Outcome.FAILED.value: "# Failed",
    Outcome.TIMED_OUT.value: "# Timed out",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "execution_p50": "Exec. p50",
    "execution_p95": "Exec. p95",
    "polls": "Polls",
}
_VERDICTS: Final = {
    ExitCode.PASS, ExitCode.FAIL, ExitCode.INVALID, ExitCode.INCONCLUSIVE, ExitCode.ABORTED, ExitCode.INTERRUPTED,
}  # fmt: skip

_MOST_WATCHERS: Final = 50
_BACKLOG: Final = 30
"""If more messages than this wait for a browser, the browser is disconnected. It then reconnects."""
_QUIET_S: Final = 5.0


def extend(web_ui: WebUI, engine: Engine, test: LocustTest, reports: Reports) -> None:
    """Protect Locust's web UI and add the pages, below ``--web-base-path``. Call this once, before serving."""
    app: Any = web_ui.app
    pages = _Pages(web_ui, engine, test, reports)
    app.before_request(lambda: _refuse_strangers() or pages.refuse_start())
    app.after_request(_close_frames)
    blueprint = flask.Blueprint("loadtest", __name__, url_prefix=pages.base or None, template_folder="templates")
    for path, view in (
        ("/runs", pages.runs),
        ("/runs.json", pages.newest),
        ("/runs/<run>/report.html", pages.report),
        ("/workflow", pages.live),
        ("/workflow/events", pages.events),
        ("/workflow/<name>", pages.asset),
        ("/metrics", pages.metrics),
    ):
        blueprint.add_url_rule(path, view_func=web_ui.auth_required_if_enabled(view))
    app.register_blueprint(blueprint)
    app.add_template_filter(stage_text, "stage")
    app.add_template_filter(state_text, "state")
    app.after_request(pages.change)
    structure = [{"key": key, "title": title} for key, title in _COLUMNS.items()]
    web_ui.template_args |= {
        "extended_csv_files": [{"href": "./runs", "title": "Runs and reports of the harness"}],
        "extended_tabs": [{"title": "Workflow API", "key": _KEY}],
        "extended_tables": [{"key": _KEY, "structure": structure}],
    }


def _refuse_strangers() -> flask.Response | None:
    request = flask.request
    if not is_own(request.host):
        return _answer(403, f"this page is served at 127.0.0.1 and localhost only, not at {request.host}")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return _answer(403, "requests from pages of other origins are rejected")
    # A foreign page can cause GET requests without an Origin. A link to Locust's page is harmless.
    to_index = request.method == "GET" and request.endpoint == "locust.index"
    by_link = to_index and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and not by_link:
        return _answer(403, "requests from other sites are rejected")
    return None


def _close_frames(response: flask.Response) -> flask.Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    policy = response.headers.get("Content-Security-Policy")
    if policy is None or "frame-ancestors" not in policy:
        response.headers["Content-Security-Policy"] = f"{policy}; {_NO_FRAMES}" if policy else _NO_FRAMES
    return response


def _answer(status: int, message: str) -> flask.Response:
    return flask.make_response({"success": False, "message": message}, status)


class _Pages:
    def __init__(self, web_ui: WebUI, engine: Engine, test: LocustTest, reports: Reports) -> None:
        self._environment = web_ui.environment
        options = web_ui.environment.parsed_options
        self.base: str = (options.web_base_path if options else "").rstrip("/")
        self._engine = engine
        self._test = test
        self._reports = reports
        self._feed = _LiveFeed(engine, reports)
        self._metrics = metrics_app(engine)
        self._looking = False
        """Whether a target is being checked for the next run."""

    def refuse_start(self) -> flask.Response | None:
        """Return a rejection for Locust's page to show, or None to let Locust handle the request."""
        endpoint = flask.request.endpoint
        if endpoint == "locust.update_user":
            return _answer(403, "the scenario configures users")
        if endpoint != "locust.swarm":
            return None
        # Locust's page shows a rejection's message only if the response's status is 200.
        if self._engine.phase != "over" or self._looking:
            return _answer(200, "A run is under way or about to begin. Stop it first.")
        self._looking = True
        try:
            self._test.set_from(flask.request.form)
        except LoadtestError as error:
            return _answer(200, pasteable(f"{error.message}. {error.remedy}".strip()))
        finally:
            self._looking = False
        return None

    def runs(self) -> str:
        return flask.render_template("runs.html", runs=self._reports.runs, base=self.base)

    def newest(self) -> flask.Response:
        known = None
        for run in self._reports.runs[-1:]:
            report = None if run.report is None else f"{self.base}/runs/{run.directory.name}/report.html"
            about = f"seed {run.scenario.seed}, {run.scenario.duration:g} s"
            if (multiplier := run.scenario.rate_multiplier) != 1:
                about += f", rates × {multiplier:g}"
            known = {"text": f"Run {run.directory} ({about}): {state_text(run)}.", "report": report}
        return flask.jsonify({"phase": self._engine.phase, "run": known})

    def report(self, run: str) -> flask.Response:
        """Serve the report of a run of this process. No other file is accessible."""
        for made in self._reports.runs:
            if made.directory.name == run and made.report is not None:
                response = flask.send_file(made.report.resolve(), mimetype="text/html", max_age=0)
                response.headers["Content-Security-Policy"] = _REPORT_POLICY
                return response
        return flask.Response("there is no such report", 404)

    def live(self) -> flask.Response:
        answer = flask.send_from_directory(_HERE, "live_page.html", max_age=0)
        answer.headers["Content-Security-Policy"] = _LIVE_POLICY
        return answer

    def events(self) -> flask.Response:
        if len(self._feed.watchers) >= _MOST_WATCHERS:
            return flask.Response(f"{_MOST_WATCHERS} browsers watch already.", 503)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return flask.Response(self._feed.watch(), mimetype="text/event-stream", headers=headers)

    def asset(self, name: str) -> flask.Response:
        return flask.send_from_directory(_HERE, name) if name in _ASSETS else flask.abort(404)

    def metrics(self) -> Any:
        return flask.Response.from_app(self._metrics, flask.request.environ)

    def change(self, response: flask.Response) -> flask.Response:
        endpoint = flask.request.endpoint
        if response.status_code != 200:
            return response
        if endpoint == "locust.index":
            page = response.get_data(as_text=True).replace("</body>", _LINK)
            response.set_data(page.replace(_ROOT, self._strip() + _ROOT, 1))
        elif endpoint == "locust.stats_report":
            response.set_data(labelled(response.get_data(as_text=True), self._reports.runs))
        elif endpoint == "locust.request_stats":
            latest = self._engine.latest
            rows = [] if latest is None else [_row(entry) for entry in entries_of(latest[0], latest[0].elapsed_s)]
            figures = {**response.get_json(), "extended_stats": [{"key": _KEY, "data": rows}]}
            response.set_data(flask.json.dumps(figures))
        return response

    def _strip(self) -> str:
        test, environment = self._test, self._environment
        length = max(stage.end_s for plan in test.plans.values() for stage in plan.stages)
        return flask.render_template(
            "strip.html",
            scenario=test.loaded.scenario,
            name=test.loaded.name,
            plans=test.plans,
            length=f"{length:g} s",
            target=f"{environment.host or 'not named'}{' (embedded)' if test.embedded else ''}",
            base=self.base,
            ready=self._engine.phase == "over" and environment.runner and environment.runner.state == "ready",
        )


class _LiveFeed:
    """Server-sent events of the live page, encoded once a second for all connected browsers."""

    def __init__(self, engine: Engine, reports: Reports) -> None:
        self._engine = engine
        self._reports = reports
        self._run: LiveRun | None = None
        self.watchers: set[Queue] = set()
        self._sender: gevent.Greenlet | None = None
        self._known: tuple[LiveRun, int, dict[str, Any]] | None = None
        """The run, its bucket width and its description, as they were last sent."""

    def watch(self) -> Iterator[bytes]:
        """Yield events until the browser disconnects or falls behind. The first event has the whole run."""
        queue: Queue = Queue(_BACKLOG)
        queue.put_nowait(self._event(self._latest(), None))
        self.watchers.add(queue)
        if self._sender is None:
            self._sender = gevent.spawn(self._send_forever)
        try:
            while queue in self.watchers:
                try:
                    yield queue.get(timeout=_QUIET_S)
                except Empty:
                    # Send a comment, because only a write shows that a browser is gone.
                    yield b":\n\n"
        finally:
            self.watchers.discard(queue)

    def _send_forever(self) -> None:
        sent = b""
        while self.watchers:
            gevent.sleep(1)
            event = self._changes()
            if event == sent:
                continue
            sent = event
            for queue in list(self.watchers):
                try:
                    queue.put_nowait(event)
                except Full:
                    self.watchers.discard(queue)
        self._sender = None

    def _latest(self) -> LiveRun | None:
        if (latest := self._engine.latest) and (self._run is None or self._run.session is not latest[0]):
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
            update: dict[str, Any] = {"phase": "over"}
        else:
            directory = run.session.directory
            made = any(each.directory == directory and each.report for each in self._reports.runs)
            # The path is relative to the page.
            report = f"runs/{directory.name}/report.html" if made else ""
            update = run.update(self._engine.phase, begin, report)
        return b"data: " + encode(update) + b"\n\n"


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    def shown(value: float | None) -> float | str:
        return "–" if value is None else round(value)

    return {
        "name": entry["traffic"],
        "safe_name": entry["traffic"],
        **{key: entry[key] for key in _COLUMNS if key in entry},
        **{percentile: shown(value) for percentile, value in entry["response_time"].items()},
        **{f"execution_{percentile}": shown(value) for percentile, value in entry["execution_time"].items()},
        "polls": " ".join(str(part) for part in (entry["polls_per_job"], entry["polled"]) if part) or "–",
    }


def stage_text(stage: StagePlan) -> str:
    """Format a stage's name, rate and length: ``above: 4/s for 20 s``."""
    if stage.burst:
        return f"{stage.name}: {stage.burst} at once, then {stage.duration_s:g} s"
    ramp = "" if stage.rate_to == stage.rate else f" to {times_as(stage.rate_to)}/s"
    return f"{stage.name}: {times_as(stage.rate)}/s{ramp} for {stage.duration_s:g} s"


def state_text(run: StartedRun) -> str:
    """Return a run's state, or its verdict once the report is made."""
    if run.state != "reported":
        return {"running": "under way", "reporting": "creating its report"}[run.state]
    code = ExitCode(run.exit_code or 0)
    return code.name.lower() if code in _VERDICTS else "no report; see the log"


def labelled(page: str, runs: Sequence[StartedRun]) -> str:
    """Add a label to Locust's own report. The label names the report of the last run."""
    where: Any = Markup("")
    if runs:
        where = Markup(" The run’s report is <code>{}</code>.").format(str(runs[-1].directory / "report.html"))
    label = Markup(
        '<p style="font: 15px/1.5 system-ui, sans-serif; margin: 0; padding: 10px 24px; background: #fff3cd; '
        'color: #332701">'
        "This is Locust’s own report. Its times are rounded to two digits and include the warm-up, and its percentiles "
        "have no intervals. The verdict does not use them.{}</p>"
    ).format(where)
    return page.replace("<body>", f"<body>{escape(label)}", 1)
