"""A page's content: a head with the verdict and the answer, and sections of lists, facts, plots and tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal, TypeVar

from markupsafe import Markup

from loadtest.words import NOTHING, count, counted

Tone = Literal["", "good", "bad", "unsure", "faint", "head"]

_WORDS: Final[Mapping[Tone, tuple[str, ...]]] = {
    "": ("accepted", "imported", "unchanged"),
    "good": ("as documented", "holds", "improved", "pass"),
    "unsure": ("can't tell", "changed", "inconclusive", "learning", "not judged", "waiting"),
    "faint": ("rejected",),
}


def tone_of(word: str) -> Tone:
    """Return the tone of a verdict or status: ``bad`` for words that are not in ``_WORDS``."""
    return next((tone for tone, words in _WORDS.items() if word in words), "bad")


class Chapter(StrEnum):
    """A chapter of a run's page. The value is its heading; the members are in the order of the page."""

    COMPARED = "Comparison"
    LIMITS = "Limits and 429s"
    TIMES = "Times"
    EXECUTION = "executionTime"
    JOBS = "Jobs"
    OUTCOMES = "Outcomes"
    SLOWEST = "Slowest operations"
    LOAD = "Load generation"


TERMS: Final[Mapping[str, str]] = {
    "429": "The answer “rate limit exceeded”. A 429 rate is the share of requests or operations that got this answer.",
    "95 % interval": "A range that contains the true value in 95 of 100 runs, if the assumptions in the note hold.",
    "accepted": "Not rejected by the rate limiter: the answer has any status except 429.",
    "amplification": "Requests sent for each operation, retries included and polls left out.",
    "bottleneck": "The constraint that the load reached: the generator, a limit or the target’s capacity.",
    "dispatch lag": "The start lag without waits for a free user: the delay that the load generator causes.",
    "evenness": "Regularity of sending: sd ÷ mean of the number of sends per 100 ms, and the same for the schedule.",
    "executionTime": "Duration of the work, as reported by the server.",
    "expected": "Decisions of the assumed rate limiter in a replay of the requests that were sent.",
    "fixed window": "A rate limiter that counts requests in successive windows. Each window’s count begins at zero.",
    "goodput": "Operations per second that ended ok.",
    "inconclusive": "The run cannot decide the threshold: it has too few samples, or only bounds are known.",
    "marginal": "The value passes or fails, but part of its 95 % interval gives the opposite result.",
    "offered": "Operations that the schedule planned, sent or not.",
    "overhead": "The client’s wait beyond executionTime: transport; for a job, also queueing and polling.",
    "p50": "The median: half of the times are at most this long.",
    "p95": "95 of 100 times are at most this long.",
    "p99": "99 of 100 times are at most this long.",
    "poll lag": "Time from a job’s end until the poll that showed this end.",
    "queue wait": "A job’s time from acceptance to the start of its execution.",
    "response time": "From an operation’s intended start until its result is there, with waiting, retries and polls.",
    "saturated": "A window of the server is saturated if at least one request in it got 429.",
    "service time": "Time of a single request, from connecting (or sending, if connected) to the end of its answer.",
    "sliding log": "A rate limiter that counts the requests it accepted in the window just before each request.",
    "start lag": "Delay of an operation’s start after its intended time.",
    "time to result": "A job’s time from its intended start until its result was seen.",
    "token bucket": "A rate limiter whose tokens return at a constant rate. Each accepted request takes a token.",
    "warm-up": "The time before the first stage, excluded from all figures.",
}
"""Explanations by term. The terms are spelled as in the report."""


@dataclass(frozen=True)
class KeyFigure:
    """A figure as text: value with unit, interval, sample size, and a remark, such as why there is no interval."""

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
    """A next step for the user in words, with a command that may be empty."""

    words: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A table's cell. The detail follows the text in smaller or paler print."""

    text: str
    detail: str = ""
    tone: Tone = ""


UNKNOWN: Final = TableCell(NOTHING, tone="faint")


def alarm(number: int, *, bad: bool | None = None, detail: str = "") -> TableCell:
    """Return a count, highlighted if it is bad. By default, every count above 0 is bad."""
    return TableCell(count(number), detail, "bad" if (number if bad is None else bad) else "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        columns: pairs of a label and whether the column holds numbers.
        extra: labels of the columns that a phone, and a terminal without ``--full``, leave out.
        decides: indices of rows, the most important first, for ``brief``; if empty, ``brief`` keeps the first rows.
    """

    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[TableCell, ...], ...]
    note: str = ""
    extra: frozenset[str] = frozenset()
    decides: tuple[int, ...] = ()

    def brief(self, most: int) -> "Table":
        """Return the table with at most ``most`` rows: the most important rows, in the table's order."""
        kept = sorted((self.decides or tuple(range(len(self.rows))))[:most])
        if len(kept) == len(self.rows):
            return self
        heads: list[TableCell] = []
        for row in self.rows:
            heads.append(row[0] if row[0].text or not heads else heads[-1])
        rows = []
        above = None
        for place in kept:
            # Rows without a name share the name above them. The next kept row gets the name of a dropped row.
            first, *others = self.rows[place]
            rows.append((first if heads[place] is above else heads[place], *others))
            above = heads[place]
        decides = (kept.index(place) for place in self.decides[:most])
        return replace(self, rows=tuple(rows), decides=tuple(decides))

    def listed(self) -> "Table":
        """Return the table with its ``MOST_LISTED`` most important rows. A note counts the rows left out."""
        kept, left_out = self.brief(MOST_LISTED), len(self.rows) - MOST_LISTED
        if left_out <= 0:
            return self
        shown = {row[0].text for row in kept.rows}
        heads = dict.fromkeys(row[0].text for row in self.rows if not self.columns[0][1] and row[0].text not in shown)
        names = f" ({', '.join(heads)})" if heads else ""
        note = f"{counted(left_out, 'further row')} left out{names}; the files beside this page have all numbers."
        return replace(kept, note=f"{self.note} {note}".strip())


_Item = TypeVar("_Item")
TableColumns = Mapping[str, Callable[[_Item], TableCell | str | int | None]]
"""Columns by label. A # marks a column of numbers (``#429s``), a ~ marks an extra column (``~#Rate``)."""


def table_of(
    title: str, columns: TableColumns[_Item], rows: Iterable[_Item], note: str = "", decides: tuple[int, ...] = ()
) -> Table:
    """Return a table with a row per item.

    Whole numbers become text, and None becomes a dash. Text in the first column has the tone ``head``.
    """
    labels = tuple((label.lstrip("~#"), "#" in label[:2]) for label in columns)
    extra = frozenset(label.lstrip("~#") for label in columns if label.startswith("~"))
    cells = tuple(
        tuple(_cell(of(item), "" if place else "head") for place, of in enumerate(columns.values())) for item in rows
    )
    return Table(title, labels, cells, note, extra, decides)


def _cell(value: TableCell | str | int | None, tone: Tone) -> TableCell:
    if value is None or isinstance(value, TableCell):
        return value or UNKNOWN
    return TableCell(value if isinstance(value, str) else count(value), "", tone)


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        caption: how to read the plot.
        svg: an ``<svg>`` element that takes its colours from CSS variables.
        png: the drawing on white, with its title; empty unless requested.
        leads: whether the plot may stand before all chapters.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes = b""
    data: tuple[Table, ...] = ()
    csv: str = ""
    chapter: Chapter | None = None
    leads: bool = False


@dataclass(frozen=True)
class OutcomeBar:
    """Outcomes of the operations that a traffic entry sent in a stage.

    Attributes:
        words: the shares of outcomes as text: ``ok 51.0 %, 429 49.0 % of 2,400``.
        parts: (outcome, percentage) pairs; the outcome's name selects the colour.
    """

    label: str
    words: str
    parts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Point:
    """An item of a list. Only checks of validity have a name and a mark, which shows their result."""

    text: str
    detail: str = ""
    name: str = ""
    mark: Tone = ""

    @property
    def words(self) -> str:
        """The point on one line: ``name: text detail``, or ``text: detail`` without a name."""
        text = f"{self.name}: {self.text}" if self.name else self.text
        colon = "" if self.name or text.endswith(".") else ":"
        return f"{text}{colon} {self.detail}" if self.detail else text


Look = Literal["plain", "notice", "warnings", "contents", "aside", "chapter"]
"""A section's look. An ``aside`` or a ``chapter`` unfolds on a click. Tables in an ``aside`` have no caption."""
MOST_LISTED: Final = 150
"""``Table.listed`` keeps at most this many rows, because a longer table may take megabytes of HTML."""
MOST_ROWS: Final = 8
"""The first screen of a page shows this many rows of a long table. The whole table unfolds on a click."""


@dataclass(frozen=True)
class Section:
    """A part of a page. In HTML, its content appears in the order of the fields. Tables without rows are left out.

    Attributes:
        name: the anchor of a chapter.
        brief: whether its tables are shortened, and a terminal shows the section without ``--full``.
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
    undrawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(table for table in self.tables if table.rows))

    @property
    def size(self) -> str:
        """The numbers of plots, tables, facts and lines, without zeros: ``2 plots, 1 table``."""
        parts = {"plot": self.plots, "table": self.tables, "fact": self.facts, "line": self.points}
        return ", ".join(counted(len(part), noun) for noun, part in parts.items() if part)

    @property
    def filled(self) -> bool:
        """Whether the section has any content."""
        content = (self.text, self.points, self.facts, self.figures, self.plots, self.tables, self.bars)
        return self.look == "contents" or any(content)


@dataclass(frozen=True)
class Page:
    """A page. Sections without content are left out.

    Attributes:
        word: the verdict in a word; ``verdict`` is the verdict in a sentence. Both are empty if the page has none.
        statements: the sentences below the heading; the first is large.
        sides: (label, value) pairs, such as the compared versions.
        exit_code: exit code of the process that makes the page.
        folder: name of the folder with the plots' files, beside the page; empty without files.
        terms: explanations of the terms that the page links.
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
    terms: Mapping[str, str] = field(default_factory=dict)
    style: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", tuple(section for section in self.sections if section.filled))

    @property
    def tables(self) -> Iterator[Table]:
        """Every table of the page, in order."""
        return (table for section in self.sections for table in section.tables)

    @property
    def plots(self) -> Iterator[Plot]:
        """Every plot of the page, in order."""
        return (plot for section in self.sections for plot in section.plots)
