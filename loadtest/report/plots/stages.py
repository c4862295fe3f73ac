"""Stage boundaries on a plot over time."""

from matplotlib.axes import Axes

from loadtest.analysis.record import Record
from loadtest.report.plots.style import GRID, MUTED, SHADE
from loadtest.runfile import StagePlan


def mark_stages(axes: Axes, record: Record, traffic: str | None = None, *, names: bool = True) -> None:
    """Draw stage boundaries, their names on top, and the warm-up shaded."""
    plans = [plan for name, plan in record.info.traffic.items() if traffic in {None, name}]
    starts: dict[float, list[StagePlan]] = {}
    for stage in (stage for plan in plans for stage in plan.stages if stage.start_s <= record.covered_s):
        starts.setdefault(stage.start_s, []).append(stage)
    for start, stages in starts.items():
        longest = max(stage.duration_s for stage in stages)
        if stages[0].warmup:
            axes.axvspan(start, start + longest, color=SHADE, lw=0, zorder=0)
        elif start > 0:
            axes.axvline(start, color=GRID, lw=1.4, zorder=0.5)
        if names and longest > record.covered_s * 0.06:
            # Entries whose stages begin together share one label, with each name once.
            axes.annotate(
                " + ".join(dict.fromkeys(stage.name for stage in stages)), (start, 1),
                xycoords=("data", "axes fraction"), xytext=(4, -2),
                textcoords="offset points", va="top", fontsize=7.5, color=MUTED, style="italic",
            )  # fmt: skip
