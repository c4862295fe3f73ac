"""``python -m loadtest.report.probe DIR``: make the pages of DIR's probe from its ``probe.json`` alone.

The pages show the requests over time, the limits that may be in force, and why other limiters are excluded.
"""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup

from loadtest.limits.probing.results import (
    PROBE_FILE,
    PROBE_SCHEMA,
    LimitFinding,
    ModelFit,
    ProbeResult,
    facts,
    verdict_words,
)
from loadtest.record.run_directory import read_versioned
from loadtest.report.__main__ import make_pages
from loadtest.report.page import Page, Section, Table, TableCell, TableColumns, table_of, tone_of
from loadtest.report.plots import draw_plots
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import LIMITS, THROTTLED, key, keys, panels
from loadtest.words import count, times_as

_MOST_TIMES: Final = 100_000
"""Larger likelihood ratios are shown as ``over 100,000``, because their exact values do not matter."""
_BARS: Final = 200
"""The plot cuts the probe's time into this many parts. Bursts of a part share a line; more lines would overlap."""


def build(directory: Path) -> Page:
    """Make the page of a directory's probe, with facts, requests over time and every limiter's fit for each limit.

    Raises ``RecordError`` if ``probe.json`` cannot be read.
    """
    result = read_versioned(directory / PROBE_FILE, ProbeResult, PROBE_SCHEMA)
    found = result.findings
    drawn = draw_plots({f"probe-{each.limit}": partial(_draw, each) for each in found})
    tones = {tone_of(each.verdict) for each in found}
    return Page(
        about=("Rate limits", result.target),
        tab="Probe",
        heading="Which rate limits are enforced?",
        tone=next(tone for tone in ("bad", "unsure", "good") if tone in tones),
        statements=tuple(f"{each.limit}: {verdict_words(each)}" for each in found),
        sections=tuple(
            Section(
                title=each.limit,
                text=verdict_words(each) if found[1:] else "",
                brief=True,
                facts=facts(each),
                plots=tuple(plot for plot in drawn if plot.name == f"probe-{each.limit}"),
                tables=(_fits(each),),
            )
            for each in found
        ),
        footer=Markup("{} has every figure.").format(PROBE_FILE),
        folder="plots",
    )


def _draw(found: LimitFinding) -> Drawing | None:
    """Draw the accepted and the rejected requests of each burst over time."""
    if not found.bursts:
        return None
    at, sent, passed = np.array([(each.at_s, each.sent, each.passed) for each in found.bursts]).T
    step = max(float(at.max()), 0.1) / _BARS
    places, bar = np.unique(np.floor(at / step), return_inverse=True)
    accepted, total = np.bincount(bar, passed), np.bincount(bar, sent)
    figure, (panel,) = panels(1, 1.9)
    colours, width = {"accepted": LIMITS[found.limit], "rejected": THROTTLED}, 3.0
    times = (places + 0.5) * step
    panel.vlines(times, 0, accepted, color=colours["accepted"], lw=width)
    panel.vlines(times, accepted, total, color=colours["rejected"], lw=width)
    panel.set(ylim=(0, float(total.max()) * 1.08), xlim=(-3 * step, float(at.max()) + 4 * step))
    panel.set(xlabel="seconds after the start", ylabel="requests")
    keys(figure, {name: key(color=colour, lw=width) for name, colour in colours.items()})
    title = f"{found.limit}: {passed.sum():,.0f} of {sent.sum():,.0f} requests were accepted in {found.seconds:.3g} s"
    caption = "Each line is a burst (or several close bursts), with rejected requests above accepted requests."
    return Drawing(title, caption, figure)


def _fits(found: LimitFinding) -> Table:
    def times(fit: ModelFit) -> str:
        if -fit.log_ratio > math.log(_MOST_TIMES):
            return f"over {count(_MOST_TIMES)}"
        return times_as(float(f"{math.exp(-fit.log_ratio):.3g}"))

    columns: TableColumns[ModelFit] = {
        "Limiter": lambda fit: TableCell(fit.limiter, fit.numbers, "head"),
        "Result": lambda fit: TableCell("ruled out", fit.ruled_out, "faint") if fit.ruled_out else "possible",
        "#Times less likely": times,
    }
    note = "Likelihoods are compared with that of the best limiter."
    return table_of("Fit of each limiter", columns, found.fits, note)


if __name__ == "__main__":
    sys.exit(make_pages(PROBE_FILE, build))
