"""A table as a value: text that is ready to show."""

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
