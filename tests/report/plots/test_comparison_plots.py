"""What a comparison's plots draw: the prediction band, titles that their data prove."""

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from plugins import made_comparisons as made

from loadtest.compare import history
from loadtest.compare.measurements import NATURES
from loadtest.compare.rule import judge_history
from loadtest.report.plots import changes
from loadtest.report.plots.style import change_axis

SLOWER = made.CASES["slower"]()
PAIRED = made.CASES["paired-slower"]()


@pytest.mark.parametrize("name", ["slower", "pass", "throttled"])
def test_a_run_lies_outside_its_band_exactly_where_the_interval_excludes_no_change(name: str) -> None:
    """Band and interval are two views of the same statement."""
    judged = [one for one in made.CASES[name]().metrics if one.ratio_interval and NATURES[one.metric].unit != "share"]
    assert judged
    for one in judged:
        band = changes.prediction_band(one)
        assert one.ratio_interval is not None
        low, high = one.ratio_interval
        assert (band[0] <= one.later[-1] <= band[1]) == (low <= 1 <= high), one


def test_titles_state_what_was_found() -> None:
    """Number and name of what became worse; how many pairs agree."""
    drawn = changes.draw_forest(SLOWER)
    assert drawn.title.startswith("2 of 12 judged metrics became worse, most of all greetings")
    pairs = changes.draw_over_runs(PAIRED, changes.drawable(PAIRED))
    assert pairs.title == "greetings: response time p50, the head was worse in 7 of 7 pairs"
    unchanged = changes.draw_forest(made.CASES["pass"]())
    assert unchanged.title.startswith("None of 12 judged metrics became worse")


def test_runs_before_an_accepted_change_are_drawn_apart() -> None:
    """With a dashed line and the reason; the comparison rests on those after it alone."""
    old = [made.a_run(made.PLAIN, k) for k in range(4)]
    new = [made.a_run(made.SLOWER, k) for k in range(4, 10)]
    lines = [history.run_line(run, "pass", recorded=run.started) for run in (*old, *new)]
    decision = history.decision_line(new[0].run, "accepted", "the new model", new_segment=True)
    whole = history.fold([*lines, decision])
    comparison = judge_history(new, made.a_run(made.SLOWER, 100))
    before = changes.periods_until(comparison, whole)
    assert [[one.id for one in part] for part in before] == [[run.run for run in part] for part in (old, new)]
    drawn = changes.draw_over_runs(comparison, changes.drawable(comparison), before)
    assert "accepted changes: 2026-01-05 (the new model)." in drawn.caption
    lines_drawn = drawn.figure.axes[0].lines
    assert [len(line.get_xdata()) for line in lines_drawn][:3] == [4, 2, 6]  # before, the dashed line, the base
    assert changes.periods_until(comparison, history.fold(lines)) == []


@pytest.mark.parametrize("name", ["first", "not-comparable", "invalid", "nothing"])
def test_nothing_is_drawn_of_nothing(name: str) -> None:
    """No axes without data."""
    comparison = made.CASES[name]()
    assert changes.draw_forest(comparison) is None
    assert changes.draw_over_runs(comparison, changes.drawable(comparison)) is None


@pytest.mark.parametrize("reach", [0.01, 0.04, 0.2, 0.7, 1.25, 2.0, 2.9, 4.0, 6.3, 9.0])
@pytest.mark.parametrize("below", [0.0, 0.1, 1.0])
def test_labels_of_changes_have_room_and_no_exponents(reach: float, below: float) -> None:
    """Of +1 %, of × 18 and of × 500: few, apart from each other, and plain."""
    figure = Figure()
    axis = figure.subplots().yaxis
    axis.axes.set_ylim(-below * reach, reach)
    change_axis(axis)
    ticks = list(axis.get_majorticklocs())
    assert 2 <= len(ticks) <= 7
    assert 0.0 in ticks
    assert min(np.diff(ticks)) >= (1 + below) * reach / 7
    words = [axis.get_major_formatter()(tick) for tick in ticks]
    assert len(set(words)) == len(words)
    assert not any("e+" in word or "e-" in word for word in words), words


def test_what_changed_most_is_not_what_does_nothing() -> None:
    """0.2 ms varies by more per cent than 96 ms do; a title names what matters."""
    unchanged = made.CASES["pass"]()
    noop = next(one for one in unchanged.metrics if one.traffic == "noop" and one.metric == "execution_time.p50")
    wild = msgspec.structs.replace(noop, ratio=1.9, ratio_interval=(0.5, 7.0), detectable=9.0)
    metrics = tuple(wild if one is noop else one for one in unchanged.metrics)
    drawn = changes.draw_forest(msgspec.structs.replace(unchanged, metrics=metrics))
    assert "noop: executionTime" not in drawn.title
