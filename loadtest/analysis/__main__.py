"""``python -m loadtest.analysis RUN_DIR...``: write the measurements of runs, without their reports.

A process of its own, because who asks for it has no need of pandas otherwise; one for many runs, because most of the
time goes into starting it.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis import findings, measurements
from loadtest.analysis.record import load_record
from loadtest.errors import ExitCode, LoadtestError


def main(argv: Sequence[str]) -> int:
    """Measure each run; what cannot be measured is said on standard error, and the others still are.

    Returns:
        0, or the code of the last run that could not be measured.
    """
    code = ExitCode.PASS
    for name in argv:
        try:
            measurements.write(measurements.measure(findings.find(load_record(Path(name)))), Path(name))
        except LoadtestError as error:
            print(f"loadtest: {error}", file=sys.stderr)
            code = error.exit_code
        except Exception:  # noqa: BLE001 - whatever it is, it is our bug, and the other runs are none of its
            traceback.print_exc()
            code = ExitCode.BUG
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
