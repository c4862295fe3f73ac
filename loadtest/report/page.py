"""A page's content: a head with the verdict and the answer, and sections of lists, facts, plots and tables.

Runs, comparisons, histories and capacity searches each build a page; ``formats`` writes and prints it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

from markupsafe import Markup

from loadtest.words import counted

Tone = Literal["", "good", "bad", "unsure", "faint", "head"]

ANSWER: Final = "answer"
"""Name of the plot of a scenario's comparisons."""


class Chapter(StrEnum):
    """A chapter of a run's page, by its heading, in order of appearance."""

    COMPARED = "What was compared"
    LIMITS = "Limits and 429s"
    TIMES = "How long it took"
    EXECUTION = "executionTime"
    JOBS = "Jobs"
    OUTCOMES = "Outcomes"
    SLOWEST = "The slowest"
    LOAD = "Quality of the load"


@dataclass(frozen=True)
class KeyFigure:
    """A number as text.

    Attributes:
        value: with its unit; a dash where there is none.
        interval: its uncertainty as text, or empty.
        n: the sample size in words, or empty.
        why: the reason for a missing value or interval, or what else it depends on; may be empty.
    """

    label: str
    value: str
    interval: str = ""
    n: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """The text beside the value and its label."""
        return ", ".join(part for part in (self.interval, self.n, self.why) if part)


@dataclass(frozen=True)
class NextStep:
    """A next step: its reason, and a command or None."""

    words: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell: its text, a smaller detail beside it, and its tone."""

    text: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        columns: (label, whether it holds numbers).
        extra: labels of the columns that a terminal and a phone leave out.
        decides: places of rows, the most important first; empty where the rows stand in that order.
    """

    name: str
    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""
    extra: frozenset[str] = frozenset()
    decides: tuple[int, ...] = ()

    def brief(self, most: int) -> "Table":
        """Return the table with at most ``most`` deciding rows, in their order; itself if those are all."""
        kept = sorted((self.decides or tuple(range(len(self.rows))))[:most])
        if len(kept) == len(self.rows):
            return self
        rows = (self._headed(place) if place - 1 not in kept else self.rows[place] for place in kept)
        decides = (kept.index(place) for place in self.decides[:most])
        return replace(self, rows=tuple(rows), decides=tuple(decides))

    def listed(self) -> "Table":
        """Return the table with at most ``MOST_LISTED`` deciding rows; its note counts the rest."""
        left_out = len(self.rows) - MOST_LISTED
        if left_out <= 0:
            return self
        note = f"{self.note} {counted(left_out, 'further row')} left out; the files beside this page have all numbers."
        return replace(self.brief(MOST_LISTED), note=note.strip())

    def _headed(self, place: int) -> tuple[TableCell, ...]:
        """Return a row with the name that it shares with rows above."""
        named = next((row[0] for row in self.rows[place::-1] if row[0].text), self.rows[place][0])
        return (named, *self.rows[place][1:])


Row = tuple[TableCell | str, ...]


def filled(*tables: Table) -> tuple[Table, ...]:
    """Return the tables that have rows."""
    return tuple(table for table in tables if table.rows)


def table_of(name: str, title: str, columns: str, rows: Iterable[Row], note: str = "") -> Table:
    """Return a table with columns as ``Limit | #429s | ~#Rate``: # marks numbers, ~ extra columns.

    Strings become cells, the first in a row its head.
    """
    marked = columns.split(" | ")
    labels = tuple((label.lstrip("~#"), "#" in label[:2]) for label in marked)
    extra = frozenset(label.lstrip("~#") for label in marked if label.startswith("~"))
    cells = tuple(
        tuple(
            each if isinstance(each, TableCell) else TableCell(each, tone="" if k else "head")
            for k, each in enumerate(row)
        )
        for row in rows
    )
    return Table(name, title, labels, cells, note, extra)


@dataclass(frozen=True)
class Plot:
    """A finished plot, or why there is none.

    Attributes:
        name: of its file, without suffix.
        title: what it shows, in a sentence.
        caption: how to read it; of a plot that there is not, why not.
        svg: an ``<svg>`` element that takes its colours from CSS variables; empty if there is no plot.
        png: the same on white, with its title; empty unless asked for.
        data: its numbers, in short.
        csv: its numbers, all that are drawn; empty if there is no plot.
        chapter: of a run's page; None on other pages.
        leads: whether it is one of the few that stand before all chapters.
    """

    name: str
    title: str
    caption: str
    svg: str = ""
    png: bytes = b""
    data: tuple[Table, ...] = ()
    csv: str = ""
    chapter: Chapter | None = None
    leads: bool = False


@dataclass(frozen=True)
class OutcomeShare:
    """One outcome in a bar: its name, which gives its colour, its label, and its percentage as number and as text."""

    outcome: str
    label: str
    percent: float
    share: str


@dataclass(frozen=True)
class OutcomeBar:
    """Operations of a traffic entry sent in a stage, by outcome, without empty outcomes."""

    traffic: str
    stage: str
    sent: str
    parts: tuple[OutcomeShare, ...]

    @property
    def words(self) -> str:
        """The bar in words: ``ok 51.0 %, 429 49.0 % of 2 400``."""
        return f"{', '.join(f'{part.label} {part.share}' for part in self.parts)} of {self.sent}"


@dataclass(frozen=True)
class Point:
    """A point of a list: its text, a smaller detail, and a check's name and result."""

    text: str
    detail: str = ""
    name: str = ""
    mark: Tone = ""


Look = Literal["plain", "columns", "notice", "warnings", "contents", "aside", "chapter"]
"""A section's display: ``aside`` and ``chapter`` unfold on a click; tables of ``aside`` have no caption."""
MOST_LISTED: Final = 150
"""Maximum rows of a table on a page; more would fill megabytes."""
MOST_ROWS: Final = 8
"""Maximum rows of a table on a page's first screen; further rows unfold on a click."""


@dataclass(frozen=True)
class Section:
    """A part of a page: text, points, facts, figures, plots, tables and bars, in this order, each optional.

    Attributes:
        name: the anchor of a chapter.
        brief: whether it belongs to the first screen, which a terminal shows without ``--full``.
        tone: of a notice.
        figures: the numbers that matter most.
        bars: the outcomes of each traffic entry and stage.
        parts: of columns: the sections of each.
    """

    title: str = ""
    look: Look = "plain"
    name: str = ""
    brief: bool = False
    tone: Tone = ""
    text: str = ""
    points: tuple[Point, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[KeyFigure, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    bars: tuple[OutcomeBar, ...] = ()
    parts: tuple[tuple["Section", ...], ...] = ()

    @property
    def size(self) -> str:
        """The number of plots and tables: ``2 plots, 1 table``."""
        points = sum(len(part.points) for column in self.parts for part in column)
        sizes = (len(self.plots), len(self.tables), len(self.facts), points)
        counts = zip(sizes, ("plot", "table", "fact", "line"), strict=True)
        return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in counts if n)

    @property
    def filled(self) -> bool:
        """Whether it has any content."""
        content = (self.text, self.points, self.facts, self.figures, self.plots, self.tables, self.bars)
        return self.look == "contents" or any(content) or any(part.filled for column in self.parts for part in column)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        about: the kind of page and its subject, above the heading.
        tab: its title in a browser.
        tone: of the verdict.
        word: the verdict in a word; empty without a verdict.
        verdict: the verdict in a sentence; empty without a verdict.
        statements: the sentences below the heading, the first one large.
        reasons: what else a reader must know.
        sides: (label, value) pairs: what was compared with what.
        exit_code: of the process that makes the page.
        folder: where the plots' numbers are, beside the page; empty if they are in no file.
        explains: whether it explains the terms of reports, which are linked where they stand.
        style: a style sheet beside that of every page.
    """

    about: tuple[str, str]
    tab: str
    heading: str
    tone: Tone
    statements: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: Markup
    word: str = ""
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    steps: tuple[NextStep, ...] = ()
    sides: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    folder: str = ""
    explains: bool = False
    style: str = ""

    @property
    def tables(self) -> Iterator[Table]:
        """Every table of the page, in order."""
        return (table for section in self.sections for table in section.tables)

    @property
    def plots(self) -> Iterator[Plot]:
        """Every plot of the page, in order."""
        return (plot for section in self.sections for plot in section.plots)

    def table(self, name: str) -> Table | None:
        """The table of that name; None if the page has none."""
        return next((table for table in self.tables if table.name == name), None)
