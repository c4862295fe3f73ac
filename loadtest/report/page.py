"""A page as a value, ready to show: a head with what was found, and sections of lists, facts, plots and tables.

A run, a comparison, a history and a capacity search each fill one; ``formats.html`` writes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from markupsafe import Markup

Tone = Literal["", "good", "bad", "unsure", "faint", "head"]

ANSWER: Final = "answer"
"""Name of the plot that shows what a scenario compares."""


class Chapter(StrEnum):
    """Where a run's page has a plot or table, by the heading, in order."""

    COMPARED = "What was compared"
    LIMITS = "Limits and 429s"
    TIMES = "How long it took"
    EXECUTION = "executionTime"
    JOBS = "Jobs"
    OUTCOMES = "Outcomes"
    SLOWEST = "The slowest"
    LOAD = "How good the load was"


@dataclass(frozen=True)
class KeyFigure:
    """A number as text.

    Attributes:
        label: what it is.
        value: with its unit; a dash where there is none.
        interval: what is known of how sure it is, as text; empty without.
        n: on how many it rests, in words; empty without any.
        why: why there is no value, or no interval, or what else it depends on; empty otherwise.
    """

    label: str
    value: str
    interval: str = ""
    n: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """All that belongs beside the value and its label."""
        return ", ".join(part for part in (self.interval, self.n, self.why) if part)


@dataclass(frozen=True)
class NextStep:
    """What to do next: why, and a command where there is one."""

    words: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell: its text, a smaller detail beside it, and how it is meant."""

    text: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: columns as (label, whether of numbers)."""

    name: str
    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""


Row = tuple[TableCell | str, ...]


def filled(*tables: Table) -> tuple[Table, ...]:
    """The tables that have rows."""
    return tuple(table for table in tables if table.rows)


def table_of(name: str, title: str, columns: str, rows: Iterable[Row], note: str = "") -> Table:
    """A table with columns as ``Limit | #429s``, # for numbers. A text is a cell, the first one of a row its head."""
    labels = tuple((label.removeprefix("#"), label.startswith("#")) for label in columns.split(" | "))
    cells = tuple(
        tuple(
            each if isinstance(each, TableCell) else TableCell(each, tone="" if k else "head")
            for k, each in enumerate(row)
        )
        for row in rows
    )
    return Table(name, title, labels, cells, note)


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
    """The operations of a traffic entry that were sent in a stage, by outcome; only what there is any of."""

    traffic: str
    stage: str
    sent: str
    parts: tuple[OutcomeShare, ...]

    @property
    def words(self) -> str:
        """``ok 51.0 %, 429 49.0 % of 2 400``."""
        return f"{', '.join(f'{part.label} {part.share}' for part in self.parts)} of {self.sent}"


@dataclass(frozen=True)
class Point:
    """A point of a list: its text, a smaller detail, and of a check its name and how it ended."""

    text: str
    detail: str = ""
    name: str = ""
    mark: Tone = ""


Look = Literal[
    "plain", "answer", "bare", "note", "nothing", "columns", "notice", "warnings", "contents", "aside", "chapter"
]
"""Tables of ``bare`` and ``aside`` have no caption; ``aside`` and ``chapter`` unfold by a click."""


@dataclass(frozen=True)
class Section:
    """A part of a page, as far as it has text, points, facts, plots and tables, in this order.

    Attributes:
        name: where a link to a chapter leads.
        tone: of a notice.
        parts: of columns: what stands below one another in each.
    """

    title: str = ""
    look: Look = "plain"
    name: str = ""
    tone: Tone = ""
    text: str = ""
    points: tuple[Point, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    parts: tuple[tuple["Section", ...], ...] = ()

    @property
    def size(self) -> str:
        """How much there is to see: ``2 plots, 1 table``."""
        counts = ((len(self.plots), "plot"), (len(self.tables), "table"), (len(self.facts), "fact"))
        return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in counts if n)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        about: what kind of page it is, and of what: above the heading.
        tab: what a browser calls it.
        tone: how what was found is meant.
        word: what was found in a word; empty without a verdict.
        statements: the same in sentences, the first one large.
        reasons: what else a reader must know.
        sides: (label, value) pairs: what was compared with what.
        figures: the numbers that matter most.
        bars: what became of the operations of each traffic entry and stage.
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
    reasons: tuple[str, ...] = ()
    steps: tuple[NextStep, ...] = ()
    sides: tuple[tuple[str, str], ...] = ()
    figures: tuple[KeyFigure, ...] = ()
    bars: tuple[OutcomeBar, ...] = ()
    folder: str = ""
    explains: bool = False
    style: str = ""
