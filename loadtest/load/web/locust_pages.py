"""What we change of Locust's pages: the scenario above its form, runs with reports, a label on its own report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import flask
from flask import Blueprint
from locust.web import WebUI
from markupsafe import Markup, escape

from loadtest.errors import ExitCode
from loadtest.load.engine import Engine
from loadtest.load.plain.locust_test import LocustTest
from loadtest.load.plain.reports import MadeRun, Reports
from loadtest.record.run_info import StagePlan

_ROOT: Final = '<div id="root"></div>'
_WORDS: Final = {
    ExitCode.PASS: "pass",
    ExitCode.FAIL: "fail",
    ExitCode.INVALID: "invalid",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.ABORTED: "aborted",
    ExitCode.INTERRUPTED: "interrupted",
}
# A report is one file that needs nothing else: it runs apart from this origin, whose pages can start load.
_REPORT_POLICY: Final = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'"
)


def extend_pages(web_ui: WebUI, engine: Engine, test: LocustTest, reports: Reports) -> None:
    """Put the scenario above Locust's form, serve the runs and their reports, and label Locust's own report."""
    if web_ui.app is None:
        return
    pages = _Pages(web_ui, engine, test, reports)
    blueprint = Blueprint("loadtest", __name__, url_prefix=pages.base or None, template_folder="templates")
    blueprint.add_url_rule("/runs", "runs", web_ui.auth_required_if_enabled(pages.runs))
    blueprint.add_url_rule("/runs.json", "newest", web_ui.auth_required_if_enabled(pages.newest))
    blueprint.add_url_rule("/runs/<run>/report.html", "report", web_ui.auth_required_if_enabled(pages.report))
    web_ui.app.register_blueprint(blueprint)
    web_ui.app.add_template_filter(stage_text, "stage")
    web_ui.app.add_template_filter(state_text, "state")
    web_ui.app.after_request(pages.change)
    web_ui.template_args["extended_csv_files"] = [{"href": "./runs", "title": "Runs and reports of the harness"}]


class _Pages:
    def __init__(self, web_ui: WebUI, engine: Engine, test: LocustTest, reports: Reports) -> None:
        options = web_ui.environment.parsed_options
        self.base: str = (options.web_base_path if options else "").rstrip("/")
        self._web_ui = web_ui
        self._engine = engine
        self._test = test
        self._reports = reports

    def runs(self) -> str:
        """All runs of this process."""
        return flask.render_template("runs.html", runs=self._reports.runs, base=self.base)

    def newest(self) -> flask.Response:
        """The newest run, for the scenario's strip."""
        runs = self._reports.runs
        run = runs[-1] if runs else None
        known = None
        if run is not None:
            report = None if run.report is None else f"{self.base}/runs/{run.directory.name}/report.html"
            about = f"seed {run.seed}" + (f", rates × {run.rate_multiplier:g}" if run.rate_multiplier != 1 else "")
            known = {"text": f"Run {run.directory} ({about}): {state_text(run)}.", "report": report}
        return flask.jsonify({"phase": self._engine.phase, "run": known})

    def report(self, run: str) -> flask.Response:
        """The report of a run of this process, and no other file."""
        for made in self._reports.runs:
            if made.directory.name == run and made.report is not None:
                response = flask.send_file(made.report.resolve(), mimetype="text/html", max_age=0)
                response.headers["Content-Security-Policy"] = _REPORT_POLICY
                return response
        return flask.Response("there is no such report", 404)

    def change(self, response: flask.Response) -> flask.Response:
        """Add to Locust's page and to its report."""
        endpoint = flask.request.endpoint
        if endpoint == "locust.index" and response.status_code == 200:
            page = response.get_data(as_text=True)
            response.set_data(page.replace(_ROOT, self._strip() + _ROOT, 1))
        elif endpoint == "locust.stats_report" and response.status_code == 200:
            response.set_data(labelled(response.get_data(as_text=True), self._reports.runs))
        return response

    def _strip(self) -> str:
        test, environment = self._test, self._web_ui.environment
        length = max(stage.start_s + stage.duration_s for plan in test.plans.values() for stage in plan.stages)
        target = f"{environment.host or 'not named'}{' (embedded)' if test.embedded else ''}"
        return flask.render_template(
            "strip.html",
            scenario=test.loaded.scenario,
            name=test.loaded.name,
            plans=test.plans,
            length=f"{length:g} s",
            target=target,
            base=self.base,
            ready=self._engine.phase == "over"
            and environment.runner is not None
            and environment.runner.state == "ready",
            run="",
            links=self._web_ui.template_args.get("loadtest_links", []),
        )


def stage_text(stage: StagePlan) -> str:
    """A stage's name, rate and length: ``above 4/s for 20 s``."""
    if stage.burst:
        return f"{stage.name}: {stage.burst} at once, then {stage.duration_s:g} s"
    ramp = "" if stage.rate_to == stage.rate else f" to {stage.rate_to:.4g}/s"
    return f"{stage.name}: {stage.rate:.4g}/s{ramp} for {stage.duration_s:g} s"


def state_text(run: MadeRun) -> str:
    """How far a run is: its verdict, once it is reported."""
    if run.state == "running":
        return "under way"
    if run.state == "reporting":
        return "its report is being made"
    return _WORDS.get(ExitCode(run.exit_code or 0), "no report; see the log")


def labelled(page: str, runs: Sequence[MadeRun]) -> str:
    """Locust's own report with a label that says what it is, and where the run's report is."""
    where: Any = Markup("")
    if runs:
        where = Markup(" The run’s own report is <code>{}</code>.").format(str(runs[-1].directory / "report.html"))
    label = Markup(
        '<p style="font: 15px/1.5 system-ui, sans-serif; margin: 0; padding: 10px 24px; background: #fff3cd; '
        'color: #332701">'
        "Locust’s own report: its times are rounded to two digits, run from start to stop with the warm-up, and its "
        "percentiles have no intervals. Nothing is judged by them.{}</p>"
    ).format(where)
    return page.replace("<body>", f"<body>{escape(label)}", 1)


def label_file(path: Path, runs: Sequence[MadeRun]) -> None:
    """Label the report that Locust wrote into a file."""
    if path.is_file():
        path.write_text(labelled(path.read_text(encoding="utf-8"), runs), encoding="utf-8")
