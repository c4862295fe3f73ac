"""Install a lock file and this checkout into a virtual environment: ``python tools/install.py VENV LOCK``.

pip uses one core, and most of its time goes into comparing the file names of every release with this machine. Several
pips therefore install a part of the lock each. The lock names every package, so the parts are independent.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

PIPS: Final = min(4, max(2, os.cpu_count() or 1))
"""Pips at a time. More than there are cores took longer."""
_STEP: Final = 20
"""Packages between two lines of progress."""
_PIP: Final = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "--no-compile")
_POLL_S: Final = 0.2
"""Seconds between two looks at the pips."""


class Progress:
    """Print how many packages the pips have reached, and once that a pip cannot reach its index."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._retries = False
        self._lock = threading.Lock()

    def read(self, line: str) -> None:
        with self._lock:
            if line.startswith("Collecting "):
                self._count += 1
                if self._count % _STEP == 0:
                    say(f"  {self._count} of {self._total} packages")
            elif "Retrying (" in line and not self._retries:
                self._retries = True
                say(f"  {line.strip()}")


class Part(threading.Thread):
    """One pip, which installs some requirements.

    Attributes:
        pip: the process.
        failed: what pip wrote, until it has ended well.
    """

    def __init__(self, python: Path, requirements: list[str], file: Path, progress: Progress) -> None:
        super().__init__(daemon=True)
        file.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        self.pip = subprocess.Popen(
            [str(python), *_PIP, "--progress-bar", "off", "--require-hashes", "-r", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._progress = progress
        self.failed = "pip did not end\n"

    def run(self) -> None:
        lines = []
        for line in self.pip.stdout or ():
            self._progress.read(line)
            # A pip warns of packages that another pip has written in part.
            if not line.startswith(
                ("Collecting ", "  Downloading", "  Using cached", "Ignoring ", "WARNING: Ignoring")
            ):
                lines.append(line)
        self.failed = "".join(lines) + f"pip ended with {self.pip.returncode}\n" if self.pip.wait() else ""


def requirements_of(lock: str) -> list[str]:
    """Return the requirements of a lock, each with its hashes."""
    found: list[list[str]] = []
    for line in lock.splitlines():
        if line[:1].isalnum():
            found.append([line])
        elif found and line.strip().startswith("--hash"):
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]


def divided(requirements: list[str], count: int) -> list[list[str]]:
    """Divide requirements into parts of about equal work. A package with many files has many hashes and takes long."""
    parts: list[list[str]] = [[] for _ in range(count)]
    for requirement in sorted(requirements, key=len, reverse=True):
        min(parts, key=lambda part: sum(map(len, part))).append(requirement)
    return [part for part in parts if part]


def install(venv: Path, lock: Path) -> int:
    """Install everything, and return an exit code."""
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"Creating {venv} ...")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    requirements = requirements_of(lock.read_text(encoding="utf-8"))
    say(f"Downloading and installing the packages of {lock} ...")
    progress = Progress(len(requirements))
    with tempfile.TemporaryDirectory() as folder:
        parts: list[Part] = []
        try:
            for number, its in enumerate(divided(requirements, PIPS)):
                parts.append(Part(python, its, Path(folder, f"{number}.txt"), progress))
                parts[-1].start()
            # The first failure ends the other pips.
            while any(part.is_alive() for part in parts) and not any(part.pip.poll() for part in parts):
                time.sleep(_POLL_S)
        finally:
            for part in parts:
                if part.pip.poll() is None:
                    part.pip.terminate()
                part.join()
    # pip's own code is positive; a pip that was ended for another's failure has a signal's, which is negative.
    if failed := sorted((part for part in parts if part.failed), key=lambda part: part.pip.returncode, reverse=True):
        print(failed[0].failed, file=sys.stderr)
        return 1
    say("Installing loadtest itself ...")
    return subprocess.run([str(python), *_PIP, "--quiet", "--no-build-isolation", "-e", "."], check=False).returncode


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("venv", type=Path)
    arguments.add_argument("lock", type=Path)
    try:
        sys.exit(install(**vars(arguments.parse_args())))
    except KeyboardInterrupt:
        sys.exit(130)
