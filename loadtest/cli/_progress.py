"""Progress of a run: one line that changes on a terminal, plain lines elsewhere."""

import sys
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.record.progress import LiveFigures, WaitingForWorkers

_PLAIN_EVERY: Final = 10.0
_BAR: Final = 24


class Progress:
    """Shows how a run goes. A context manager; ``show`` takes what ``make_load`` passes on."""

    def __init__(self) -> None:
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

    def show(self, message: LiveFigures | WaitingForWorkers) -> None:
        """Show the latest message."""
        if isinstance(message, WaitingForWorkers):
            self._show_waiting(message)
        elif self._live is not None:
            self._live.update(Text.assemble(_bar(message), "\n", _line(message)), refresh=True)
        elif message.phase != self._shown or message.elapsed_s >= self._next_line:
            self._shown = message.phase
            self._next_line = message.elapsed_s + _PLAIN_EVERY
            print(_line(message), flush=True)

    def _show_waiting(self, message: WaitingForWorkers) -> None:
        line = f"waiting for workers: {message.connected} of {message.expected} are there"
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)


def _line(figures: LiveFigures) -> str:
    if figures.phase in {"preparing", "over"}:
        return f"{figures.phase} …"
    stages = list(dict.fromkeys(stage for stage in figures.stages.values() if stage))
    where = "draining" if figures.phase == "draining" else " + ".join(stages)
    parts = [
        f"{figures.elapsed_s:5.0f} s of {figures.total_s:.0f} s",
        f"{where:<8}",
        f"offered {figures.offered:,}",
        f"accepted {figures.accepted:,}",
        f"429 {figures.throttled:,}",
        f"failed {figures.failed:,}",
        *([f"timed out {figures.timed_out:,}"] if figures.timed_out else []),
        f"in flight {figures.in_flight:,}",
        "p95 –" if figures.p95_ms is None else f"p95 {figures.p95_ms:,.0f} ms",
    ]
    return "  ".join(parts)


def _bar(figures: LiveFigures) -> Text:
    share = min(1.0, figures.elapsed_s / figures.total_s) if figures.total_s else 0.0
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "cyan"), ("─" * (_BAR - full), "dim"), f" {share:4.0%}")
