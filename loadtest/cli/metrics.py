"""``loadtest metrics``: lists the metrics for thresholds and comparisons."""

from typing import Final

import click
from rich.table import Table

from loadtest.console import Console
from loadtest.metrics import EXPECTED, METRICS, STATISTICS, TIMES
from loadtest.threshold import WRITE_AS
from loadtest.units import Unit

_TITLES: Final[dict[Unit, str]] = {"share": "Shares", "per_s": "Rates", "number": "Numbers"}


@click.command("metrics")
def command() -> None:
    """List the metrics for thresholds (`require`) and comparisons (`by`). metrics.json has the same names."""
    console = Console()
    statistics = ", ".join(f".{name}" for name in STATISTICS)
    console.print(f"Times: {WRITE_AS['ms']}. Add one of {statistics}.", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for name, meaning in TIMES.items():
        table.add_row(f"  {name}", meaning)
    console.print(table)
    for unit, title in _TITLES.items():
        names = [name for name, entry in METRICS.items() if entry.unit == unit and not name.startswith("polls.")]
        also = ["polls (with one of the statistics above)"] if unit == "number" else []
        console.print(f"\n{title}: {WRITE_AS[unit]}.\n  " + "\n  ".join([*names, *also]), soft_wrap=True)
    console.print(f"\n`within D of expected` is available for {' and '.join(EXPECTED)}.", soft_wrap=True)
