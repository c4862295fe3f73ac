"""What pages are made of, ready to show: figures, plots, and tables with their cells."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

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
class Cell:
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
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


Row = tuple[Cell | str, ...]


def table_of(name: str, title: str, columns: str, rows: Iterable[Row], note: str = "") -> Table:
    """A table with columns as ``Limit | #429s``, # for numbers. A text is a cell, the first one of a row its head."""
    labels = tuple((label.removeprefix("#"), label.startswith("#")) for label in columns.split(" | "))
    cells = tuple(
        tuple(each if isinstance(each, Cell) else Cell(each, tone="" if k else "head") for k, each in enumerate(row))
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
        png: the same on white, with its title; empty if there is no plot.
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
