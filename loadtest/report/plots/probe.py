"""A probe's requests over time: accepted and rejected."""

from typing import Final

import numpy as np

from loadtest.limits.probing.results import LimitFinding
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import LIMITS, THROTTLED, key, keys, panels

_CAPTION: Final = "Each line is a burst: accepted requests from zero up, rejected requests above them."
_BARS: Final = 200
"""Bursts that begin within this part of the probe's time share a line; narrower lines would overlap."""
_PANEL_IN: Final = 1.9


def draw(found: LimitFinding) -> Drawing | None:
    """Draw the accepted and the rejected requests of each burst over time."""
    if not found.bursts:
        return None
    at, sent, passed = np.array([(each.at_s, each.sent, each.passed) for each in found.bursts]).T
    step = max(float(at.max()), 0.1) / _BARS
    places, bar = np.unique(np.floor(at / step), return_inverse=True)
    accepted, total = np.bincount(bar, passed), np.bincount(bar, sent)
    figure, (panel,) = panels(1, _PANEL_IN)
    colours, width = {"accepted": LIMITS[found.limit], "rejected": THROTTLED}, 3.0
    times = (places + 0.5) * step
    panel.vlines(times, 0, accepted, color=colours["accepted"], lw=width)
    panel.vlines(times, accepted, total, color=colours["rejected"], lw=width)
    panel.set(ylim=(0, float(total.max()) * 1.08), xlim=(-3 * step, float(at.max()) + 4 * step))
    panel.set(xlabel="seconds after the start", ylabel="requests")
    keys(figure, {name: key(color=colour, lw=width) for name, colour in colours.items()})
    title = f"{found.limit}: {passed.sum():,.0f} of {sent.sum():,.0f} requests were accepted in {found.seconds:.3g} s"
    return Drawing(title, _CAPTION, figure)
