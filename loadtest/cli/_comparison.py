"""The pages of a comparison, made by a process of its own."""

import subprocess
import sys
from pathlib import Path

import click

from loadtest.regression.results import Comparison


def show(directory: Path, comparison: Comparison, *, plots: bool = True, history: Path | None = None) -> None:
    """Make the pages of a comparison that is saved, in a process of its own, which prints the summary."""
    sys.stdout.flush()
    arguments = [*([] if plots else ["--no-plots"]), *([f"--history={history}"] if history else []), str(directory)]
    # A session of its own, so that Ctrl-C reaches only us, who may have more to do.
    command = [sys.executable, "-m", "loadtest.report.regression", *arguments]
    code = subprocess.run(command, check=False, start_new_session=True).returncode
    if code != comparison.exit_code:
        # The verdict stands without its page.
        print(comparison.sentence)
        click.echo(f"loadtest: the pages of {directory} could not be made (exit code {code})", err=True)
