"""Whole runs of the load in a process of its own."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plugins import warm, workers
from plugins.processes import PATIENCE, clean_environment
from plugins.records import RunDirectory

from loadtest.prepare import prepare_run
from loadtest.scenario import load_scenario
from loadtest.targets import ChosenTarget, NamedEntry


@dataclass
class Run(RunDirectory):
    """A load under way, or over, in a process of its own."""

    process: subprocess.Popen[bytes]
    said: list[bytes] = field(default_factory=list)

    def wait(self, seconds: float = PATIENCE) -> "Run":
        """Wait for its end."""
        self.said += self.process.stdout.read().splitlines()
        self.process.wait(seconds)
        return self

    def stop(self, rate: int) -> Counter[str]:
        """End a run on workers that has one even entry, when it has shown enough; gives the outcomes.

        Up to then every arrival was sent or is lost; the last ones of a second each worker ended by itself.

        Args:
            rate: of the entry, per second.
        """
        self.process.send_signal(signal.SIGINT)
        self.wait()
        outcomes = self.check_conservation(lost=True, ragged=True)
        whole = int((self.info.elapsed_s or 0) * rate) - rate
        assert sorted(row["arrival"] for row in self.operations)[:whole] == list(range(whole))
        return outcomes

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.directory / "load.log").read_text()

    def check_conservation(self, *, lost: bool = False, ragged: bool = False) -> Counter[str]:
        """As of any run; and nobody raised."""
        assert "Traceback" not in self.log
        return super().check_conservation(lost=lost, ragged=ragged)


class Offering:
    """Starts the load of a scenario's text against a URL, and writes such texts."""

    def __init__(self, folder: Path) -> None:
        self.runs: list[Run] = []
        self.folder = folder

    @staticmethod
    def entry(name: str, operation: str, rate: str, duration: str, more: str = "") -> str:
        """A traffic entry with one stage."""
        workflow = "" if "workflow" in more else 'workflow = "echo"\n'
        return (
            f'[traffic.{name}]\noperation = "{operation}"\n{workflow}{more}\n'
            f'stages = [{{ name = "only", rate = "{rate}", duration = "{duration}" }}]\n'
        )

    @staticmethod
    def scenario(*entries: str, drain: str = "5s") -> str:
        """A scenario of such entries."""
        return f'title = "t"\nseed = 1\ndrain = "{drain}"\n' + "".join(entries)

    @staticmethod
    def sleep(ms: int) -> str:
        """Lines that let an entry's workflow take a time."""
        return f'workflow = "sleep"\nparameters = {{ ms = {ms} }}\n'

    def __call__(
        self,
        text: str,
        url: str = "",
        *arguments: str,
        keys: str = "local-dev-key",
        stdout: int = subprocess.PIPE,
        chosen: ChosenTarget | None = None,
        begin_warm: bool = True,
    ) -> Run:
        """Start the load in a process of its own, with arguments of its own.

        Args:
            text: of the scenario.
            url: to load, where no entry is chosen.
            arguments: of the process.
            keys: separated by commas.
            stdout: where progress goes.
            chosen: an entry of targets.toml.
            begin_warm: whether what it imports may be imported already.
        """
        path = self.folder / f"scenario{len(self.runs)}.toml"
        path.write_text(text, encoding="utf-8")
        directory, _ = prepare_run(
            load_scenario(path),
            url=chosen.target.url if chosen else url,
            keys=keys.count(",") + 1,
            command=["loadtest", "run"],
            output_dir=self.folder / "reports",
            chosen=chosen or NamedEntry(),
        )
        with (directory / "load.log").open("wb") as log:
            process = (warm.start if begin_warm else subprocess.Popen)(
                [sys.executable, "-m", "loadtest.load", str(directory), str(self.folder), *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=log,
                env=clean_environment(WORKFLOW_API_KEYS=keys),
            )
        self.runs.append(Run(directory, process))
        return self.runs[-1]

    @staticmethod
    def undisturbed(make: Callable[[], Run]) -> Run:
        """Make a run on workers; again, in the end without other tests, if one was too busy to report."""
        for _ in range(2):
            if "is lost" not in (run := make().wait()).log:
                return run
        with workers.alone():
            return make().wait()


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offering]:
    """Start loads; what still runs at the end is killed."""
    offering = Offering(tmp_path)
    yield offering
    for run in offering.runs:
        run.process.kill()
        run.process.wait()
        for stream in (run.process.stdin, run.process.stdout):
            if stream is not None:
                stream.close()
