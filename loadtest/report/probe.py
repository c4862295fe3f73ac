"""``python -m loadtest.report.probe DIR``: make the pages of DIR's probe from its ``probe.json`` alone.

The pages show what was accepted over time, the limits that may be in force, and what excludes the other limiters.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from loadtest.limits.probing import sentences
from loadtest.limits.probing.results import (
    PROBE_FILE,
    PROBE_SCHEMA,
    Compliance,
    LimitFinding,
    ModelFit,
    ProbeResult,
)
from loadtest.record.run_directory import read_versioned
from loadtest.report.__main__ import make_pages
from loadtest.report.page import Page, Section, Table, TableCell, TableColumns, Tone, table_of
from loadtest.words import count, times_as

_TONES: Final[dict[Compliance, Tone]] = {"as documented": "good", "can't tell": "unsure"}
"""Tones of verdicts; every other verdict contradicts the documentation."""

_MOST_TIMES: Final = 100_000
"""Likelihood ratio above which only this bound is shown: a ratio of 1,100 excludes already."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the pages."""
    return make_pages(argv, PROBE_FILE, build)


def build(directory: Path) -> Page:
    """Make the page of a directory's probe: for each limit the facts, its requests over time, and every limiter's fit.

    Raises:
        RecordError: if it cannot be read.
    """
    from loadtest.report.plots import draw_probe  # noqa: PLC0415 - matplotlib is slow to import

    result = read_versioned(directory / PROBE_FILE, ProbeResult, PROBE_SCHEMA)
    found = result.findings
    drawn = {plot.name: (plot,) for plot in draw_probe(found)}
    tones = {_TONES.get(each.verdict, "bad") for each in found}
    return Page(
        about=("Rate limits", result.target),
        tab="Probe",
        heading="Which rate limits are enforced?",
        tone=next(tone for tone in ("bad", "unsure", "good") if tone in tones),
        statements=tuple(f"{each.limit}: {sentences.verdict(each)}" for each in found),
        sections=tuple(
            Section(
                title=each.limit,
                text=sentences.verdict(each) if found[1:] else "",
                brief=True,
                facts=sentences.facts(each),
                plots=drawn.get(f"probe-{each.limit}", ()),
                tables=(_fits(each),) if each.fits else (),
            )
            for each in found
        ),
        footer=Markup("{} has every figure.").format(PROBE_FILE),
        folder="plots",
    )


def _fits(found: LimitFinding) -> Table:
    columns: TableColumns[ModelFit] = {
        "Limiter": lambda fit: TableCell(fit.limiter, fit.numbers, "head"),
        "Result": lambda fit: TableCell("ruled out", fit.ruled_out, "faint") if fit.ruled_out else "possible",
        "#Times less likely": lambda fit: _times(-fit.log_ratio),
    }
    note = "Likelihoods are compared with that of the best limiter."
    return table_of(f"fits-{found.limit}", "Fit of each limiter", columns, found.fits, note)


def _times(log_ratio: float) -> str:
    if log_ratio > math.log(_MOST_TIMES):
        return f"over {count(_MOST_TIMES)}"
    return times_as(float(f"{math.exp(log_ratio):.3g}"))


if __name__ == "__main__":
    sys.exit(main())
