"""A progress bar for long work, on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loadtest.record import run_directory

LONG: Final = 2_000_000
"""Samples from which reading them takes longer than a reader waits without a word."""


@contextmanager
def reading(directory: Path, console: Console | None = None) -> Iterator[Callable[[int], None] | None]:
    """Show how much of a run's record has been read; gone when it is done.

    Args:
        directory: of the run.
        console: where to show it; standard error by default, so that no output has it.

    Yields:
        What is to be told how many samples were read so far; None where nothing is shown: the record is short, its
        length unknown, or nobody looks.

    Raises:
        RecordError: if there is no readable run.json.
    """
    console = console or Console(stderr=True)
    samples = run_directory.load(directory).samples or 0
    if samples < LONG or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Reading the record", total=samples)

        def show(rows: int) -> None:
            progress.update(task, completed=rows)
            if rows >= samples:
                progress.update(task, description="Looking closer, drawing")

        yield show
