"""``python -m loadtest.report.regression DIR``: make the pages of DIR's comparison; ends as the comparison says."""

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.errors import ExitCode
from loadtest.report.__main__ import guarded, short


def main(argv: Sequence[str] | None = None) -> int:
    """Write every form of a comparison's report and print its short one; errors go to stderr, without a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 1:
        print("usage: python -m loadtest.report.regression DIR", file=sys.stderr)
        return int(ExitCode.USAGE)
    return guarded(lambda: _make(Path(arguments[0])), f"the comparison's pages to {arguments[0]}")


def _make(directory: Path) -> int:
    # Late, so that a wrong usage is answered at once.
    from loadtest.report.regression import terminal, write  # noqa: PLC0415 - see above

    report = write.make(directory, short(directory))
    terminal.show(report, short(directory))
    terminal.tell_github(report.comparison, directory / terminal.PAGE)
    return report.comparison.exit_code


if __name__ == "__main__":
    sys.exit(main())
