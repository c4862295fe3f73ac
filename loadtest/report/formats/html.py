"""A page as one HTML file, and its plots as standalone SVG files. The page links terms to their explanations.

The page works offline, in light and dark mode, and without JavaScript. A chapter unfolds if it is clicked, linked to,
found by the browser's search, or printed. The only script sorts tables, and unfolds chapters if the browser does not.
The page's security policy allows this script by its hash.
"""

import base64
import hashlib
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from loadtest.foreign_text import visible_text
from loadtest.report.page import MOST_ROWS, TERMS, Page, Plot


def anchor(term: str) -> str:
    """Return the anchor of a term's explanation."""
    return f"term-{re.sub(r'[^a-z0-9]+', '-', term.lower())}"


def _found(text: str, terms: Mapping[str, str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield the first mention of each term in a text. Case and a plural s do not matter."""
    names = {term.lower(): term for term in sorted(terms, key=len, reverse=True)}
    if not names:
        return
    words = "|".join(re.escape(name).replace(r"\ ", r"\s") for name in names)
    seen = set()
    for match in re.finditer(rf"(?<![\w.-])({words})s?(?![\w-])", text, re.IGNORECASE):
        term = names[" ".join(match[1].lower().split())]
        if term not in seen:
            seen.add(term)
            yield match, term


def linked(text: str, terms: Mapping[str, str] = TERMS) -> Markup:
    """Return the escaped text. The first mention of each term links to its explanation."""
    parts, end = [], 0
    for match, term in _found(text, terms):
        link = Markup('<a class="term" href="#{}" title="{}">{}</a>').format(anchor(term), terms[term], match[0])
        parts += [escape(text[end : match.start()]), link]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def _coded(text: str) -> Markup:
    """Return the escaped text. Text between backticks becomes code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def explained(label: str, terms: Mapping[str, str] = TERMS) -> str:
    """Return the explanations of the terms in a label, as plain text; empty if it has no terms."""
    return " ".join(f"{term}: {terms[term]}" for _, term in _found(label, terms))


def render_html(page: Page) -> str:
    """Return the page as HTML. All values are escaped, except our own drawings and script."""
    folder = Path(__file__).parent
    script = (folder / "sorting.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    # Matplotlib makes the drawings and escapes the names in them.
    environment.filters |= {
        "coded": _coded, "drawing": Markup, "script": Markup, "linked": partial(linked, terms=page.terms),
        "explained": cache(partial(explained, terms=page.terms)),
    }  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.get_template("page.html.j2").render(
        page=page, anchor=anchor, script=script, script_hash=f"sha256-{digest}", most_rows=MOST_ROWS
    )
    return visible_text(text)


_LINE: Final = 14.0
"""Height of a line of the title, in points, which are the unit of the drawing."""
_HEAD: Final = re.compile(r'<svg [^>]*viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"[^>]*>')


def stand_alone(plot: Plot) -> str:
    """Return a plot's SVG file, which is readable on light and dark pages of GitHub and GitLab."""
    found = _HEAD.search(plot.svg)
    if found is None:
        raise ValueError(f"{plot.name} is not a drawing")
    lines = textwrap.wrap(plot.title, 100)
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
    """Return the colour variables of the page's style sheet for light and dark mode."""
    page = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = (re.findall(r"--[\w-]+: #\w+;", part) for part in re.findall(r":root \{(.*?)\}", page, re.DOTALL))
    return (
        f":root {{ {' '.join(light)} }} @media (prefers-color-scheme: dark) {{ :root {{ {' '.join(dark)} }} "
        "image { filter: brightness(1.45); } }"
    )


def write_plots(plots: Iterable[Plot], folder: Path) -> None:
    """Empty a folder, then write each plot's SVG, CSV and (if it was drawn) PNG into the folder."""
    # The plots of an earlier report would look like part of this report.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for plot in plots:
        (folder / f"{plot.name}.svg").write_text(stand_alone(plot), encoding="utf-8")
        (folder / f"{plot.name}.csv").write_text(plot.csv, encoding="utf-8")
        if plot.png:
            (folder / f"{plot.name}.png").write_bytes(plot.png)
