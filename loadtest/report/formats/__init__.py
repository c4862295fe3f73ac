"""A page as HTML, as GitHub-flavoured Markdown and as text for a terminal, and its plots as standalone SVG files.

The HTML page works offline, in light and dark mode, and without JavaScript. A chapter unfolds on a click, a followed
link, a hit of the browser's search, and for printing. The only script sorts tables, and unfolds chapters if the browser
does not. The page's security policy allows this script by its hash.

The Markdown is for a pull request, a job's summary or a wiki. It links plots as files.
"""

import base64
import hashlib
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import markupsafe
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table as RichTable
from rich.text import Text

from loadtest.console import WIDTH, Console
from loadtest.foreign_text import visible_text
from loadtest.program import typed
from loadtest.report.page import MOST_ROWS, TERMS, KeyFigure, NextStep, Page, Plot, Section, Table, TableCell


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
    """Return the text as HTML. The first mention of each term links to its explanation."""
    shown = Markup("")
    end = 0
    for match, term in _found(text, terms):
        link = Markup('<a class="term" href="#{}" title="{}">{}</a>').format(anchor(term), terms[term], match[0])
        shown = shown + text[end : match.start()] + link  # Markup escapes the text
        end = match.end()
    return shown + text[end:]


def explained(label: str, terms: Mapping[str, str] = TERMS) -> str:
    """Return the explanations of the terms in a label, as plain text; empty if it has no terms."""
    return " ".join(f"{term}: {terms[term]}" for _, term in _found(label, terms))


def _coded(text: str) -> Markup:
    """Return the text as HTML. Text between backticks becomes code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))  # noqa: S704 - it is escaped


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


def stand_alone(plot: Plot) -> str:
    """Return a plot's SVG file, which is readable on light and dark pages of GitHub and GitLab."""
    head, _, body = plot.svg.partition(">")
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)[0])
    lines = textwrap.wrap(plot.title, 100)
    above = _LINE * len(lines) + 8.0
    height += above
    spans = "".join(f'<tspan x="7" dy="{_LINE:g}">{markupsafe.escape(line)}</tspan>' for line in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width * 1.5:g}" '
        f'height="{height * 1.5:g}" viewBox="0 {-above:g} {width:g} {height:g}">\n'
        f"<title>{markupsafe.escape(plot.title)}</title>\n<style>{_colours()}</style>\n"
        f'<rect y="{-above:g}" width="{width:g}" height="{height:g}" style="fill: var(--paper)"/>\n'
        f'<text y="{-above:g}" style="font: 700 10.5px \'DejaVu Sans\', sans-serif; fill: var(--ink)">{spans}</text>\n'
        f"{body}"
    )


@cache
def _colours() -> str:
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


_MARKS: Final = {"good": "✓ ", "bad": "✗ ", "unsure": "? "}


def render_markdown(page: Page, level: int = 1) -> str:
    """Return the page as Markdown without its contents list and terms. Its heading has the given ``level``."""
    parts = [
        f"{'#' * level} {_escaped(page.heading)}",
        f"**{_escaped(page.verdict)}**" if page.verdict else "",
        *(f"**{_escaped(each)}**" for each in page.statements if each.lower() not in page.verdict.lower()),
        _bullets(page.reasons),
        *map(_step, page.steps),
        "  ".join(f"{label}: {_escaped(value)}." for label, value in page.sides),
        *(part for section in page.sections for part in _section(section, level + 1, page.folder)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, level: int, folder: str) -> list[str]:
    """Return a section's parts as Markdown. Tables in an ``aside`` unfold on a click."""
    aside = section.look == "aside"
    title = _escaped(section.title)
    heading = "#" * (level + 1 if title and not aside else level)
    images = []
    for plot in section.plots:
        named = _escaped(plot.title)
        images.append(f"{heading} {named}\n\n![{named}]({folder}/{plot.name}.svg)\n\n{_escaped(plot.caption)}")
    if aside:
        folded = "<details><summary>{}</summary>\n\n{}\n\n</details>"
        return [folded.format(_escaped(table.title), _table(table)) for table in section.tables] + images
    return [
        f"{'#' * level} {title}" if title else "",
        _escaped(section.text),
        _points(section),
        _bullets(f"{label}: {value}" for label, value in section.facts),
        _figures(section.figures),
        _bullets(f"{bar.label}: {bar.words}" for bar in section.bars),
        f"Not drawn: {_escaped(', '.join(section.undrawn))}." if section.undrawn else "",
        *images,
        *(f"{heading} {_escaped(table.title)}\n\n{_table(table)}" for table in section.tables),
    ]


def _figures(found: Iterable[KeyFigure]) -> str:
    return "\n".join(f"- **{_escaped(one.value)}** {_escaped(one.label)} ({_escaped(one.words)})" for one in found)


def _points(section: Section) -> str:
    begin, between = ("> ", "\n\n") if section.look == "warnings" else ("- ", "\n")
    return between.join(f"{begin}{_MARKS.get(point.mark, '')}{_escaped(point.words)}" for point in section.points)


def _escaped(text: str) -> str:
    one_line = " ".join(visible_text(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", one_line).replace("&", "&amp;")


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(text)}" for text in texts)


def _step(one: NextStep) -> str:
    """Return a step's words and its command as a fenced block. The fence is longer than any fence in the command."""
    if not one.command:
        return _escaped(one.words)
    command = " ".join(one.command.split())
    fence = "`" * max(3, 1 + max((len(run) for run in command.split() if set(run) == {"`"}), default=0))
    return f"{_escaped(one.words)}\n\n{fence}sh\n{command}\n{fence}"


def _table(shown: Table) -> str:
    head = "| " + " | ".join(_escaped(label) for label, _ in shown.columns) + " |"
    rule = "|" + "|".join(" ---: " if number else " --- " for _, number in shown.columns) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in shown.rows]
    note = f"\n\n{_escaped(shown.note)}" if shown.note else ""
    return "\n".join([head, rule, *rows]) + note


def _cell(cell: TableCell) -> str:
    text = _escaped(cell.text)
    if cell.tone in ("bad", "unsure", "head") and text:
        text = f"**{text}**"
    return f"{text} ({_escaped(cell.detail)})" if cell.detail else text


_FULL_WIDTH: Final = 120
"""Maximum width in characters of the printed full page, whose tables have all columns."""
_MOST_LINES: Final = 40
"""Without ``full``, ``show`` prints at most this many lines, if shorter tables suffice for this."""
_MOST_TABLE_ROWS: Final = 14
"""Without ``full``, ``show`` prints at most this many rows of a table, and fewer if the text would be too long."""
_MOST_POINTS: Final = 5
"""Without ``full``, ``show`` prints at most this many points of a section, without their details."""
_TONES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "faint": "dim", "head": "bold", "": ""}


def show(page: Page, steps: Sequence[tuple[str, str]], *, full: bool = False, console: Console | None = None) -> None:
    """Print a page's verdict, its first screen and the steps, which are (label, command) pairs.

    Tables are cut so that the text has at most 40 lines of 100 columns, if possible. With ``full``, print every
    section, but no plots.
    """
    console = console or Console()
    widest = _FULL_WIDTH if full else WIDTH
    console.width = min(console.width, widest) if console.is_terminal else widest
    for rows in (None,) if full else range(_MOST_TABLE_ROWS, 1, -1):
        with console.capture() as block:
            for part in _printed(page, steps, rows):
                console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
        if full or block.get().count("\n") <= _MOST_LINES:
            break
    print(block.get(), end="", file=console.file, flush=True)


def _printed(page: Page, steps: Sequence[tuple[str, str]], rows: int | None) -> Iterator[Text | RichTable]:
    """Yield a page's verdict, its first screen and the steps. Tables have at most ``rows`` rows.

    If ``rows`` is None, yield the whole page. Commands and facts are not wrapped, so that they can be copied.
    """
    yield Text()
    yield Text(page.verdict, f"bold {_TONES[page.tone].removeprefix('bold ')}")
    yield from (Text(statement) for statement in page.statements if statement.lower() not in page.verdict.lower())
    yield from (Text(f"  {reason}") for reason in page.reasons[: None if rows is None else _MOST_POINTS])
    tall = True
    for section in page.sections:
        if rows is None or section.brief:
            above, tall = tall, bool(section.tables or section.figures or section.facts)
            if tall or above or rows is None:
                yield Text()
            yield from _printed_section(section, rows)
    yield Text()
    for step in page.steps:
        yield Text(step.words)
        if step.command:
            yield Text(f"  {typed(step.command)}", no_wrap=True)
    yield from (_labelled(label, command) for label, command in steps)


def _labelled(label: str, text: str) -> Text:
    return Text.assemble((f"{label}  ", "dim"), text, no_wrap=True)


def _printed_section(section: Section, rows: int | None) -> Iterator[Text | RichTable]:
    if section.title and rows is None:
        yield Text(section.title, "bold")
    if section.text:
        yield Text(f"{section.title}: {section.text}" if rows and section.title else section.text)
    points = section.points if rows is None else section.points[:_MOST_POINTS]
    for point in points:
        mark, style = {"good": ("✓", "green"), "bad": ("✗", "red")}.get(point.mark, ("!", "yellow"))
        yield Text(f"{mark} {(point if rows is None else replace(point, detail='')).words}", style)
    if left := len(section.points) - len(points):
        yield Text(f"  {left} more", "dim")
    yield from (_labelled(label, value) for label, value in section.facts)
    if section.figures:
        yield _rich_figures(section.figures)
    for place, table in enumerate(section.tables):
        if place:
            yield Text()
        if rows is None or len(section.tables) > 1:
            yield Text(table.title, "bold")
        shown = table if rows is None else table.brief(rows)
        yield _rich(shown, details=rows is None)
        if left := len(table.rows) - len(shown.rows):
            yield Text(f"{left} more of {len(table.rows)} rows", "dim")
        if table.note and rows is None:
            yield Text(table.note, "dim")


def _rich_figures(figures: Sequence[KeyFigure]) -> RichTable:
    rich = _grid()
    rich.show_header = False
    rich.add_column(justify="right", no_wrap=True, style="bold")
    rich.add_column(overflow="fold")
    rich.add_column(overflow="fold", style="dim")
    for one in figures:
        rich.add_row(Text(one.value), Text(one.label), Text(one.words))
    return rich


def _grid() -> RichTable:
    return RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)


def _rich(table: Table, *, details: bool) -> RichTable:
    """Convert a table for rich. With ``details``, it includes the extra columns, and shows details below the cells."""
    rich = _grid()
    shown = [place for place, (label, _) in enumerate(table.columns) if details or label not in table.extra]
    for place in shown:
        label, number = table.columns[place]
        # Headers can wrap between words. Figures, and names of up to 16 characters, must not wrap.
        longest = max(len(row[place].text) for row in table.rows)
        least = longest if number else min(longest, 16) if place == 0 else 0
        rich.add_column(label, justify="right" if number else "left", overflow="fold", min_width=least)
    for row in table.rows:
        texts = [Text(row[place].text, style=_TONES[row[place].tone]) for place in shown]
        for text, place in zip(texts, shown, strict=True):
            if details and row[place].detail:
                text.append(f"\n{row[place].detail}", style="not bold dim")
        rich.add_row(*texts)
    return rich
