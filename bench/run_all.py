"""Run benches one after the other, each in a process of its own, and print a table of their results and times.

Run: ``make bench``, or ``python bench/run_all.py`` with names of benches. Each bench gets the further options.
The short forms take about 20 minutes on two idle cores. A short form that takes more than ten minutes is stopped.
Exits with 1 if a bench missed its bar, failed or was stopped.
"""

import runpy
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
WORDS: Final = {0: "held", 1: "MISSED", 77: "skipped"}
"""The result for each exit code of a bench. Any other code is a failure."""
FAILED: Final = 70
SHORT: Final = {
    "logged_limits": ["12500"],
    "passive_inference": ["--seed", "12500"],
    "probe_confusion": ["--first", "12500", "--phases", "1", "--every", "4"],
}
"""Options for the short form of benches without ``--full``. Without these options, they measure everything."""
LONGEST_S: Final = 600
"""A short form that takes longer, in s, is stopped."""


def benches() -> list[str]:
    """Return the names of all benches. Files without a main part are shared by several benches."""
    others = (path for path in sorted(HERE.glob("*.py")) if path != Path(__file__).resolve())
    return [path.stem for path in others if "__main__" in path.read_text(encoding="utf-8")]


def alone(name: str, arguments: list[str]) -> int:
    """Run a bench in this process, and return its exit code. Errors do not get 1, which means a missed bar."""
    sys.argv = [str(HERE / f"{name}.py"), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0)
        print(end.code, file=sys.stderr)
        return FAILED
    except Exception:  # noqa: BLE001 - whatever fails in a bench
        traceback.print_exc()
        return FAILED
    return 0


def measured(name: str, arguments: list[str]) -> tuple[str, float]:
    """Run a bench in a process of its own, and return its result and duration in s."""
    print(f"== {name}", flush=True)
    begun = time.monotonic()
    full = "--full" in arguments
    if name in SHORT:
        arguments = [] if full else [*SHORT[name], *arguments]
    command = [sys.executable, __file__, "--alone", name, *arguments]
    with subprocess.Popen(command) as process:
        try:
            code = process.wait(None if full else LONGEST_S)
            result = WORDS.get(code, f"FAILED with {code}")
        except subprocess.TimeoutExpired:
            process.terminate()
            result = "STOPPED"
    return result, time.monotonic() - begun


def main(given: list[str]) -> int:
    """Run the benches whose names are given, or all."""
    if given[:1] == ["--alone"]:
        return alone(given[1], given[2:])
    options = [each for each in given if each.startswith("-")]
    names = [Path(each).stem for each in given if not each.startswith("-")] or benches()
    results = {name: measured(name, options) for name in names}
    print(f"\n{'bench':24}{'result':16}{'time':>8}")
    for name, (result, took_s) in results.items():
        print(f"{name:24}{result:16}{took_s:6.0f} s")
    print(f"{'all':40}{sum(took_s for _, took_s in results.values()):6.0f} s")
    return int(any(result not in {"held", "skipped"} for result, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
