"""Titles of plots are statements that the record proves: each is held against the rows themselves."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import record_maker as maker

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections import usage as windows
from loadtest.report.page import Point
from loadtest.report.plots import execution, limits, operations, response_time
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import styled
from loadtest.units import Limit


def title(draw: Any, findings: Findings) -> str:
    """Of a drawing that there is."""
    with styled("title"):
        found = draw(findings)
    assert isinstance(found, Drawing)
    return found.title.replace("\u00a0", " ")


def per_window(rows: list[Any], epoch_s: float, shift_s: float) -> dict[int, Counter[bool]]:
    """Accepted and refused requests of each minute of the server's clock."""
    found: dict[int, Counter[bool]] = {}
    for row in rows:
        if row.row == "request":
            window = int((row.start / 1e9 + epoch_s + shift_s) // 60)
            found.setdefault(window, Counter())[row.status == 429] += 1
    return found


@pytest.mark.parametrize("seconds", [200, 30])
def test_windows_say_what_those_that_refused_let_pass(tmp_path: Path, seconds: int) -> None:
    """Whole ones show the limit; where the run holds parts only, the title says that they are cut off."""
    stage = maker.stage("above", 0, seconds, 8, over=["sync_run"], expect_429=True)
    traffic = {"t": maker.plan("sync_run", [stage])}
    rows, run = maker.Simulation(traffic).run(), maker.info(traffic)
    found = maker.findings(tmp_path / "run", run, rows)
    per_minute = per_window(rows, run.epoch_unix_ns / 1e9, 0.3)
    refusing = {number: counts for number, counts in per_minute.items() if counts[True]}
    assert refusing
    whole = [counts[False] for number, counts in refusing.items() if min(per_minute) < number < max(per_minute)]
    said = title(limits.draw_windows, found)
    if whole:
        assert set(whole) == {100}
        which = f"all {len(whole)} full windows" if len(whole) > 1 else "the one full window"
        assert said == f"In {which}, the API accepted exactly the limit"
    else:
        passed = sorted(counts[False] for counts in refusing.values())
        ends = f"{passed[0]}" if passed[0] == passed[-1] else f"{passed[0]} to {passed[-1]}"
        assert said == f"Accepted in windows with 429s, which the run covers in part: sync_run {ends} of 100"


def test_windows_that_refused_nothing_are_not_drawn_for_those_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only windows beyond those that are kept refused, there is no picture of the others."""
    stages = [maker.stage("within", 0, 90, 1), maker.stage("above", 90, 90, 4, over=["sync_run"], expect_429=True)]
    traffic = {"t": maker.plan("sync_run", stages)}
    monkeypatch.setattr(windows, "KEPT", 1)
    findings = maker.findings(tmp_path / "run", maker.info(traffic), maker.Simulation(traffic).run())
    with styled("windows"):
        drawn = limits.draw_windows(findings)
    assert isinstance(drawn, Point)
    assert "windows has a 429" in drawn.detail


@pytest.mark.parametrize("last", [101, 200])
def test_the_title_compares_the_lowest_rate_with_the_highest(tmp_path: Path, last: int) -> None:
    """By the ratio of their medians."""
    rows, at, number = [], 0, 0
    stages = [maker.stage(name, 40 * k, 40, k + 1) for k, name in enumerate("abc")]
    for stage, took in zip(stages, (100, 150, last), strict=True):
        for k in range(int(stage.rate * 40)):
            start = at + k * 1000 / stage.rate
            rows += maker.both("t", number, start, start + took + k % 3, stage=stage.name)
            number += 1
        at += 40_000
    run = maker.info({"t": maker.plan("sync_run", stages, offered=number)})
    said = title(response_time.draw_by_rate, maker.findings(tmp_path / "run", run, rows))
    times = {stage: [(r.end - r.intended_start) / 1e6 for r in rows if r.stage == stage] for stage in "ac"}
    ratio = words.times_as(float(np.quantile(times["c"], 0.5) / np.quantile(times["a"], 0.5)))
    assert said == f"At 3 times the rate, the median response time of t is {ratio} times as long"


def test_stages_of_bursts_have_no_rate(tmp_path: Path) -> None:
    """Three bursts are no three rates: they are compared by their names, and no line joins them over time."""
    stages = [maker.stage(name, 20 * k, 20, 0, burst=12 + 2 * k) for k, name in enumerate("abc")]
    rows = []
    for place, stage in enumerate(stages):
        start, took = stage.start_s * 1e3, 5 + 2 * place
        for k in range(int(stage.burst)):
            rows += maker.both("t", 100 * place + k, start, start + took, stage=stage.name, execution_time_ms=4.0)
    findings = maker.findings(tmp_path / "run", maker.info({"t": maker.plan("sync_run", stages)}), rows)
    assert response_time.draw_by_rate(findings) is None
    assert title(execution.draw_overhead, findings) == "Median overhead of t: 1.00 ms in “a”, 5.00 ms in “c”"
    with styled("x"):
        scatter = response_time.draw_scatter(findings)
    assert isinstance(scatter, Drawing)
    assert not [line for line in scatter.figure.axes[0].lines if "of a bin" in str(line.get_label())]


def test_windows_of_several_keys_stand_side_by_side(tmp_path: Path) -> None:
    """Each key has a limiter of its own, which accepts the whole limit in the same windows: no bar covers another."""
    rows = []
    for k in range(400):
        key, place = k % 2, k // 2
        late = {} if place % 100 < 50 else {"status": 429, "outcome": "throttled", "reason": "throttled"}
        rows += maker.both("t", k, place * 600.0, place * 600.0 + 5, key_index=key, **late)
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("above", 0, 120, 4, over=["sync_run"])])}, keys=2)
    run.target.limits["sync_run"] = Limit(50, 60.0)
    findings = maker.findings(tmp_path / "run", run, rows)
    with styled("x"):
        drawn = limits.draw_windows(findings)
    assert isinstance(drawn, Drawing)
    bars = [bar for group in drawn.figure.axes[0].containers[:2] for bar in group.patches if bar.get_height()]
    ends = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars if bar.get_y() == 0)
    assert len(ends) >= 4
    assert all(before[1] <= after[0] + 1e-6 for before, after in pairwise(ends))


@pytest.mark.parametrize("slower", [1.0, 1.2, 3.0])
def test_a_heat_map_tells_thirds_apart_as_far_as_its_fields_do(tmp_path: Path, slower: float) -> None:
    """What the title says of the last third's median and the first's holds for the medians of the rows."""
    rows = []
    for k in range(240):
        took = (100 + k * 37 % 61) * (slower if k >= 120 else 1.0)
        rows += maker.both("t", k, k * 3000, k * 3000 + took)
    findings = maker.findings(
        tmp_path / "run", maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 720, 1 / 3)])}), rows
    )
    said = title(response_time.draw_heat, findings)
    took = np.array([(row.end - row.intended_start) / 1e6 for row in rows if row.row == "operation"])
    ratio = float(np.median(took[-80:]) / np.median(took[:80]))
    ends = [float(each) for each in re.findall(r"[\d.]+", said)]
    assert (len(ends) == 1) is (slower == 1.0), said
    low, high = ends if len(ends) == 2 else (1 - ends[0] / 100, 1 + ends[0] / 100)
    assert low <= ratio <= high


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("throttled", 429, "was throttled (429) after"),
        ("failed", 500, "failed after"),
        ("timed_out", None, "timed out after"),
    ],
)
def test_the_slowest_operation_is_said_to_end_as_it_did(tmp_path: Path, outcome: str, status: Any, words: str) -> None:
    """A refused operation was not given up."""
    rows = [row for k in range(5) for row in maker.both("t", k, k * 1000, k * 1000 + 5)]
    rows += maker.both("t", 5, 5000, 5070, outcome=outcome, status=status, reason=outcome)
    findings = maker.findings(
        tmp_path / "run", maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 10, 1)])}), rows
    )
    assert title(operations.draw_slowest, findings) == f"The slowest operation, of t, {words} 70.0 ms in 1 request"


def test_times_are_told_by_stage_and_bars_of_one_operation_compared(tmp_path: Path) -> None:
    """What is within the limits is not mixed with what is above, and a bar twice as long took twice as long."""
    stages = [maker.stage("within", 0, 10, 10), maker.stage("above", 10, 10, 10)]
    rows = [
        maker.operation(
            name, k, k * 100, k * 100 + took * (1 if k < 100 else 2), stage="within" if k < 100 else "above"
        )
        for name, took in (("quick", 20), ("slow", 40))
        for k in range(200)
    ]
    traffic = {name: maker.plan("sync_run", stages, offered=200) for name in ("quick", "slow")}
    found = maker.findings(tmp_path / "run", maker.info(traffic), rows)
    said = title(response_time.draw_scatter, found)
    assert said == "Median response time of slow: 40.0 ms in “within”, 80.0 ms in “above”"
    with styled("parts"):
        drawn = execution.draw_decomposition(found)
    assert isinstance(drawn, Drawing)
    assert len({panel.get_xlim() for panel in drawn.figure.axes}) == 1
