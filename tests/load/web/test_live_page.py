"""The live page and ``/metrics`` of a real run, against its record; and the page in Chromium."""

from collections import Counter
from collections.abc import Iterable
from statistics import median_low
from typing import Any

import pytest
from plugins.processes import Fixture
from plugins.records import RunDirectory, runs_in
from prometheus_client.parser import text_string_to_metric_families

Message = dict[str, Any]


def tracks(messages: Iterable[Message]) -> dict[tuple[str, ...], list[float | None]]:
    """What a page that was sent these messages shows."""
    shown: dict[tuple[str, ...], list[float | None]] = {}
    for message in messages:
        if "run" in message:
            shown = {}
        for name, values in message.get("series", {}).get("tracks", []):
            if values:
                known = shown.setdefault(tuple(name), [])
                begin = message["series"]["begin"]
                known += [0 if name[0] in {"requests", "offered"} else None] * (begin - len(known))
                shown[tuple(name)] = known[:begin] + values
    return shown


def per_second(rows: Iterable[dict[str, Any]], column: str) -> list[int]:
    """How many rows there are in each second since the epoch."""
    counted = Counter(row[column] // 10**9 for row in rows if row[column] is not None and row[column] >= 0)
    return [counted[second] for second in range(max(counted, default=-1) + 1)]


def check_page(shown: dict[tuple[str, ...], list[float | None]], run: RunDirectory) -> None:
    """Every second of every count is what the record says."""
    for traffic, kinds in {"greetings": ["run"], "jobs": ["submit", "poll"]}.items():
        assert shown["offered", traffic] == per_second(
            [row for row in run.operations if row["traffic"] == traffic], "intended_start"
        )
        for kind in kinds:
            sent = [row for row in run.requests if (row["traffic"], row["kind"]) == (traffic, kind)]
            assert shown["requests", traffic, kind, "sent"] == per_second(sent, "start")
            for name, wanted in {"throttled": True, "accepted": False}.items():
                found = per_second([row for row in sent if (row["status"] == 429) == wanted], "start")
                # A kind that never got one has a track without a second.
                assert shown.get(("requests", traffic, kind, name), []) == found
    assert max(value or 0 for value in shown[("pending_jobs",)]) > 0


def check_metrics(text: str, run: RunDirectory) -> None:
    """Counters and histograms are those of the record."""
    found = {
        (sample.name.removeprefix("loadtest_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def at(metric: str, **labels: str) -> float:
        return found[metric, tuple(sorted(labels.items()))]

    for traffic in ("greetings", "jobs"):
        operations = [row for row in run.operations if row["traffic"] == traffic]
        assert at("arrivals_offered_total", traffic=traffic) == len(operations)
        for outcome, count in Counter(row["outcome"] for row in operations).items():
            assert at("operations_total", traffic=traffic, outcome=outcome) == count
        times = [(row["end"] - row["intended_start"]) / 1e9 for row in operations if row["outcome"] == "ok"]
        assert at("response_time_seconds_count", traffic=traffic) == len(times)
        assert at("response_time_seconds_sum", traffic=traffic) == pytest.approx(sum(times))
        for bound in ("0.005", "0.25", "0.5", "1.0"):
            below = sum(time <= float(bound) for time in times)
            assert at("response_time_seconds_bucket", traffic=traffic, le=bound) == below
    executions = [row["execution_time_ms"] for row in run.requests if row["execution_time_ms"] is not None]
    measured = [at("execution_time_seconds_count", traffic=traffic) for traffic in ("greetings", "jobs")]
    assert sum(measured) == len(executions)
    classes = Counter(
        (row["traffic"], row["kind"], f"{row['status'] // 100}xx", row["outcome"]) for row in run.requests
    )
    for (traffic, kind, status_class, outcome), count in classes.items():
        labels = {"traffic": traffic, "kind": kind, "status_class": status_class, "outcome": outcome}
        assert at("requests_total", **labels) == count
    assert at("phase", phase="over") == 1
    assert at("pending_jobs") == 0
    assert at("run_info", run=run.info.id, scenario="live", target=run.info.target.url) == 1


def test_what_is_shown_is_what_the_record_says(live_ui: Fixture, title: str) -> None:
    """Events from before the start to the report, a watcher who comes late, the tab, and the exporter: all alike."""
    up = live_ui("2s")
    assert up.get("/workflow").headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for name, status in {"live_charts.js": 200, "live_page.py": 404, "..%2fguard.py": 404}.items():
        assert up.get(f"/workflow/{name}").status_code == status
    assert up.get("/metrics", headers={"Host": "evil.example"}).status_code == 403
    messages: list[Message] = []
    with up.watched() as watched:
        messages.append(next(watched))
        assert messages[0] == {"phase": "over"}
        assert up.start()["success"] is True
        for message in watched:
            messages.append(message)
            if "report" in message:
                break
    (run,) = runs_in(up.reports)
    run.check_conservation()
    with up.watched() as late:
        last = next(late)
    check_page(tracks(messages), run)
    check_page(tracks([last]), run)
    assert {"running", "draining", "over"} <= {message["phase"] for message in messages}
    assert up.get(f"/{last['report']}").status_code == 200
    assert last["run"]["title"] == title
    assert next((flow["limit"], flow["count"]) for flow in last["run"]["flows"]) == ("sync_run", 20)
    assert all(flow["edge_s"] is not None for flow in last["run"]["flows"])
    thresholds = {threshold["text"]: threshold["judgement"] for threshold in last["thresholds"]}
    assert thresholds == {"throttled_rate < 10%": "fail", "requests.sent < 100000": "pass"}
    assert {light["name"] for light in last["lights"]} >= {"dispatch lag p99", "generator CPU", "event loop", "users"}
    check_metrics(up.get("/metrics").text, run)
    (table,) = up.get("/stats/requests").json()["extended_stats"]
    shown = {row["name"]: row for row in table["data"]}
    assert shown["greetings"]["got_429"] == sum(row["status"] == 429 for row in run.requests)
    executions = [
        row["execution_time_ms"] for row in run.requests if row["traffic"] == "jobs" and row["execution_time_ms"]
    ]
    assert shown["jobs"]["execution_p50"] == pytest.approx(median_low(executions), rel=0.03)
