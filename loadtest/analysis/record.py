"""A run's record, taken in once: what is counted and measured of it, without a sample of it in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow.compute as pc

from loadtest.analysis.anomalies import Errors, Oddities
from loadtest.analysis.arrivals import Arrivals
from loadtest.analysis.columns import Book
from loadtest.analysis.counts import Counts, Means, PollUse
from loadtest.analysis.jobs import Jobs
from loadtest.analysis.limits.sent_requests import Drawn, Sends, drawn
from loadtest.analysis.reader import Chunk, scan
from loadtest.analysis.slowest import Slowest
from loadtest.analysis.times import Times, start_lag
from loadtest.contract import LIMIT_NAMES
from loadtest.plan import AssumedLimits
from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo, StagePlan

Progress = Callable[[int], None]


class Extent:
    """When things happened, in ns since the epoch.

    Attributes:
        last: the last moment that the record knows of.
        first: by column (``start``, ``intended_start``), the least of each traffic entry's operations in figures.
        last_of: likewise the greatest.
    """

    def __init__(self, book: Book) -> None:
        self.last = -np.inf
        entries = len(book.entries)
        self.first = {name: np.full(entries, np.inf) for name in ("start", "intended_start")}
        self.last_of = {name: np.full(entries, -np.inf) for name in ("start", "intended_start")}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for name in ("start", "end"):
            last = pc.max(chunk.columns.arrow(name)).as_py()
            self.last = max(self.last, -np.inf if last is None else float(last))
        for cell, rows in chunk.operations.by_cell:
            sent = rows.where(~np.isnan(start_lag(rows)))
            if not chunk.book.in_figures[cell] or not len(sent):
                continue
            entry = chunk.book.entry_of[cell]
            for name in self.first:
                times = sent.floats(name)
                self.first[name][entry] = min(self.first[name][entry], times.min())
                self.last_of[name][entry] = max(self.last_of[name][entry], times.max())


@dataclass(frozen=True, eq=False)
class Record:
    """A run's record.

    Attributes:
        directory: of the run.
        info: run.json.
        book: its words and cells.
        rows: how many samples can be read.
        counts: what is counted, by cell.
        times: every time, by cell.
        means: where the time of ok operations goes, by cell.
        sends: the requests that limiters are replayed over.
        arrivals: which arrivals it tells of.
        extent: when things happened.
        errors: what was not ok, in groups.
        oddities: values that cannot be.
        jobs: what became of each.
        slowest: operations.
        poll_use: how much of what is retrieved is polls.
    """

    directory: Path
    info: RunInfo
    book: Book
    rows: int
    counts: Counts
    times: Times
    means: Means
    sends: Sends
    arrivals: Arrivals
    extent: Extent
    errors: Errors
    oddities: Oddities
    jobs: Jobs
    slowest: Slowest
    poll_use: PollUse

    @cached_property
    def sent_requests(self) -> pd.DataFrame:
        """Requests that were sent, set-up and warm-up included, as ``Sends`` keeps them."""
        return self.sends.frame()

    @cached_property
    def drawn(self) -> list[Drawn]:
        """What was asked of each limiter that is believed to be there."""
        return list(drawn(self.sent_requests, self.info, self.belief))

    @cached_property
    def requests(self) -> pd.DataFrame:
        """Of these, the ones in figures."""
        return self.sent_requests[self.sent_requests["in_figures"]]

    @cached_property
    def covered_s(self) -> float:
        """Seconds from the epoch that the record covers: the schedule, or what came before it was cut short."""
        planned = max((s.start_s + s.duration_s for t in self.info.traffic.values() for s in t.stages), default=0.0)
        if self.info.end == "finished":
            return planned
        if self.info.elapsed_s is not None:
            return min(planned, self.info.elapsed_s)
        # Killed: the last thing that the record knows to have happened.
        return min(planned, max(0.0, self.extent.last / 1e9))

    @cached_property
    def belief(self) -> AssumedLimits:
        """What was believed of the limits; where that is unknown here, what holds of documented ones."""
        try:
            return AssumedLimits.recorded(self.info.target)
        except ValueError:
            documented = msgspec.structs.replace(
                self.info.target, limiter="fixed-window", burst=None, count_rejected=False, limit_scope="key-and-name"
            )
            return AssumedLimits.recorded(documented)

    def on_limit(self, limit: str) -> pd.DataFrame:
        """Kept requests that drew on a limit; ``all`` is that of all requests."""
        return self.sent_requests[self.sent_requests["limit"].isin(self.belief.together(limit))]

    def limits(self) -> list[str]:
        """The limits that are believed to be in force and were asked anything, as ``on_limit`` takes them."""
        names = dict.fromkeys(self.belief.drawn_on(name) for name in LIMIT_NAMES if name in self.belief.limits)
        return [name for name in names if any(self.counts.asked[each] for each in self.belief.together(name))]

    def quotas_on(self, limit: str) -> int:
        """How many quotas a limit had: one for each key that was used on it, unless keys share it."""
        keys: set[int] = set().union(*(self.counts.keys[each] for each in self.belief.together(limit)))
        return self.belief.quotas(max(1, len(keys)))

    def stages(self, *, traffic: str | None = None, operation: str | None = None) -> list[tuple[str, StagePlan]]:
        """Stages that are in figures, as (traffic, stage), in order of the scenario."""
        return [
            (name, stage)
            for name, plan in self.info.traffic.items()
            if traffic in (None, name) and operation in (None, plan.operation)
            for stage in plan.stages
            if not stage.warmup
        ]

    def cells_of(self, traffic: str) -> list[int]:
        """Every cell of a traffic entry, the warm-up's included."""
        return [cell for cell, (name, _) in enumerate(self.book.cells) if name == traffic]

    def cells(self, stages: list[tuple[str, StagePlan]]) -> list[int]:
        """The cells of some stages."""
        places = {(name, stage.name): cell for cell, (name, stage) in enumerate(self.book.cells)}
        return [places[name, stage.name] for name, stage in stages]


def load_record(directory: Path, on_progress: Progress | None = None) -> Record:
    """Take in a run directory's record.

    Args:
        directory: of the run.
        on_progress: told how many rows were read so far.

    Raises:
        RecordError: if it cannot be read as a record.
    """
    info = run_directory.load(directory)
    book = Book(info)
    parts: dict[str, Any] = {
        "counts": Counts(book), "times": Times(book), "means": Means(book), "sends": Sends(book),
        "arrivals": Arrivals(book), "extent": Extent(book), "errors": Errors(book), "oddities": Oddities(book),
        "jobs": Jobs(book), "slowest": Slowest(book), "poll_use": PollUse(book, info),
    }  # fmt: skip
    rows = scan(directory, book, list(parts.values()), on_progress)
    return Record(directory, info, book, rows, **parts)
