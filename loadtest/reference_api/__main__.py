"""``python -m loadtest.reference_api``: the reference server alone."""

import sys

from loadtest.errors import LoadtestError
from loadtest.reference_api.command import command

if __name__ == "__main__":
    try:
        command(prog_name="python -m loadtest.reference_api")
    except LoadtestError as error:
        print(f"loadtest.reference_api: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
