"""The first screen: what was found out in a sentence, three numbers, what bound the run, what was not tested."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker
from rich.console import Console

from loadtest import limits
from loadtest.limits import LimiterSpec
from loadtest.record.run_info import CpuSample, LimitInfo
from loadtest.report import run as pages
from loadtest.report import run as text
from loadtest.report.facts import not_tested
from loadtest.report.run import Report, build
from loadtest.report.run import render_markdown as as_markdown
from loadtest.units import Limit

REFUSED = {"status": 429, "outcome": "throttled", "reason": "throttled"}
UNREACHABLE = {"status": None, "outcome": "failed", "reason": "connection_refused"}
LATE = {"status": None, "outcome": "timed_out", "reason": "timeout"}


def one_stage(fates: list[dict[str, Any]], **changes: Any) -> tuple[Any, list[Any]]:
    """A run of a minute with an operation each ten ms, each with its fate; each takes 5 ms."""
    rows = []
    for k, fate in enumerate(fates):
        rows += maker.both("t", k, k * 10, k * 10 + 5, **fate)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01)], offered=len(fates))
    return maker.info({"t": entry}, **changes), rows


def made(directory: Path, run: tuple[Any, list[Any]]) -> Report:
    """The report of a run, without its plots: they take longer than the rest, and have tests of their own."""
    return replace(build(maker.findings(directory / "run", *run)), draw=tuple)


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "none": ([], {}, "No data, because no operation was sent."),
    "aborted at once": (
        [], {"end": "aborted", "elapsed_s": 0.0, "epoch_unix_ns": None, "end_reason": "the key was refused"},
        "No data, because the run was aborted before its first request: the key was refused.",
    ),
    "one": ([{}], {}, "Within the limits the one sync run that was answered took 5.00 ms, too few for a percentile; "),
    "six": ([{}] * 6, {}, "Within the limits 50 % of 6 sync runs took at most 5.00 ms; "),
    "many": ([{}] * 80, {}, "Within the limits 95 % of 80 sync runs took at most 5.00 ms; "),
    "some failed": ([{}] * 78 + [UNREACHABLE] * 2, {}, "Within the limits 95 % of 78 sync runs took at most 5.00 ms ("),
    "all throttled": ([REFUSED] * 9, {}, "No response time, because all 9 operations were throttled (429); "),
    "all failed": ([UNREACHABLE] * 9, {}, "No response time, because all 9 runs failed: nothing listens at the target"),
    "all late": ([LATE] * 80, {}, "Within the limits 80 of 80 sync runs timed out, the first after 5.00 ms."),
    "interrupted": ([{}] * 80, {"end": "interrupted", "elapsed_s": 2.0},
                    "Until it was interrupted after 2 s: within the limits 95 % of 80 sync runs took at most 5.00 ms"),
    "invalid": ([{}] * 80, {"cpu": [CpuSample(t_s=float(k), percent=99.0) for k in range(9)]},
                "Not to be relied on, because the generator was the bottleneck: above 90 % CPU for 9 s on end; use"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_run_has_its_sentence(tmp_path: Path, case: str) -> None:
    """Whatever became of a run, one sentence says it, in every form of the report; numbers that aren't say why."""
    fates, changes, sentence = CASES[case]
    report = made(tmp_path, one_stage(fates, **changes))
    assert report.headline.replace("\u00a0", " ").startswith(sentence)
    assert len(report.figures) == 4
    for figure in report.figures:
        assert (figure.value == "–") == figure.why.startswith("no data, because ")
    page, markdown = pages.render_html(report), as_markdown(report)
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    text.show(report, tmp_path / "run", console)
    terminal = " ".join(console.export_text().replace("\u00a0", " ").split())
    assert report.headline in page.replace("&#39;", "'")
    assert report.headline.replace("\u00a0", " ") in terminal
    start = report.headline.partition("(")[0].partition("_")[0]
    assert start.replace("\u00a0", " ") in markdown.replace("\\", "").replace("\u00a0", " ")
    assert len(markdown) < 1_000_000


def test_the_tours_sentence_is_that_of_its_figures(toured: tuple[Path, Report]) -> None:
    """Sync runs within the limits, then above them, with what the assumed limiter predicts."""
    directory, report = toured
    metrics = json.loads((directory / "metrics.json").read_text())
    stages = metrics["traffic"]["greetings"]["stages"]
    p95 = stages["within"]["response_time_ms"]["p95"]
    rate = stages["above"]["requests"]["throttled_rate"]
    jobs = metrics["traffic"]["jobs"]["stages"]["above"]
    submits = metrics["traffic"]["jobs"]["stages"]["above"]["throttled_rate"]
    asked = next(use for use in metrics["limits"] if (use["limit"], use["stretch"]) == ("retrieval", "above"))
    others = [metrics["traffic"][name]["stages"]["within"]["response_time_ms"]["p95"] for name in ("jobs", "lookups")]
    expected = (
        f"Within the limits 95 % of 80 sync runs took at most {p95:.0f} ms, 95 % of 200 jobs were seen to end "
        f"within {others[0] / 1000:.2f} s, 95 % of 100 retrievals took at most {others[1]:.2f} ms; "
        f"at 2.5 times the sync_run limit {rate * 100:.1f} % of the requests got 429, as a fixed window of 100 "
        "per minute predicts; "
        f"at 1.2 times the async_submit limit {submits * 100:.1f} %, as predicted; at {asked['share']:.1f} times the "
        f"retrieval limit {asked['throttled_rate'] * 100:.1f} %, as predicted; "
        f"of 2,400 jobs of “jobs” sent in “above” {jobs['error_rate'] * 100:.1f} % were never seen to end."
    )
    assert report.headline.replace("\u00a0", " ") == expected
    assert report.figures[0].value.replace("\u00a0", " ") == f"{p95:.0f} ms"
    assert report.bottleneck.kind == "poll budget"
    whats = [one.what for one in report.not_tested]
    assert "anything planned above the limits" not in whats
    assert "whether limits are per key" in whats


def test_a_ramp_says_where_its_first_429_came(tmp_path: Path) -> None:
    """From where on are they refused? At the rate that was offered then, beside the limit's."""
    stage = maker.stage("ramp", 0, 60, 3, over=["sync_run"], expect_429=True)
    traffic = {"t": maker.plan("sync_run", [stage])}
    rows = maker.Simulation(traffic).run()
    stage.rate, stage.rate_to = 1.0, 5.0
    said = made(tmp_path, (maker.info(traffic), rows)).headline.replace("\u00a0", " ")
    first = min(row.start for row in rows if row.row == "request" and row.status == 429) / 1e9
    offered = (1 + 4 * first / 60) / (100 / 60)
    assert f"; as “ramp” rose, the first came at {offered:.3g} times" in said
    assert "times the sync_run limit on average, " in said
    assert said.endswith("; none of 180 operations failed or timed out.")


def test_an_error_is_named_and_a_typo_shown(tmp_path: Path) -> None:
    """A run of which nothing worked fails without any threshold, and says which name was misspelt."""
    unknown = {"status": 404, "outcome": "failed", "reason": "unexpected_status", "error_code": "unknown_workflow"}
    run, rows = one_stage([unknown] * 30)
    run.traffic["t"].workflow = "say-helo"
    report = made(tmp_path, (run, rows))
    named = "all 30 runs got 404 unknown_workflow; there is no workflow “say-helo”, did you mean say-hello?"
    assert named in report.headline
    assert report.verdict.word == "fail"
    assert (
        report.verdict.statement
        == "1 of 1 threshold does not hold: t: nothing was ok of 30 operations that were offered."
    )
    assert [cell.text for cell in report.thresholds.rows[0][:3]] == ["fail", "t", "operations.ok > 0"]
    lead = pages.render_html(report).partition('class="lead">')[2].partition("</p>")[0]
    assert "nothing was ok of 30 operations" in lead


@pytest.mark.parametrize(("expect", "end", "word"), [
    ([[429]], "finished", "pass"), ([[429], []], "finished", "fail"),
    ([], "finished", "fail"), ([], "interrupted", "pass"),
])  # fmt: skip
def test_only_what_is_meant_to_be_refused_may_be(tmp_path: Path, expect: list[list[int]], end: str, word: str) -> None:
    """An entry of which nothing was ok fails unless every stage of it expects 429, or the run was cut short."""
    run, rows = one_stage([REFUSED] * 9, end=end, elapsed_s=60.0)
    run.scenario.effective["traffic"] = {"t": {"stages": [{"name": "s", "expect": each} for each in expect]}}
    assert made(tmp_path, (run, rows)).verdict.word == word


def test_each_stage_has_a_bar_of_its_outcomes(toured: tuple[Path, Report]) -> None:
    """Every operation that was sent is in it once, and the page draws it as wide as its share."""
    directory, report = toured
    assert [(bar.traffic, bar.stage) for bar in report.bars] == [
        (name, stage) for name in ("greetings", "jobs", "lookups") for stage in ("within", "above")
    ]
    for bar in report.bars:
        assert sum(part.percent for part in bar.parts) == pytest.approx(100)
    metrics = json.loads((directory / "metrics.json").read_text())
    late = metrics["traffic"]["jobs"]["stages"]["above"]["error_rate"] * 100
    assert f'<i class="timed_out" style="width:{late:.2f}%">' in pages.render_html(report)


def test_the_limiter_that_decides_is_named_where_it_is_not_the_assumed_one(tmp_path: Path) -> None:
    """A sliding log's rate is near a fixed window's; its decisions are others, and that is the news."""
    traffic = {"greetings": maker.tour_traffic()["greetings"]}
    simulation = maker.Simulation(traffic)
    simulation.limiters["sync_run"] = limits.make(LimiterSpec("sliding-log"), Limit(100, 60.0))
    rows = simulation.run()
    report = made(tmp_path, (maker.info(traffic), rows))
    said = report.headline.replace("\u00a0", " ")
    assert "got 429, as a sliding log of 100 per minute decides (" in said
    assert " decisions contradict a fixed window of 100 per minute, which was assumed); none of " in said


def test_the_phase_of_the_servers_windows_stands_beside_the_429_rate(toured: tuple[Path, Report]) -> None:
    """The second at which a run meets the window moves its 429 rate, so it is on the first screen."""
    _, report = toured
    rate = report.figures[1]
    assert rate.label == "429 rate, greetings in “above”"
    assert "46.4 % to 60.0 % over all phases of the server’s windows" in rate.words.replace("\u00a0", " ")
    # The record's epoch is 40.25 s into a minute of our clock; the server's is 0.3 s ahead, and known to half a second.
    assert re.search(r"the run began 40\.\d s into a window of 1 min \(± 0\.5 s\)", rate.words)
    assert dict(report.facts)["Windows"] in rate.words


def test_time_outs_do_not_hide_how_long_the_others_took(tmp_path: Path) -> None:
    """Where p95 reaches time-outs and the median doesn't, both are said."""
    rows = []
    for k in range(80):
        end, fate = (k * 10 + 900, LATE) if k % 8 == 0 else (k * 10 + 5, {})
        rows += maker.both("t", k, k * 10, end, **fate)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01)], offered=80)
    said = made(tmp_path, (maker.info({"t": entry}), rows)).headline.replace("\u00a0", " ")
    assert said.startswith("Within the limits 10 of 80 sync runs timed out, the first after 900 ms, and half took")


def test_of_several_entries_the_one_with_most_times_is_named(tmp_path: Path) -> None:
    """Where entries do the same, a sentence says whose times it gives."""
    rows = []
    for name, number in (("few", 20), ("many", 80)):
        for k in range(number):
            rows += maker.both(name, k, k * 10, k * 10 + 5)
    stages = [maker.stage("within", 0, 60, 0.01)]
    traffic = {"few": maker.plan("sync_run", stages, offered=20), "many": maker.plan("sync_run", stages, offered=80)}
    report = made(tmp_path, (maker.info(traffic), rows))
    assert "95 % of 80 sync runs of “many” took at most 5.00 ms" in report.headline.replace("\u00a0", " ")


def test_within_limits_the_times_of_each_operation_and_all_failures_are_told(tmp_path: Path) -> None:
    """Is anything refused, wrong or slow? Each is answered, of all traffic; one failure among hundreds is one."""
    for bad, words in ((0, "none"), (1, "1")):
        rows, traffic = [], {}
        for name, operation, took in (("runs", "sync_run", 5), ("lookups", "retrieval", 2)):
            of = {"operation": operation}
            kind = {**of, "kind": "run" if operation == "sync_run" else "retrieve"}
            for k in range(80):
                fate = UNREACHABLE if bad and (name, k) == ("lookups", 7) else {}
                rows.append(maker.request(name, k, k * 10, k * 10 + took, **kind, **fate))
                rows.append(maker.operation(name, k, k * 10, k * 10 + took, **of, **fate))
            traffic[name] = maker.plan(operation, [maker.stage("within", 0, 60, 0.01)], offered=80)
        said = made(tmp_path / words, (maker.info(traffic), rows)).headline.replace("\u00a0", " ")
        assert said == (
            f"Within the limits 95 % of 80 sync runs took at most 5.00 ms, 95 % of {80 - bad} retrievals took at most "
            f"2.00 ms; no request got 429, and {words} of 160 operations failed or timed out"
            + ("; of 80 retrievals of “lookups” sent in “within” 1.2 % failed." if bad else ".")
        )


def test_what_was_not_tested_follows_from_the_run(tmp_path: Path) -> None:
    """Several keys, other limits, a remote target and a longer run each take their line away."""
    calm = maker.stage("within", 0, 4000, 0.1)
    traffic = {
        "runs": maker.plan("sync_run", [calm, maker.stage("above", 4000, 60, 5, over=["sync_run"])]),
        "jobs": maker.plan("async_run", [calm]),
        "lookups": maker.plan("retrieval", [calm]),
    }  # fmt: skip
    traffic["jobs"].workflow = "other"
    rows = maker.Simulation(traffic, poll_s=0.02).run()
    run = maker.info(traffic, keys=2)
    run.target.embedded = False
    found = maker.findings(tmp_path / "run", run, rows)
    assert [one.what for one in not_tested(found)] == []


def test_capacity_binds_where_times_grow_without_a_429(tmp_path: Path) -> None:
    """A stage that is offered more, slower by far and refused nothing: not a limit, the target's capacity."""
    rows = []
    for k in range(200):
        intended, took = (k * 500, 10) if k < 100 else (50_000 + (k - 100) * 100, 95)
        stage = "calm" if k < 100 else "busy"
        rows += maker.both("t", k, intended, intended + took, stage=stage)
    entry = maker.plan("sync_run", [maker.stage("calm", 0, 50, 2), maker.stage("busy", 50, 10, 10)], offered=200)
    run = maker.info({"t": entry})
    run.target.limits["sync_run"] = LimitInfo(count=10_000, window_s=60.0)
    report = made(tmp_path, (run, rows))
    assert report.bottleneck.kind == "capacity"
    assert "“busy”" in report.bottleneck.words
    assert "9.5 times" in report.bottleneck.words


def test_a_generator_that_was_late_binds_before_any_limit(tmp_path: Path) -> None:
    """What a late generator shows of limits is nothing to rely on."""
    cpu = [CpuSample(t_s=float(k), percent=99.0) for k in range(9)]
    report = made(tmp_path, one_stage([REFUSED] * 9, cpu=cpu))
    assert report.bottleneck.kind == "generator"


def test_a_target_that_counts_seconds_or_makes_up_states_is_told_of(tmp_path: Path) -> None:
    """executionTime near a thousandth of each wait, and a job state that nobody documented: each with an example."""
    common = {"operation": "async_run"}
    rows = []
    for k in range(20):
        trace = {"request_id": f"{k:032x}"}
        took, ran = 100.0 + k, (98.0 + k) / 1000
        at = k * 1000
        rows += [
            *maker.both("runs", k, at, at + took, execution_time_ms=ran, **trace),
            maker.request("jobs", k, at, at + 5, kind="submit", status=202, job_state="queued", **common, **trace),
            maker.request("jobs", k, at + 995, at + 999, kind="poll", job_state="completed", **common, **trace),
            maker.operation("jobs", k, at, at + 999, poll=1, execution_time_ms=1.0, **common, **trace),
        ]
    stages = [maker.stage("within", 0, 20, 0.01)]
    traffic = {"runs": maker.plan("sync_run", stages, offered=20), "jobs": maker.plan("async_run", stages, offered=20)}
    told = " ".join(made(tmp_path, (maker.info(traffic), rows)).target).replace("\u00a0", " ")
    assert "20 of 20 answers gave an executionTime near a thousandth of what was waited, as if in seconds" in told
    assert "20 of 40 answers gave a job state that is not documented, and counts as pending (“queued”)" in told
    assert f"the first is of trace {0:032x}" in told
