"""A table as a value: text that is ready to show."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "unsure", "faint", "head"]


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
