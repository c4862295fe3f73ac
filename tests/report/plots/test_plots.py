"""Plots that are drawn only where they say something, and the numbers that are read off every plot."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings, find
from loadtest.analysis.run_record import load_record
from loadtest.errors import InputError
from loadtest.report import plots
from loadtest.report.plots import drawing as data
from loadtest.report.plots import execution, limits, operations, response_time
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import styled
from loadtest.units import Limit


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Eleven minutes in three stages, each offered more, with a stall of 20 s in the second."""
    plan = maker.plan("sync_run", [maker.stage(f"step {k}", k * 220, 220, 1 + k) for k in range(3)])
    limits = {**maker.DOCUMENTED, "sync_run": (1_000, 60.0)}
    simulation = maker.Simulation({"t": plan}, limits=limits, frozen_s=(300, 320))
    rows = simulation.run()
    run = maker.info(simulation.traffic)
    run.target.limits["sync_run"] = Limit(1_000, 60.0)
    return maker.findings(tmp_path_factory.mktemp("ladder") / "run", run, rows)


def drawn(found: object) -> Drawing:
    """That there is a drawing."""
    assert isinstance(found, Drawing)
    return found


def test_a_heat_map_counts_every_operation(ladder: Findings) -> None:
    """No operation is lost or hidden, and a stall reaches up where it was."""
    found = ladder.heats["t"]
    assert found.counts.sum() == ladder.metrics.overall.operations.ok
    high = found.counts[:, found.levels[:-1] > 5_000].sum(axis=1)
    stalled = found.cuts[:-1][high > 0]
    assert 290 <= stalled.min() <= stalled.max() <= 320
    with styled("heat"):
        heat = drawn(response_time.draw_heat(ladder))
        heat.figure.draw_without_rendering()
    title = heat.title.replace("\u00a0", " ")
    assert title == "The median response time of t in the last third of the run is that of the first, within 16 %"
    (panel,) = heat.figure.axes
    (bar,) = panel.child_axes
    assert bar.get_position().x0 > panel.get_position().x1  # beside the data, not on them


def test_every_plot_is_in_the_table_of_plots() -> None:
    """What a module of plots draws is in a report by a name, in a section; one that is not is named here."""
    folder = Path(plots.__file__).parent
    drawing = re.compile(r"^def (\w+)\(\w+: Findings\) -> Drawing\b", re.MULTILINE)
    there = {f"{path.stem}.{name}" for path in folder.glob("*.py") for name in drawing.findall(path.read_text())}
    entered = {f"{kind.draw.__module__.rpartition('.')[2]}.{kind.draw.__name__}" for kind in plots._PLOTS.values()}
    missing = sorted(there - entered)
    assert missing == [], "not in _PLOTS of loadtest/report/plots/__init__.py, which says its section"


def test_an_unknown_plot_is_answered_with_those_there_are(ladder: Findings) -> None:
    with pytest.raises(InputError, match="no plot is called 'rate'") as raised:
        plots.figure("rate", ladder)
    assert "windows, rates, throttling" in raised.value.remedy


def test_a_short_run_of_few_has_none(tmp_path: Path) -> None:
    """Where dots show everything, and where there are no three rates, nothing is drawn in their place."""
    found = find(load_record(maker.tour(tmp_path / "run", scale=0.2)))
    assert response_time.draw_heat(found) is None
    assert response_time.draw_by_rate(found) is None


def test_stages_stand_at_the_rates_that_were_offered(ladder: Findings) -> None:
    """Median and p95 of each stage, as metrics.json has them, over its rate a minute."""
    with styled("by-rate"):
        plot = drawn(response_time.draw_by_rate(ladder))
        found = {one.label: one for one in data.series(plot.figure)}
    assert found["p50"].x.tolist() == [60.0, 120.0, 180.0]
    stages = ladder.metrics.traffic["t"].stages.values()
    assert found["p95"].y.tolist() == [stage.response_time_ms.p95 for stage in stages]
    assert [row[0].text for row in plot.data[0].rows] == ["step 0", "step 1", "step 2"]


def test_a_band_holds_its_percentiles(ladder: Findings) -> None:
    """The spectrum's band is around its line, and ends where n carries no upper bound any more."""
    with styled("spectrum"):
        figure = drawn(response_time.draw_spectrum(ladder)).figure
    corners = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    block = ladder.metrics.traffic["t"].response_time_ms
    for name, tail in (("p50", 0.5), ("p90", 0.1), ("p95", 0.05)):
        near = corners[np.abs(np.log(corners[:, 0] / tail)) < 0.12][:, 1]
        assert near.min() <= block.get(name).value <= near.max()
    n = len(ladder.responses["t"].dots["ok"][0])
    assert corners[:, 0].min() == pytest.approx(1 - 0.025 ** (1 / n), rel=0.15)


def test_boundaries_are_as_wide_as_the_clock_is_unsure(ladder: Findings) -> None:
    """Of each window's beginning the plots over time show where it may lie: ± the uncertainty of the server's clock."""
    for draw in (limits.draw_rates, response_time.draw_scatter):
        with styled("x"):
            figure = drawn(draw(ladder)).figure
        bands = [patch for patch in figure.axes[0].patches if patch.get_alpha() == 0.45]
        assert len(bands) == len(ladder.rates["sync_run"].boundaries) == 11
        assert {round(float(patch.get_width()), 6) for patch in bands} == {1.0}  # type: ignore[attr-defined] # rectangles


def test_what_is_drawn_can_be_read_as_numbers() -> None:
    """Lines, steps, bars and clouds: tables hold what share an x side by side, the CSV every named point."""
    figure = Figure()
    axes = figure.subplots()
    axes.set_xlabel("s")
    x = np.arange(40.0)
    axes.plot(x, x * 2, label="double")
    axes.plot(x, x * 3, label="triple")
    axes.stairs([5.0, np.nan], [0.0, 1.0, 2.0], label="steps")
    axes.bar([7.0], [9.0], label="bar")
    axes.scatter([1.0], [2.0], label="dot")
    axes.plot([0, 1], [0, 1])
    shared, steps, bar = data.tables(figure)
    assert [label for label, _ in shared.columns] == ["s", "double", "triple"]
    assert [cell.text for cell in shared.rows[-1]] == ["39", "78", "117"]
    assert shared.note == "16 of 40 points."
    assert [cell.text for cell in steps.rows[1]] == ["1", "–"]
    assert [cell.text for cell in bar.rows[0]] == ["7", "9"]
    rows = list(csv.reader(data.as_csv(figure, ()).splitlines()))
    assert len(rows) == 1 + 40 + 40 + 1 + 1 + 1
    assert ["", "dot", "1", "2"] in rows


def test_all_lags_are_shown_as_they_are_distributed(tmp_path: Path) -> None:
    """Nine in ten leave 1 ms late; the others waited 200 ms for a user, and left 2 ms after they had one."""
    rows = []
    for k in range(100):
        late, free = (202.0, 200.0) if k % 10 == 0 else (1.0, 0.0)
        times = {"start": (k * 100 + late) * 1e6, "user_free": (k * 100 + free) * 1e6}
        rows.append(maker.operation("t", k, k * 100, k * 100 + late + 5, **{n: int(t) for n, t in times.items()}))
    entry = maker.plan("sync_run", [maker.stage("within", 0, 10, 10)], offered=100)
    found = maker.findings(tmp_path / "run", maker.info({"t": entry}), rows)
    with styled("x"):
        figure = drawn(operations.draw_lag(found)).figure
    shares = {str(line.get_label()): dict(zip(*line.get_data(), strict=True)) for line in figure.axes[1].lines[:2]}
    assert shares == {
        "all start lags": pytest.approx({1.0: 90.0, 202.0: 100.0}),
        "all dispatch lags": pytest.approx({1.0: 90.0, 2.0: 100.0}),
    }


def waiting_jobs(directory: Path) -> Findings:
    """Runs that were quick but for one that waited 18 s; and jobs of which a quarter timed out."""
    rows = []
    for k in range(400):
        late = 18_000 if k == 200 else 0.2
        at = k * 100 + late
        rows += maker.both("runs", k, at, at + 50, intended_ms=k * 100)
        common = {"operation": "async_run", "stage": "within"}
        ended = k % 4 != 0
        fate = {"execution_time_ms": 300.0} if ended else {"outcome": "timed_out", "status": 200, "reason": "give_up"}
        end = k * 100 + (1_000 if ended else 2_000)
        rows += [
            maker.request("jobs", k, k * 100, k * 100 + 5, kind="submit", status=202, **common),
            maker.request(
                "jobs", k, end - 5, end, kind="poll", job_state="completed" if ended else "pending", **common
            ),
            maker.operation("jobs", k, k * 100, end, poll=1, **{**common, **fate}),
        ]
    stages = [maker.stage("within", 0, 40, 10)]
    traffic = {
        "runs": maker.plan("sync_run", stages, offered=400),
        "jobs": maker.plan("async_run", stages, offered=400),
    }
    return maker.findings(directory, maker.info(traffic), rows)


def test_titles_say_no_more_than_their_data(tmp_path: Path) -> None:
    """A wait of 18 s is in the title, censored tails are no shortest ones, and figures of ok operations say so."""
    found = waiting_jobs(tmp_path / "run")
    titles = {}
    for name, draw in (
        ("service", response_time.draw_service),
        ("spectrum", response_time.draw_spectrum),
        ("parts", execution.draw_decomposition),
        ("overhead", execution.draw_overhead),
    ):
        with styled(name):
            titles[name] = drawn(draw(found)).title.replace("\u00a0", " ")
    assert titles["service"] == (
        "Queueing and retries added at most 0.20 ms at the median of runs, 18.00 s in the worst case"
    )
    assert titles["spectrum"].endswith("; time-outs hide the tail of jobs")
    assert titles["parts"].endswith(" in the mean time of ok operations: 30.0 % for jobs (75.0 % were ok)")
    assert titles["overhead"] == "Median overhead: 700 ms for jobs (75.0 % were ok)"


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A burst of 200 in the last second of two minutes with 20 a minute: half get 429 in under a millisecond."""
    times = [k * 3_000.0 for k in range(39)] + [119_000.0 + k for k in range(200)]
    rows = []
    for k, at in enumerate(times):
        late = k >= 139
        fate = {"status": 429, "outcome": "throttled", "reason": "throttled"} if late else {}
        took = 0.7 if late else 200 + k % 40
        rows += maker.both("t", k, at, at + took, **fate)
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 120, 2)], offered=len(times))}
    required = ("response_time.p50 < 210ms", "response_time.p95 < 300ms", "response_time.p90 < 60s")
    thresholds = [{"require": one, "traffic": "t"} for one in required]
    run = maker.info(traffic, thresholds=thresholds)
    return maker.findings(tmp_path_factory.mktemp("refused") / "run", run, rows)


def test_a_peak_does_not_hide_the_limit(refused: Findings) -> None:
    """Rates end at three times the limit and a little, the peak is named, and the CSV still has it."""
    with styled("rates"):
        figure = drawn(limits.draw_rates(refused)).figure
    (panel,) = figure.axes
    peak = max(float(np.nanmax(one.y)) for one in data.series(figure))
    assert peak > 2_000
    assert panel.get_ylim()[1] == pytest.approx(3 * 100 * 1.08)
    assert any(text.get_text().startswith("↑ ") and "peak" in text.get_text() for text in panel.texts)


def test_429s_do_not_squash_response_times(refused: Findings) -> None:
    """The axis holds what took time; a threshold near it is a line where it is, one far above it only named."""
    with styled("response-time"):
        figure = drawn(response_time.draw_scatter(refused)).figure
    (panel,) = figure.axes
    low, high = panel.get_ylim()
    assert 50 < low < 200
    assert 300 < high < 1_000
    lines = {float(line.get_ydata()[0]) for line in panel.lines if line.get_label() == "threshold"}
    assert lines == {210.0, 300.0}
    (ticks,) = [line for line in panel.lines if line.get_label() == "429"]
    assert len(ticks.get_xdata()) == 100
    words = [text.get_text().strip() for text in panel.texts]
    assert {"p50 < 210ms", "p95 < 300ms", "p90 < 60s ↑"} <= set(words)


def test_percentiles_are_ranked_by_ms_over_their_threshold(refused: Findings) -> None:
    """The title names the one that is furthest over what is allowed, whatever the ratio to its median."""
    with styled("spectrum"):
        title = drawn(response_time.draw_spectrum(refused)).title.replace("\u00a0", " ")
    assert title == "p50 of t is over its threshold: 217 ms, allowed 210 ms"


def test_only_jobs_have_no_plot_of_service_time(tmp_path: Path) -> None:
    """One of a job's many requests is no part to hold against the whole."""
    traffic = {"jobs": maker.plan("async_run", [maker.stage("within", 0, 1, 1)], offered=1)}
    rows = [
        maker.request("jobs", 0, 0, 5, operation="async_run", kind="submit", status=202),
        maker.request("jobs", 0, 500, 505, operation="async_run", kind="poll", poll=1, job_state="completed"),
        maker.operation("jobs", 0, 0, 505, operation="async_run", poll=1),
    ]
    found = maker.findings(tmp_path / "run", maker.info(traffic), rows)
    assert response_time.draw_service(found) is None
