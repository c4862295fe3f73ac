"""Progress of a run: one line that changes on a terminal, plain lines elsewhere."""

import sys
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.record.progress import Progress, WaitingForWorkers

_PLAIN_EVERY: Final = 10.0
_BAR: Final = 24


class ProgressDisplay:
    """Shows where a run is. A context manager; ``show`` takes what ``make_load`` passes on."""

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

    def show(self, progress: Progress | WaitingForWorkers) -> None:
        """Show the live figures."""
        if isinstance(progress, WaitingForWorkers):
            self._wait(progress)
        elif self._live is not None:
            self._live.update(Text.assemble(_bar(progress), "\n", _line(progress)), refresh=True)
        elif progress.phase != self._shown or progress.elapsed_s >= self._next_line:
            self._shown = progress.phase
            self._next_line = progress.elapsed_s + _PLAIN_EVERY
            print(_line(progress), flush=True)

    def _wait(self, progress: WaitingForWorkers) -> None:
        line = f"waiting for workers: {progress.workers} of {progress.expected} are there"
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif line != self._shown:
            self._shown = line
            print(line, flush=True)


def _line(progress: Progress) -> str:
    if progress.phase in {"preparing", "over"}:
        return f"{progress.phase} …"
    stages = list(dict.fromkeys(stage for stage in progress.stages.values() if stage))
    where = "draining" if progress.phase == "draining" else " + ".join(stages)
    p95 = progress.p95_ms
    parts = [
        f"{progress.elapsed_s:5.0f} s of {progress.total_s:.0f} s",
        f"{where:<8}",
        f"offered {progress.offered:,}",
        f"accepted {progress.accepted:,}",
        f"429 {progress.throttled:,}",
        f"failed {progress.failed:,}",
        *([f"timed out {progress.timed_out:,}"] if progress.timed_out else []),
        f"in flight {progress.in_flight:,}",
        "p95 –" if p95 is None else f"p95 {p95:,.0f} ms",
    ]
    return "  ".join(parts)


def _bar(progress: Progress) -> Text:
    share = min(1.0, progress.elapsed_s / progress.total_s) if progress.total_s else 0.0
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "cyan"), ("─" * (_BAR - full), "dim"), f" {share:4.0%}")
