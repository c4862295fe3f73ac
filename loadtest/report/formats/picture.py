"""A plot as a standalone SVG file with title and background, in light or dark colours."""

import re
import shutil
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from markupsafe import escape

from loadtest.report.page import Plot

_LETTERS: Final = 100
_LINE: Final = 14.0
"""Height of a line of the title, in units of the drawing, which are points."""
_HEAD: Final = re.compile(r'<svg [^>]*viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"[^>]*>')


def stand_alone(plot: Plot) -> str:
    """Return the file, readable on light and dark pages of GitHub and GitLab."""
    found = _HEAD.search(plot.svg)
    if found is None:
        raise ValueError(f"{plot.name} is not a drawing")
    lines = textwrap.wrap(plot.title, _LETTERS)
    above, width = _LINE * len(lines) + 8.0, float(found["width"])
    height = float(found["height"]) + above
    spans = "".join(f'<tspan x="7" dy="{_LINE:g}">{escape(line)}</tspan>' for line in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width * 1.5:g}" '
        f'height="{height * 1.5:g}" viewBox="0 {-above:g} {width:g} {height:g}">\n<title>{escape(plot.title)}</title>\n'
        f"<style>{_colours()}</style>\n"
        f'<rect y="{-above:g}" width="{width:g}" height="{height:g}" style="fill: var(--paper)"/>\n'
        f'<text y="{-above:g}" style="font: 700 10.5px \'DejaVu Sans\', sans-serif; fill: var(--ink)">{spans}</text>\n'
        f"{plot.svg[found.end() :]}"
    )


@cache
def _colours() -> str:
    """The variables of the page's style sheet, light and dark."""
    page = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = (re.findall(r"--[\w-]+: #\w+;", part) for part in re.findall(r":root \{(.*?)\}", page, re.DOTALL))
    return (
        f":root {{ {' '.join(light)} }} @media (prefers-color-scheme: dark) {{ :root {{ {' '.join(dark)} }} "
        "image { filter: brightness(1.45); } }"
    )


def write_plots(plots: Iterable[Plot], folder: Path) -> None:
    """Write each plot's SVG and CSV, and its PNG if it has one, into a folder that holds nothing else."""
    # Stale plots of an earlier report would look like part of this report.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for plot in plots:
        if plot.svg:
            (folder / f"{plot.name}.svg").write_text(stand_alone(plot), encoding="utf-8")
            (folder / f"{plot.name}.csv").write_text(plot.csv, encoding="utf-8")
        if plot.png:
            (folder / f"{plot.name}.png").write_bytes(plot.png)
