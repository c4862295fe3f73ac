"""A comparison on disk: written by whoever decides, and turned into pages by a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from loadtest.record.run_directory import write_atomically
from loadtest.regression.results import Comparison

COMPARISON: Final = "comparison.json"


def save(comparison: Comparison, directory: Path) -> None:
    """Write ``comparison.json``, from which every page is made."""
    write_atomically(directory / COMPARISON, msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n")


def show(directory: Path, comparison: Comparison, *, plots: bool = True, history: Path | None = None) -> None:
    """Make the pages of a comparison that is saved, in a process of its own, which prints the summary.

    Args:
        directory: where it is saved.
        comparison: the same.
        plots: draw plots, too.
        history: the file of the history that it was made with.
    """
    sys.stdout.flush()
    arguments = [*([] if plots else ["--no-plots"]), *([f"--history={history}"] if history else []), str(directory)]
    # A session of its own, so that Ctrl-C reaches only us, who may have more to do.
    command = [sys.executable, "-m", "loadtest.report.regression", *arguments]
    code = subprocess.run(command, check=False, start_new_session=True).returncode
    if code != comparison.exit_code:
        # The verdict stands without its page.
        print(comparison.sentence)
        click.echo(f"loadtest: the pages of {directory} could not be made (exit code {code})", err=True)
