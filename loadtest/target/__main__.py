"""``python -m loadtest.target``: the reference server without the harness around it."""

import sys

from loadtest.errors import LoadtestError
from loadtest.target.command import command

if __name__ == "__main__":
    try:
        command(prog_name="python -m loadtest.target")
    except LoadtestError as error:
        print(f"loadtest.target: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
