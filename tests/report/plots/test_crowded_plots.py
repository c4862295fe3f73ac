"""Plots of many stages: nothing that is written runs into anything else that is written."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.report.plots import draw_plots, execution, limits, operations, response_time
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import DOT, styled

NAMES = ("calm", "latency", "slow", "frozen", "errors", "broken", "refused", "wrong", "untimed")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Nine stages of ten seconds, and beside them jobs whose stages begin with some of them."""
    runs = maker.plan("sync_run", [maker.stage(name, k * 10, 10, 2) for k, name in enumerate(NAMES)])
    jobs = [maker.stage("endless", 50, 10, 1), maker.stage("doubled", 60, 10, 1), maker.stage("calm-again", 70, 20, 1)]
    limits = {**maker.DOCUMENTED, "sync_run": (1000, 60.0)}
    traffic = {"runs": runs, "jobs": maker.plan("async_run", [maker.stage("calm", 0, 50, 1), *jobs])}
    simulation = maker.Simulation(traffic, limits=limits)
    rows = simulation.run()
    return maker.findings(tmp_path_factory.mktemp("crowded") / "run", maker.info(traffic), rows)


def drawn(findings: Findings, draw: Callable[[Findings], Any]) -> Figure:
    """The figure of a plot, laid out."""
    with styled("x"):
        found = draw(findings)
        assert isinstance(found, Drawing)
        found.figure.draw_without_rendering()
        return found.figure


def overlapping(texts: list[Any]) -> list[tuple[str, str]]:
    """Pairs of texts that lie upon one another."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    return [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize("draw", [limits.draw_rates, operations.draw_lag], ids=["rates", "lag"])
def test_names_of_stages_stand_apart(crowded: Findings, draw: Any) -> None:
    """Names of stages that begin together are cut down to what there is room for."""
    axes = drawn(crowded, draw).axes[0]
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(names) >= len(NAMES)
    assert overlapping(names) == []


@pytest.mark.parametrize(
    "draw", [execution.draw_decomposition, execution.draw_overhead], ids=["decomposition", "overhead"]
)
def test_rows_of_many_stages_have_room(crowded: Findings, draw: Any) -> None:
    """Nine stages take more room than two; stages at the same rate stand beside one another."""
    for axes in drawn(crowded, draw).axes:
        assert overlapping(axes.get_yticklabels()) == []
        assert overlapping([text for text in axes.texts if text.get_text() in NAMES]) == []


def test_a_legend_of_many_entries_stays_inside(tmp_path: Path) -> None:
    """Seven traffic entries with long names: the legend takes more rows, none of it is cut off."""
    traffic = {
        f"a traffic entry with a long name, {k}": maker.plan("sync_run", [maker.stage("steady", 0, 20, 2)])
        for k in range(7)
    }
    rows = maker.Simulation(traffic).run()
    figure = drawn(maker.findings(tmp_path / "run", maker.info(traffic), rows), operations.draw_lag)
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 >= page.x0
    assert box.x1 <= page.x1
    looks = {
        (line.get_color(), line.get_marker()) for line in figure.axes[0].lines if str(line.get_label()).startswith("a ")
    }
    assert len(looks) == len(traffic)


def test_of_many_entries_those_that_decide_are_drawn(tmp_path: Path) -> None:
    """Twelve panels at most: the entry of a broken threshold is among them, and the page names the other entries."""
    traffic = {f"entry {k}": maker.plan("sync_run", [maker.stage("steady", 0, 30 - k, 1)]) for k in range(15)}
    rows = maker.Simulation(traffic, limits={**maker.DOCUMENTED, "sync_run": (1000, 60.0)}).run()
    run = maker.info(traffic, thresholds=[{"require": "response_time.p50 < 1ms", "traffic": "entry 14"}])
    found = maker.findings(tmp_path / "run", run, rows)
    panels = [panel.get_title(loc="left") for panel in drawn(found, response_time.draw_scatter).axes]
    assert panels == [f"entry {k}{DOT}sync_run" for k in (*range(11), 14)]
    assert len(drawn(found, response_time.draw_spectrum).axes[0].get_legend_handles_labels()[0]) == 13
    (plot,) = draw_plots({"response-time": lambda: response_time.draw_scatter(found)}, processes=1)
    assert plot.caption.endswith("(entry 11, entry 12, entry 13), whose figures are in metrics.json.")
