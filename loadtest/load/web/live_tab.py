"""What Locust's own page shows of the Workflow API: a tab with the current figures, and a link to the live page."""

from typing import Any, Final

import flask
from locust.web import WebUI

from loadtest.load.engine import Engine
from loadtest.load.web.live_state import EntryNow, entries_of

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
    "failed": "# Failed",
    "timed_out": "# Timed out",
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
