"""``loadtest runs``: lists runs, and deletes old runs."""

from pathlib import Path
from typing import Final

import click

from loadtest.cli._options import shared
from loadtest.foreign_text import print_json
from loadtest.program import mention, pasteable
from loadtest.runs.stored import StoredRun, delete, stored_runs
from loadtest.words import percent

_HEAD: Final = (
    f"{'Started (UTC)':19}  {'Verdict':12}  {'Compared':14}  {'p50 ms':>8}  {'p95 ms':>8}  {'429':>6}  {'MB':>8}  Run"
)


@click.command()
@shared("output_dir")
@click.option("--scenario", help="Only runs of this scenario.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Delete all runs but the N newest.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@shared("as_json")
def command(output_dir: Path, scenario: str | None, keep: int | None, yes: bool, as_json: bool) -> None:
    """List runs, newest first. With --keep N, delete all but the N newest.

    p50 and p95 are response times of the first traffic entry in its first stage; 429 is the share of 429s in all
    requests. Verdict is the run's own verdict; Compared is the verdict of `loadtest regression check`. Baselines, the
    example, and runs in progress are neither listed nor deleted.
    """
    runs = [run for run in stored_runs(output_dir) if scenario in (None, run.scenario)]
    if keep is not None:
        old = runs[keep:]
        size = sum(run.size for run in old) / 1e6
        if old and not yes:
            click.confirm(f"delete {len(old)} runs, {size:.1f} MB?", abort=True)
        delete(old)
        if not old:
            click.echo("nothing to delete")
    elif as_json:
        print_json(runs)
    elif runs:
        click.echo("\n".join([_HEAD, *map(_line, runs)]))
    else:
        new = mention("run", "smoke", output_dir=output_dir)
        click.echo(pasteable(f"no runs in {output_dir}; create one with {new}"))


def _line(run: StoredRun) -> str:
    times = "  ".join(f"{'–' if time is None else _short(time):>8}" for time in (run.p50_ms, run.p95_ms))
    share = "–" if run.throttled_rate is None else percent(run.throttled_rate)
    words = f"{run.started[:19]:19}  {run.verdict:12}  {run.compared or '–':14}"
    return f"{words}  {times}  {share:>6}  {run.size / 1e6:8.1f}  {run.directory.name}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
