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
from pathlib import Path
from typing import Final

PIPS: Final = min(4, max(2, os.cpu_count() or 1))
"""Pips at a time. More than there are cores took longer."""
_STEP: Final = 20
"""Packages between two lines of progress."""
_PIP: Final = ("-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-compile")


class Progress:
    """Count the packages that the pips have reached."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._lock = threading.Lock()

    def step(self) -> None:
        with self._lock:
            self._count += 1
            if self._count % _STEP == 0:
                say(f"  {self._count} of {self._total} packages")


class Part(threading.Thread):
    """One pip, which installs some requirements.

    Attributes:
        failed: pip's errors, if it failed.
    """

    def __init__(self, python: Path, requirements: list[str], file: Path, progress: Progress) -> None:
        super().__init__()
        file.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        self._command = [str(python), *_PIP, "--progress-bar", "off", "--require-hashes", "-r", str(file)]
        self._progress = progress
        self.failed = ""

    def run(self) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            # A pip warns of packages that another pip has written in part. Its errors matter only if it fails.
            with subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=errors, text=True) as pip:
                for line in pip.stdout or ():
                    if line.startswith("Collecting "):
                        self._progress.step()
            if pip.returncode:
                errors.seek(0)
                self.failed = errors.read() or f"pip ended with {pip.returncode}"


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
        parts = [
            Part(python, part, Path(folder, f"{number}.txt"), progress)
            for number, part in enumerate(divided(requirements, PIPS))
        ]
        for part in parts:
            part.start()
        for part in parts:
            part.join()
    if failed := [part.failed for part in parts if part.failed]:
        print("\n".join(failed), file=sys.stderr)
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
    sys.exit(install(**vars(arguments.parse_args())))
