"""``python -m loadtest.report RUN_DIR``: make a run's report from its record and exit with the verdict's code.

The report is made in a process of its own, because gevent has patched the run's process.
"""

import atexit
import gc
import os
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.errors import ExitCode, LoadtestError
from loadtest.foreign_text import visible_output
from loadtest.program import command_line, open_command, pasteable, typed
from loadtest.record.run_directory import write_atomically

if TYPE_CHECKING:
    from loadtest.report.page import Page


def main(argv: Sequence[str] | None = None) -> int:
    """Make the report and print its summary."""
    parser = ArgumentParser(prog="python -m loadtest.report", description="Make a run's report from its record.")
    parser.add_argument("directory", type=Path, metavar="RUN_DIR")
    parser.add_argument("--no-plots", action="store_true", help="draw no plots")
    parser.add_argument("--png", action="store_true", help="write plots as PNG, too")
    parser.add_argument("--baseline", type=Path, action="append", default=[], metavar="RUN_DIR", help="an earlier run")
    parser.add_argument("--full", action="store_true", help="print every table and fact")
    options = parser.parse_args(argv)

    def make() -> int:
        # The imports come late, so that a usage error is reported at once.
        gc.disable()  # as in loadtest/load/__main__.py
        from loadtest.report import run  # noqa: PLC0415 - see above
        from loadtest.report.formats import show  # noqa: PLC0415 - see above

        gc.freeze()  # imported objects are never garbage
        gc.enable()
        page = run.make(options.directory, plots=not options.no_plots, png=options.png, baselines=options.baseline)
        shown = short(options.directory)
        full = typed(command_line("report", shown, full=True))
        steps = (("report", open_command(shown / "report.html")), ("next  ", full))
        show(page, steps, full=options.full)
        return page.exit_code

    return guarded(make, "the summary")


def make_pages(
    file: str, build: Callable[[Path], "Page"], argv: Sequence[str] | None = None, *, answer: bool = False
) -> int:
    """Make the pages of ``file`` in the directory that ``argv`` names, and print where they are.

    The pages are named after the file. With ``answer``, the first screen is printed, too.
    """
    name = Path(file).stem
    parser = ArgumentParser(prog=f"python -m loadtest.report.{name}", description=f"Make the pages of {file}.")
    parser.add_argument("directory", type=Path, help=f"directory of {file}")
    directory: Path = parser.parse_args(argv).directory

    def make() -> int:
        from loadtest.report.formats import render_html, render_markdown, show, write_plots  # noqa: PLC0415 - as above

        page, shown = build(directory), str(short(directory / f"{name}.html"))
        if page.folder:
            write_plots(page.plots, directory / page.folder)
        write_atomically(directory / f"{name}.html", render_html(page))
        write_atomically(directory / f"{name}.md", render_markdown(page))
        if answer:
            show(page, [("page", shown)])
        else:
            print(f"page  {shown}")
        return int(ExitCode.PASS)

    return guarded(make, f"the pages to {directory}")


def guarded(make: Callable[[], int], what: str) -> int:
    """Call ``make`` and return its exit code. Expected errors are printed to stderr without a traceback."""
    atexit.register(gc.freeze)  # Otherwise, a garbage collection at Python's exit takes 0.1 s.
    try:
        with visible_output():
            return make()
    except LoadtestError as error:
        print(pasteable(f"loadtest: {error}"), file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # The process that reads the summary (such as `head`) has closed the pipe. The files are already written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        print(f"loadtest: cannot write {what}: {error.strerror}", file=sys.stderr)
        print("  Remove this cause, then make the report again.", file=sys.stderr)
        return int(ExitCode.USAGE)
    except Exception:  # noqa: BLE001 - any other error is our bug, and Python's exit code 1 would mean a verdict
        traceback.print_exc()
        return int(ExitCode.BUG)


def short(directory: Path) -> Path:
    """Return a relative path if the directory is below the current directory; otherwise return it unchanged."""
    return Path(os.path.relpath(directory)) if directory.resolve().is_relative_to(Path.cwd()) else directory


if __name__ == "__main__":
    sys.exit(main())
