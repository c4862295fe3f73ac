"""The first screen: what was found out in a sentence, three numbers, what bound the run, what was not tested."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker
from rich.console import Console

from loadtest import limits
from loadtest.analysis.findings import Findings
from loadtest.limits import LimiterSpec
from loadtest.record.run_info import CpuSample
from loadtest.report.deciding import main_entry
from loadtest.report.facts import not_tested
from loadtest.report.formats import render_html, render_markdown, show
from loadtest.report.headline import headline, key_figures
from loadtest.report.limits import bottleneck
from loadtest.report.page import Page
from loadtest.report.run import build
from loadtest.report.tables.target import about_target
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


def found(directory: Path, run: tuple[Any, list[Any]]) -> Findings:
    """What the run shows."""
    return maker.findings(directory / "run", *run)


def made(directory: Path, run: tuple[Any, list[Any]]) -> Page:
    """The page of the run, without its plots: they take longer than the rest, and have tests of their own."""
    return build(found(directory, run))


def plain(text: str) -> str:
    """Without the spaces that keep numbers and units together."""
    return text.replace("\u00a0", " ")


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "none": ([], {}, "No data, because no operation was sent."),
    "aborted at once": (
        [], {"end": "aborted", "elapsed_s": 0.0, "epoch_unix_ns": None, "end_reason": "the key was refused"},
        "No data, because the run was aborted before its first request: the key was refused.",
    ),
    "one": ([{}], {}, "Within limits 1 sync run took at most 5.00 ms; no request got 429"),
    "six": ([{}] * 6, {}, "Within limits p50 of sync runs is 5.00 ms; "),
    "many": ([{}] * 80, {}, "Within limits p95 of sync runs is 5.00 ms; no request got 429, and all 80 operations "),
    "some failed": ([{}] * 78 + [UNREACHABLE] * 2, {}, "Within limits p95 of sync runs is 5.00 ms; 2.5 % of sync runs"),
    "all throttled": ([REFUSED] * 9, {}, "All 9 operations got 429."),
    "all failed": ([UNREACHABLE] * 9, {}, "All 9 run requests failed: nothing listens at the target"),
    "all late": ([LATE] * 80, {}, "Within limits p95 of sync runs is at least 5.00 ms, as 80 of 80 timed out; "),
    "interrupted": ([{}] * 80, {"end": "interrupted", "elapsed_s": 2.0},
                    "Until the run was interrupted after 2 s: within limits p95 of sync runs is 5.00 ms; "),
    "invalid": ([{}] * 80, {"cpu": [CpuSample(t_s=float(k), percent=99.0) for k in range(9)]},
                "Not reliable: within limits p95 of sync runs is 5.00 ms; "),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_run_has_its_sentence(tmp_path: Path, case: str) -> None:
    """Whatever became of a run, one sentence says it, in every form of the report; numbers that aren't say why."""
    fates, changes, sentence = CASES[case]
    findings = found(tmp_path, one_stage(fates, **changes))
    said, page, figures = (
        headline(findings, main_entry(findings)),
        build(findings),
        key_figures(findings, main_entry(findings)),
    )
    assert plain(said).startswith(sentence)
    assert len(figures) == (4 if findings.overall.operations.sent else 0)
    for figure in figures:
        assert (figure.value == "–") == figure.why.startswith("no data, because ")
    text, markdown = render_html(page), render_markdown(page)
    console = Console(width=100, file=StringIO())
    show(page, [], console=console)
    terminal = " ".join(plain(console.file.getvalue()).split())
    assert said in text.replace("&#39;", "'")
    assert plain(said) in terminal
    assert plain(said.partition("(")[0].partition("_")[0]) in plain(markdown.replace("\\", ""))
    assert len(markdown) < 1_000_000


def test_the_tours_sentence_is_that_of_its_figures(toured: tuple[Path, Page]) -> None:
    """Sync runs within the limits, then above them, in 20 words; the table has the rest, with the polling interval."""
    directory, page = toured
    metrics = json.loads((directory / "metrics.json").read_text())
    stages = metrics["traffic"]["greetings"]["stages"]
    p95 = stages["within"]["response_time_ms"]["p95"]
    rate = stages["above"]["requests"]["throttled_rate"] * 100
    said = f"Within limits p95 of sync runs is {p95:.0f} ms; at 2.5 times the limit {rate:.1f} % of requests got 429, "
    assert plain(page.statements[0]) == f"{said}as predicted."
    # A number and its unit are one word.
    assert len(page.statements[0].split(" ")) <= 20
    rows = {table.title: table for table in page.tables}["Summary"].rows
    assert [row[-1].text for row in rows] == ["", "", *["every\u00a01\u00a0s"] * 2, "", ""]
    assert plain(rows[1][5].text) == f"{rate:.1f} %"
    texts = [point.text for section in page.sections for point in section.points]
    assert "load above the limits" not in texts
    assert "whether limits are per key" in texts


def test_the_closing_block_is_short_and_full_has_everything(toured: tuple[Path, Page], tmp_path: Path) -> None:
    """At most 40 lines of 100 columns, the verdict first and the commands last; every table with --full."""
    printed = {}
    for full in (False, True):
        console = Console(width=100, file=StringIO())
        show(toured[1], [("next", "loadtest report RUN --full")], full=full, console=console)
        printed[full] = console.file.getvalue().splitlines()
    short = printed[False]
    assert len(short) <= 40
    assert max(map(len, short)) <= 100
    assert short[1].startswith("Pass: all 6 thresholds hold")
    assert short[-1] == "next  loadtest report RUN --full"
    assert "3 more of 6 rows" in short
    whole = "\n".join(printed[True])
    assert all(table.title.split(":")[0][:60] in whole for table in toured[1].tables)


def test_a_ramp_says_where_its_first_429_came(tmp_path: Path) -> None:
    """From where on are they refused? At the rate that was offered then, beside the limit's."""
    stage = maker.stage("ramp", 0, 60, 3, over=["sync_run"], expect_429=True)
    traffic = {"t": maker.plan("sync_run", [stage])}
    rows = maker.Simulation(traffic).run()
    stage.rate, stage.rate_to = 1.0, 5.0
    said = plain(made(tmp_path, (maker.info(traffic), rows)).statements[0])
    first = min(row.start for row in rows if row.row == "request" and row.status == 429) / 1e9
    offered = (1 + 4 * first / 60) / (100 / 60)
    assert f"s “ramp” rose, the first 429 came at {offered:.3g} times the limit" in said


def test_an_error_is_named_and_a_typo_shown(tmp_path: Path) -> None:
    """A run of which nothing worked fails without any threshold, and says which name was misspelt."""
    unknown = {"status": 404, "outcome": "failed", "reason": "unexpected_status", "error_code": "unknown_workflow"}
    run, rows = one_stage([unknown] * 30)
    run.traffic["t"].workflow = "say-helo"
    report = made(tmp_path, (run, rows))
    named = "All 30 run requests got 404 unknown_workflow; there is no workflow “say-helo”, did you mean say-hello?"
    assert named in report.statements
    assert report.word == "fail"
    assert report.verdict.endswith("no operation was ok (30 offered).")
    tables = {table.title: table for table in report.tables}
    assert [cell.text for cell in tables["Thresholds"].rows[0][:3]] == ["fail", "t", "operations.ok > 0"]
    lead = render_html(report).partition('class="lead">')[2].partition("</p>")[0]
    assert "no operation was ok (30 offered)" in lead


@pytest.mark.parametrize(("expect", "end", "word"), [
    ([[429]], "finished", "pass"), ([[429], []], "finished", "fail"),
    ([], "finished", "fail"), ([], "interrupted", "pass"),
])  # fmt: skip
def test_only_what_is_meant_to_be_refused_may_be(tmp_path: Path, expect: list[list[int]], end: str, word: str) -> None:
    """An entry of which nothing was ok fails unless every stage of it expects 429, or the run was cut short."""
    run, rows = one_stage([REFUSED] * 9, end=end, elapsed_s=60.0)
    run.scenario.effective["traffic"] = {"t": {"stages": [{"name": "s", "expect": each} for each in expect]}}
    assert made(tmp_path, (run, rows)).word.split(" ")[0] == word


def test_each_stage_has_a_bar_of_its_outcomes(toured: tuple[Path, Page]) -> None:
    """Every operation that was sent is in it once, and the page draws it as wide as its share."""
    directory, report = toured
    bars = [bar for section in report.sections for bar in section.bars]
    assert [bar.label for bar in bars] == [
        f"{name} · {stage}" for name in ("greetings", "jobs", "lookups") for stage in ("within", "above")
    ]
    for bar in bars:
        assert sum(percent for _, percent in bar.parts) == pytest.approx(100)
    metrics = json.loads((directory / "metrics.json").read_text())
    late = metrics["traffic"]["jobs"]["stages"]["above"]["error_rate"] * 100
    assert f'<i class="timed_out" style="width:{late:.2f}%">' in render_html(report)


def test_the_limiter_that_decides_is_named_where_it_is_not_the_assumed_one(tmp_path: Path) -> None:
    """A sliding log's rate is near a fixed window's; its decisions are others, and that is the news."""
    traffic = {"greetings": maker.tour_traffic()["greetings"]}
    simulation = maker.Simulation(traffic)
    simulation.limiters["sync_run"] = limits.make(LimiterSpec("sliding-log"), Limit(100, 60.0))
    rows = simulation.run()
    said = plain(made(tmp_path, (maker.info(traffic), rows)).statements[0])
    assert said.endswith("got 429, as a sliding log of 100 per minute decides.")


def test_the_phase_of_the_servers_windows_stands_beside_the_429_rate(toured: tuple[Path, Page]) -> None:
    """The second at which a run meets the window moves its 429 rate, so it is on the first screen."""
    rate = next(section.figures[1] for section in toured[1].sections if section.figures)
    assert rate.label == "429 rate of requests, greetings in “above”"
    assert "46.6 % to 59.4 %, depending on when in a rate-limit window the run starts" in plain(rate.words)
    # The record's epoch is 40.25 s into a minute of our clock; the server's is 0.3 s ahead, and known to half a second.
    assert re.search(r"the run began 40\.\d s into a window of 1 min \(± 0\.5 s\)", rate.words)
    facts = dict(next(section.facts for section in toured[1].sections if section.facts))
    assert facts["Windows"] in rate.words


def test_time_outs_do_not_hide_how_long_the_others_took(tmp_path: Path) -> None:
    """Where p95 reaches time-outs, the time-outs are counted, and the table has the median."""
    rows = []
    for k in range(80):
        end, fate = (k * 10 + 900, LATE) if k % 8 == 0 else (k * 10 + 5, {})
        rows += maker.both("t", k, k * 10, end, **fate)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01)], offered=80)
    page = made(tmp_path, (maker.info({"t": entry}), rows))
    assert plain(page.statements[1]).startswith(
        "Within limits p95 of sync runs is at least 900 ms, as 10 of 80 timed out"
    )
    assert {table.title: table for table in page.tables}["Summary"].rows[0][7].text == "5.00"


def test_of_several_entries_the_one_with_most_times_is_named(tmp_path: Path) -> None:
    """Where entries do the same, a sentence says whose times it gives."""
    rows = []
    for name, number in (("few", 20), ("many", 80)):
        for k in range(number):
            rows += maker.both(name, k, k * 10, k * 10 + 5)
    stages = [maker.stage("within", 0, 60, 0.01)]
    traffic = {"few": maker.plan("sync_run", stages, offered=20), "many": maker.plan("sync_run", stages, offered=80)}
    report = made(tmp_path, (maker.info(traffic), rows))
    assert "p95 of sync runs of “many” is 5.00 ms" in plain(report.statements[0])


def test_the_note_of_a_failed_threshold_is_shown_and_no_other(tmp_path: Path) -> None:
    """A scenario that fails deliberately says so where its verdict stands."""
    notes = {"requests.throttled == 0": "This failure is deliberate.", "response_time.p50 < 1s": "It holds."}
    thresholds = [{"require": require, "traffic": "t", "note": note} for require, note in notes.items()]
    page = made(tmp_path, one_stage([{}] * 50 + [REFUSED] * 50, thresholds=thresholds))
    assert page.word == "fail"
    said = render_markdown(page)
    assert "This failure is deliberate." in said
    assert "It holds." not in said


def test_an_error_of_two_entries_is_counted_once(tmp_path: Path) -> None:
    """Each of 30 runs got 404, 15 from each entry."""
    fate = {"status": 404, "outcome": "failed", "reason": "unexpected_status"}
    rows = [row for name in ("a", "b") for k in range(15) for row in maker.both(name, k, k * 10, k * 10 + 5, **fate)]
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01)], offered=15)
    all_lost = found(tmp_path, (maker.info({"a": entry, "b": entry}), rows))
    assert headline(all_lost, main_entry(all_lost)) == "All 30 run requests got 404."


def test_operations_that_the_end_cut_off_did_not_fail(tmp_path: Path) -> None:
    """The end of a run says nothing about the service."""
    cut = {"status": None, "outcome": "timed_out", "reason": "drain"}
    some_cut = found(tmp_path, one_stage([{}] * 80 + [cut] * 20))
    said = plain(headline(some_cut, main_entry(some_cut)))
    assert said.endswith(", and 20 of 100 operations were cut off by the end of the run.")


@pytest.mark.parametrize(
    ("bad", "words"), [(0, "all 160 operations were ok"), (1, "1.2 % of retrievals in “within” failed")]
)
def test_what_failed_within_limits_is_told(tmp_path: Path, bad: int, words: str) -> None:
    """Is anything refused, wrong or slow? One failure among hundreds is one."""
    rows, traffic = [], {}
    for name, operation, took in (("runs", "sync_run", 5), ("lookups", "retrieval", 2)):
        of = {"operation": operation}
        kind = {**of, "kind": "run" if operation == "sync_run" else "retrieve"}
        for k in range(80):
            fate = UNREACHABLE if bad and (name, k) == ("lookups", 7) else {}
            rows.append(maker.request(name, k, k * 10, k * 10 + took, **kind, **fate))
            rows.append(maker.operation(name, k, k * 10, k * 10 + took, **of, **fate))
        traffic[name] = maker.plan(operation, [maker.stage("within", 0, 60, 0.01)], offered=80)
    page = made(tmp_path, (maker.info(traffic), rows))
    assert plain(page.statements[0]).endswith(f"{words}.")
    assert [row[8].text for row in {table.title: table for table in page.tables}["Summary"].rows] == ["5.00", "2.00"]


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
    missing = {one.text for one in not_tested(found(tmp_path, (run, rows)))}
    assert missing <= {"Retry-After", "rate-limit headers besides Retry-After", "retries", "interference"}


def test_capacity_binds_where_times_grow_without_a_429(tmp_path: Path) -> None:
    """A stage that is offered more, slower by far and refused nothing: not a limit, the target's capacity."""
    rows = []
    for k in range(200):
        intended, took = (k * 500, 10) if k < 100 else (50_000 + (k - 100) * 100, 95)
        stage = "calm" if k < 100 else "busy"
        rows += maker.both("t", k, intended, intended + took, stage=stage)
    entry = maker.plan("sync_run", [maker.stage("calm", 0, 50, 2), maker.stage("busy", 50, 10, 10)], offered=200)
    run = maker.info({"t": entry})
    run.target.limits["sync_run"] = Limit(10_000, 60.0)
    binds = bottleneck(found(tmp_path, (run, rows)))
    assert binds.startswith("Capacity: ")
    assert "“busy”" in binds
    assert "9.5 times" in binds


def test_a_generator_that_was_late_binds_before_any_limit(tmp_path: Path) -> None:
    """What a late generator shows of limits is nothing to rely on."""
    cpu = [CpuSample(t_s=float(k), percent=99.0) for k in range(9)]
    assert bottleneck(found(tmp_path, one_stage([REFUSED] * 9, cpu=cpu))).startswith("The generator: ")


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
    points = about_target(found(tmp_path, (maker.info(traffic), rows)))
    told = plain(" ".join(f"{point.text} {point.detail}" for point in points))
    assert "20 of 20 responses gave an executionTime that seems to be in seconds instead of ms" in told
    assert "20 of 40 responses gave a job state that is not documented, and counts as pending (“queued”)" in told
    assert f"The first such response has the trace {0:032x}." in told
