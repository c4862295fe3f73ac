"""``python -m loadtest.report.capacity DIR``: make the pages of DIR's capacity search."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loadtest.errors import ExitCode
from loadtest.report.__main__ import guarded, short


def main(argv: Sequence[str] | None = None) -> int:
    """Write capacity.html, capacity.md and the picture; errors go to stderr, without a traceback."""
    parser = ArgumentParser(prog="python -m loadtest.report.capacity", description="Make a capacity search's pages.")
    parser.add_argument("directory", type=Path, help="where capacity.json is")
    directory = parser.parse_args(argv).directory
    return guarded(lambda: _make(directory), f"the pages to {directory}")


def _make(directory: Path) -> int:
    # Late, so that a wrong usage is answered at once.
    from loadtest.report.capacity import page  # noqa: PLC0415 - see above

    page.write(directory)
    print(f"page  {short(directory / page.HTML)}")
    return int(ExitCode.PASS)


if __name__ == "__main__":
    sys.exit(main())
