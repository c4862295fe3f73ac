"""``python -m loadtest.report.regression DIR``: make the pages of DIR's comparison, and exit with its exit code.

With ``--history FILE`` the pages also show that history's runs before the last accepted change. With ``--history`` and
``--output PAGE``, but without DIR, the command makes the page of the history instead.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loadtest.compare.results import load
from loadtest.errors import ExitCode
from loadtest.report.__main__ import guarded, short


def main(argv: Sequence[str] | None = None) -> int:
    """Write a comparison's report in every form, and print the short form; errors go to stderr, without a traceback."""
    parser = ArgumentParser(prog="python -m loadtest.report.regression", description="Make a comparison's pages.")
    parser.add_argument("directory", nargs="?", type=Path, help="directory of comparison.json")
    parser.add_argument("--no-plots", action="store_true", help="draw no plots")
    parser.add_argument("--history", type=Path, metavar="FILE", help="the history that the run was compared with")
    parser.add_argument("--output", type=Path, metavar="PAGE", help="file for the page of the history")
    options = parser.parse_args(argv)
    directory, history, output = options.directory, options.history, options.output
    if output is None and directory is not None:
        plots = not options.no_plots
        return guarded(lambda: _comparison(directory, history, plots=plots), f"the pages to {directory}")
    if history is not None and output is not None and directory is None:
        return guarded(lambda: _history(history, output), f"the page {output}")
    print(f"{parser.format_usage()}give a directory, or --history and --output", file=sys.stderr)
    return int(ExitCode.USAGE)


def _comparison(directory: Path, history: Path | None, *, plots: bool) -> int:
    # The imports come late, so that a usage error is reported at once.
    from loadtest.report import comparison  # noqa: PLC0415 - see above
    from loadtest.report.formats import ci, terminal  # noqa: PLC0415 - see above

    shown = short(directory)
    page = comparison.make(directory, shown, history, plots=plots)
    terminal.show(page, [("page", str(shown / ci.PAGE))])
    ci.tell_github(load(directory), directory)
    return page.exit_code


def _history(file: Path, output: Path) -> int:
    from loadtest.report import history  # noqa: PLC0415 - as above

    history.write(file, output)
    print(f"page  {short(output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
