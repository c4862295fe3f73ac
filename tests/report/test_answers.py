"""The first screen answers a scenario's question: from its comparisons, its mistakes on purpose, or its bursts."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import record_maker as maker
from rich.console import Console

from loadtest.analysis.findings import Findings
from loadtest.report.answers import answer_tables, matters
from loadtest.report.formats import render_html, render_markdown, show
from loadtest.report.page import Page
from loadtest.report.plots import figure, operations
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import styled
from loadtest.report.run import build
from loadtest.words import signed

REFUSED = {"status": 429, "outcome": "throttled", "reason": "throttled"}


def sides(directory: Path, shifts: dict[str, float], **effective: Any) -> Findings:
    """A run of entries side by side: 90 arrivals each, with the same inputs, slower by so many ms."""
    rows = []
    for name, shift in shifts.items():
        for k in range(90):
            took = 100.0 + (k * 37) % 151 + shift
            tries = 3 if name == "eager" else 1
            rows += [maker.request(name, k, k * 1000, k * 1000 + took)] * tries
            rows.append(maker.operation(name, k, k * 1000, k * 1000 + took, attempt=tries))
    stages = [maker.stage("within", 0, 90, 1)]
    run = maker.info({name: maker.plan("sync_run", stages, offered=90) for name in shifts})
    inputs = {name: {"workflow": "sleep", "inputs": "rows.jsonl"} for name in shifts}
    run.scenario.effective |= {"traffic": inputs, **effective}
    return maker.findings(directory / "run", run, rows)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Three alternatives: one that is slower than the others, one of these with three requests for each run."""
    by = ["response_time.p50", "requests_per_operation"]
    compare = [{"entries": ["eager", "calm", "slow"], "by": by}]
    shifts = {"eager": 0.0, "calm": 0.0, "slow": 40.0}
    return sides(tmp_path_factory.mktemp("compared"), shifts, compare=compare)


def words(text: str) -> str:
    """Without the spaces that keep numbers and units together."""
    return " ".join(text.replace("\u00a0", " ").split())


def test_the_choice_is_the_first_sentence(compared: Findings) -> None:
    """The best, its price, its equals, and the worst."""
    said = "“calm” is fastest, 174 ms (p50), 1 request each; “eager” may match it; “slow” is worst (214 ms)."
    assert words(build(compared).statements[0]) == said


def test_every_form_has_the_answers_table(compared: Findings, tmp_path: Path) -> None:
    """Figures with intervals, and how each stands beside the best, in the page, in Markdown and in the terminal."""
    report = build(compared)
    (table,) = answer_tables(compared)
    assert [row[0].text for row in table.rows] == ["calm", "eager", "slow"]
    assert [row[-1].text for row in table.rows] == ["best", "cannot be told apart", "slower"]
    assert "Compared pair by pair" in table.note
    console = Console(width=100, file=StringIO())
    show(report, [], console=console)
    for text in (render_html(report), render_markdown(report), console.file.getvalue()):
        for part in ("214 ms", "cannot be told", "slower"):
            assert part in words(text)
    assert [len(table.rows) for table in report.tables if table.title.startswith("Every difference")] == [2 * 3]
    assert not any(section.figures for section in report.sections)


def test_the_picture_has_a_dot_and_an_interval_for_each(compared: Findings) -> None:
    """Dots are the figures, and the title says what the intervals of differences do."""
    with styled("answer"):
        drawn = operations.draw_answers(compared)
    assert isinstance(drawn, Drawing)
    assert f"{drawn.title}." == build(compared).statements[0]
    panel = drawn.figure.axes[0]
    dots = {int(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
    names = [label.get_text() for label in panel.get_yticklabels()]
    figures = {side.name: side.figures[0].value for side in compared.answers[0].sides}
    assert {names[row]: x for row, x in dots.items()} == figures
    assert len([line for line in panel.lines if np.ptp(np.asarray(line.get_xdata(), float)) > 0]) == 3


def test_without_a_comparison_there_is_no_picture(toured: tuple[Path, Page]) -> None:
    """A scenario that compares nothing has neither table nor picture of it."""
    assert "Compared" not in [section.title for section in toured[1].sections]
    assert "answer" not in [plot.name for plot in toured[1].plots]


@pytest.mark.parametrize(
    ("shift", "said", "verdict"),
    [
        (0.0, "No measurable change of “v” in “beside”: response time p50 was 172 ms", "cannot be told apart"),
        (60.0, "“v” is slower in “beside” than in “alone”: response time p50 232 ms, against 172 ms.", "slower"),
        (-60.0, "“v” is faster in “beside” than in “alone”: response time p50 112 ms, against 172 ms.", "better"),
    ],
)  # fmt: skip
def test_an_effect_is_said_with_what_can_be_told(tmp_path: Path, shift: float, said: str, verdict: str) -> None:
    """Slower, faster, or no change that can be told and how great it may be at most."""
    rows = []
    for k in range(160):
        took, stage = 100.0 + (k % 80 * 37) % 151 + (shift if k >= 80 else 0.0), "beside" if k >= 80 else "alone"
        rows += maker.both("v", k, k * 1000, k * 1000 + took, stage=stage)
    plan = maker.plan("sync_run", [maker.stage("alone", 0, 80, 1), maker.stage("beside", 80, 80, 1)], offered=160)
    plan.input_rows = 80
    run = maker.info({"v": plan})
    run.scenario.effective["compare"] = [
        {"entry": "v", "stages": ["alone", "beside"], "by": ["response_time.p50", "throttled_rate"]}
    ]
    found = maker.findings(tmp_path / "run", run, rows)
    assert words(build(found).statements[0]).startswith(said)
    (table,) = answer_tables(found)
    assert [row[-1].text for row in table.rows] == ["baseline", verdict, "baseline", "cannot be told apart"]
    assert figure("answer", found) is not None
    if not shift:
        low, high = found.answers[0].differences[0].interval or (None, None)
        assert low is not None
        assert high is not None
        ends = f"{signed(low, 'ms')} to {signed(high, 'ms')}"
        assert f"its change {words(ends)} (95 %)." in words(build(found).statements[0])


def test_a_change_that_is_told_but_too_small_to_matter_is_none(tmp_path: Path) -> None:
    """Half a millisecond of 174 is beyond chance where inputs are equal, and nobody's business."""
    found = sides(tmp_path, {"a": 0.0, "b": 0.5}, compare=[{"entries": ["a", "b"], "by": ["response_time.p50"]}])
    (one,) = found.answers[0].differences
    assert one.told_apart
    assert not matters(found.answers[0], one)
    worse = sides(
        tmp_path / "worse", {"a": 0.0, "b": 40.0}, compare=[{"entries": ["a", "b"], "by": ["response_time.p50"]}]
    )
    assert matters(worse.answers[0], worse.answers[0].differences[0])


def mistaken(directory: Path, fates: list[dict[str, Any]], mistakes: dict[str, Any]) -> Page:
    """The page of a run with mistakes on purpose, an operation a second."""
    rows = []
    for k, fate in enumerate(fates):
        rows += maker.both("t", k, k * 1000, k * 1000 + 5, **fate)
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01)], offered=len(fates))
    run = maker.info({"t": entry}, thresholds=[{"traffic": "t", "require": "error_rate == 0"}])
    run.scenario.effective["traffic"] = {"t": {"workflow": "say-hello", "mistakes": mistakes}}
    return build(maker.findings(directory / "run", run, rows))


def test_mistakes_are_counted_by_kind(tmp_path: Path) -> None:
    """So many of each kind answered as documented; one that was refused or never sent is not tested."""
    wrong = {"status": 200, "outcome": "failed", "reason": "unexpected_status", "mistake": "invalid_body"}
    good = {"status": 404, "mistake": "unknown_workflow"}
    fates = [{}] * 10 + [good] * 6 + [wrong] + [{**wrong, "status": 400, "outcome": "ok", "reason": None}] * 3
    planned = {"unknown_workflow": "15%", "invalid_body": 0.1, "bad_key": "1%"}
    report = mistaken(tmp_path, [*fates, {**REFUSED, "mistake": "unknown_workflow"}], planned)
    assert words(report.statements[1]) == (
        "9 of 11 mistakes and expected errors were answered as documented; unknown_workflow least (6 of 7); "
        "not tested: “bad_key”."
    )
    table = {table.title: table for table in report.tables}["Deliberate mistakes and their responses"]
    assert [(row[1].text, row[-1].text) for row in table.rows] == [
        ("unknown_workflow", "as documented"), ("invalid_body", "answered otherwise"), ("bad_key", "not tested"),
    ]  # fmt: skip
    assert "responses to bad_key" in render_markdown(report).replace("\\", "")


@pytest.mark.parametrize("refused", [0, 100])
def test_a_burst_says_how_many_were_accepted(tmp_path: Path, refused: int) -> None:
    """Twice the quota at once: so many accepted, so many refused, and not a rate over five seconds."""
    rows = []
    fate: Callable[[int], dict[str, Any]] = lambda k: REFUSED if k >= 200 - refused else {}  # noqa: E731
    for k in range(200):
        rows += [maker.request("t", k, k / 100, 20 + k / 100, stage="twice", **fate(k))]
        rows += [maker.operation("t", k, 0, 20 + k / 100, stage="twice", **fate(k))]
    stage = maker.stage("twice", 0, 5, 0, burst=200, over=["sync_run"], expect_429=True)
    run = maker.info({"t": maker.plan("sync_run", [stage], offered=200)})
    said = words(build(maker.findings(tmp_path / "run", run, rows)).statements[0])
    how = "100 of 200 were accepted, as predicted"
    if not refused:
        how = "all 200 were accepted, against 50.0 % expected 429s"
    assert said == f"Of twice the quota at once {how}."
