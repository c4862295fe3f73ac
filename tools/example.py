"""Run the tour and keep its report in reports/example: what ``make example`` does.

The record itself is not kept: the report, its plots and metrics are what a reader of the repository wants to see.
"""

import shutil
import subprocess
import sys
from pathlib import Path

KEPT = ("report.html", "report.md", "metrics.json", "plots")


def main() -> int:
    """Run, and replace the example if the run came to a verdict of pass.

    The run stays in reports/ like any other: its command is the one that a reader would type.
    """
    example = Path("reports/example")
    code = subprocess.run([sys.executable, "-m", "loadtest.cli", "run", "tour"], check=False).returncode
    if code != 0:
        return code
    shutil.rmtree(example, ignore_errors=True)
    example.mkdir(parents=True)
    for name in KEPT:
        source = (Path("reports/latest") / name).resolve()
        if source.is_dir():
            shutil.copytree(source, example / name)
        else:
            shutil.copy2(source, example / name)
    print(f"The example is in {example}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
