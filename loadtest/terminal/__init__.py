"""Output of the verbs: plans, histories, and the progress of a load."""

import sys
import time
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadtest.contract import Outcome
from loadtest.record.progress import BlockBegins, LoadProgress, Progress, WaitingForWorkers

__all__ = ["ProgressDisplay", "history", "plan"]
_PLAIN_EVERY: Final = 20.0
"""Within a phase, lines in a log are at least this many seconds apart. A long run prints about 20 lines."""
_BAR: Final = 24
"""Length of the bar, in characters."""
_COUNTS: Final = {
    "offered": "offered",
    Outcome.OK: Outcome.OK,
    Outcome.THROTTLED: "429",
    Outcome.FAILED: Outcome.FAILED,
    Outcome.TIMED_OUT: "timed out",
}
"""Displayed names of an entry's counts."""
_OF_WHAT: Final = "p95: response time of operations that were ok or timed out in the last ten seconds"


class ProgressDisplay:
    """A context manager that shows the progress of a run, or of a comparison's blocks.

    A terminal shows a bar and a table. A log gets a line for each phase, and further lines at least 20 s apart. For a
    comparison, a log gets a line for each block.

    Args:
        block_s: planned duration of a block in s, to estimate the remaining time.
        terminal: console to redraw. Default: standard output, if it is a terminal.
        logged: whether to print the figures of a run if there is no terminal.
    """

    def __init__(self, block_s: float = 0.0, terminal: Console | None = None, *, logged: bool = True) -> None:
        self._block_s, self._logged = block_s, logged
        if terminal is None and sys.stdout.isatty():
            terminal = Console()
        self._live = None if terminal is None else Live(console=terminal, transient=True, auto_refresh=False)
        self._block = self._shown = ""
        self._begun = self._next_line = 0.0
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, message: LoadProgress) -> None:
        """Show the latest message of the load."""
        if isinstance(message, WaitingForWorkers):
            self._say(f"waiting for workers: {message.workers} of {message.expected} connected")
        elif isinstance(message, BlockBegins):
            self._block = self._block_line(message)
            self._say(self._block)
        elif self._live is not None:
            above: list[RenderableType] = [self._block] if self._block else []
            above += [Text(message.bottleneck, "bold red")] if message.bottleneck else []
            self._live.update(Group(*above, _bar(message), _table(message), Text(_OF_WHAT, "dim")), refresh=True)
        else:
            self._log(message)

    def _log(self, message: Progress) -> None:
        if (problem := message.bottleneck.partition(":")[0]) and problem not in self._warned:
            self._warned.add(problem)
            print(message.bottleneck, flush=True)
        # For a comparison, a line per block is enough in a log.
        if self._logged and not self._block and (message.phase != self._shown or message.elapsed_s >= self._next_line):
            self._shown = message.phase
            self._next_line = message.elapsed_s + max(_PLAIN_EVERY, message.total_s / 20)
            print(_line(message), flush=True)

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)

    def _block_line(self, message: BlockBegins) -> str:
        done = message.number - 1
        if not done:
            self._begun = time.monotonic()
        # Finished blocks give a better estimate than the plan, because they include drain and silence.
        each = (time.monotonic() - self._begun) / done if done else self._block_s
        left = _time(each * (message.blocks - done))
        silence = f"; waits {message.silence_s:.0f} s first" if message.silence_s >= 1 else ""
        return f"block {message.number} of {message.blocks} ({message.side}), about {left} left{silence}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _where(figures: Progress) -> str:
    if figures.phase != "running":
        return figures.phase
    return " + ".join(dict.fromkeys(entry.stage for entry in figures.entries.values() if entry.stage))


def _line(figures: Progress) -> str:
    if figures.phase in {"preparing", "over"}:
        return f"{figures.phase} …"
    entries = figures.entries
    counts = {label: sum(getattr(each, name) for each in entries.values()) for name, label in _COUNTS.items()}
    always = {"offered", Outcome.OK, "429"}
    told = [f"{label} {number:,}" for label, number in counts.items() if number or label in always]
    times = {name: each.p95_ms for name, each in entries.items() if each.p95_ms is not None}
    if times:
        slowest = max(times, key=lambda name: times[name])
        told.append(f"p95 {times[slowest]:,.0f} ms{f' ({slowest})' if len(entries) > 1 else ''}")
    # During the drain, ``elapsed_s`` exceeds ``total_s``.
    begins = f"{min(figures.elapsed_s, figures.total_s):5.0f} s of {figures.total_s:.0f} s  {_where(figures):<8}"
    return "  ".join([begins, *told])


def _bar(figures: Progress) -> Text:
    share = min(1.0, figures.elapsed_s / figures.total_s) if figures.total_s else 0.0
    full = round(share * _BAR)
    left = f", {_time(figures.total_s - figures.elapsed_s)} left" if figures.phase == "running" else " …"
    bar = ("━" * full, "cyan"), ("─" * (_BAR - full), "dim")
    return Text.assemble(*bar, f" {share:4.0%}  {_where(figures)}{left}")


def _table(figures: Progress) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("traffic")
    for label in (*_COUNTS.values(), "p95"):
        table.add_column(label, justify="right", no_wrap=True)
    for name, entry in figures.entries.items():
        counts = (f"{getattr(entry, count):,}" for count in _COUNTS)
        table.add_row(Text(name), *counts, "–" if entry.p95_ms is None else f"{entry.p95_ms:,.0f} ms")
    return table
