"""``python -m loadtest.analysis``: measurements and exports of records, without a report.

``measure RUN_DIR...`` writes the measurements of runs, ``export FORMAT DIRECTORY RUN_DIR`` writes a run's tables, and
``schema`` prints the JSON schema of ``metrics.json``. These commands run in a process of their own, so that the caller
does not import NumPy and Arrow. One process measures many runs, which saves starting a process for each.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis import findings, frames, measurements
from loadtest.analysis.run_record import load_record
from loadtest.errors import ExitCode, LoadtestError
from loadtest.program import pasteable


def main(argv: Sequence[str]) -> int:
    """Measure runs, export a run, or print the schema. An error is printed, and the next run follows.

    Returns:
        0, or the exit code of the last run that failed.
    """
    code = ExitCode.PASS
    command, *arguments = argv
    if command == "schema":
        print(findings.schema_text(), end="")
    if command == "export":
        form, folder, *arguments = arguments
    for name in arguments:
        try:
            if command == "export":
                for path in frames.export(Path(name), form, Path(folder)):
                    print(path)
            else:
                measurements.write(measurements.measure(findings.find(load_record(Path(name)))), Path(name))
        except LoadtestError as error:
            print(pasteable(f"loadtest: {error}"), file=sys.stderr)
            code = error.exit_code
        except Exception:  # noqa: BLE001 - a bug of ours must not stop the measurement of the other runs
            traceback.print_exc()
            code = ExitCode.BUG
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
