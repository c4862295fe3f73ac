"""Shows how a load gets on: one line that changes on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.record.progress import BlockBegins, EntryProgress, LoadProgress, Progress, WaitingForWorkers

_PLAIN_EVERY: Final = 10.0
"""Seconds from one plain line of progress to the next."""
_BAR: Final = 24
"""Characters."""


class ProgressDisplay:
    """Shows the progress of a run, or of the blocks of a comparison. A context manager.

    Args:
        block_s: how long a block will take, as planned; for the time that is left.
    """

    def __init__(self, block_s: float = 0.0) -> None:
        self._block_s = block_s
        self._block = ""
        self._begun = 0.0
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if sys.stdout.isatty() else None
        self._next_line = 0.0
        self._shown = ""

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
            self._show_waiting(message)
        elif isinstance(message, BlockBegins):
            self._show_block(message)
        elif self._live is not None:
            self._live.update(Text.assemble(self._block, _bar(message), "\n", _line(message)), refresh=True)
        elif self._block:
            # A line a block is enough in a log.
            return
        elif message.phase != self._shown or message.elapsed_s >= self._next_line:
            self._shown = message.phase
            self._next_line = message.elapsed_s + _PLAIN_EVERY
            print(_line(message), flush=True)

    def _show_waiting(self, message: WaitingForWorkers) -> None:
        line = f"waiting for workers: {message.workers} of {message.expected} are there"
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)

    def _show_block(self, message: BlockBegins) -> None:
        done = message.number - 1
        if not done:
            self._begun = time.monotonic()
        # The blocks so far tell better how long one takes, drain and silence included.
        each = (time.monotonic() - self._begun) / done if done else self._block_s
        left = each * (message.blocks - done)
        rerun = "rerun, " if message.series > 1 else ""
        silence = f"; waits {message.silence_s:.0f} s first" if message.silence_s >= 1 else ""
        line = f"{rerun}block {message.number} of {message.blocks} ({message.side}), about {_time(left)} left{silence}"
        self._block = f"{line}\n"
        if self._live is None:
            print(line, flush=True)
        else:
            self._live.update(Text(line), refresh=True)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _line(figures: Progress) -> str:
    if figures.phase in {"preparing", "over"}:
        return f"{figures.phase} …"
    stages = list(dict.fromkeys(entry.stage for entry in figures.entries.values() if entry.stage))
    where = "draining" if figures.phase == "draining" else " + ".join(stages)
    head = f"{figures.elapsed_s:5.0f} s of {figures.total_s:.0f} s  {where:<8}"
    return "  ".join([head, *(f"{name}: {_figures(entry)}" for name, entry in figures.entries.items())])


def _figures(entry: EntryProgress) -> str:
    parts = [
        f"offered {entry.offered:,}",
        f"ok {entry.ok:,}",
        *([f"429 {entry.throttled:,}"] if entry.throttled else []),
        *([f"failed {entry.failed:,}"] if entry.failed else []),
        *([f"timed out {entry.timed_out:,}"] if entry.timed_out else []),
        *([] if entry.p95_ms is None else [f"p95 {entry.p95_ms:,.0f} ms"]),
    ]
    return " ".join(parts)


def _bar(figures: Progress) -> Text:
    share = min(1.0, figures.elapsed_s / figures.total_s) if figures.total_s else 0.0
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "cyan"), ("─" * (_BAR - full), "dim"), f" {share:4.0%}")
