"""Run directories, with properties that tests check."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from loadtest.record import run_directory, samples

OUTCOMES = {"ok", "throttled", "failed", "timed_out", "dropped"}


def read_table(directory: Path) -> pa.Table:
    """Return the complete batches of a run directory's stream."""
    return pa.Table.from_batches(list(samples.read_batches(directory)), samples.SCHEMA)


@dataclass
class RunDirectory:
    """A run directory."""

    directory: Path

    @property
    def info(self) -> run_directory.RunInfo:
        """The content of run.json."""
        return run_directory.load(self.directory)

    @property
    def epoch(self) -> int | None:
        """The epoch in ns since 1970, or None before the epoch."""
        return self.info.epoch_unix_ns

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every sample."""
        return read_table(self.directory).to_pylist()

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The operation rows."""
        return [row for row in self.rows if row["row"] == "operation"]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The request rows that belong to arrivals."""
        return [row for row in self.rows if row["row"] == "request" and row["stage"] != "setup"]

    def check_conservation(self, *, lost: bool = False, ragged: bool = False) -> Counter[str]:
        """Check that every offered arrival ended in exactly one outcome, and return the counts of outcomes.

        Args:
            lost: whether arrivals may have been lost with a worker.
            ragged: whether several workers stopped early, each after a different arrival.
        """
        info, rows = self.info, self.rows
        assert info.complete
        assert info.samples == len(rows)
        outcomes: Counter[str] = Counter()
        for name, plan in info.traffic.items():
            mine = [row for row in rows if (row["row"], row["traffic"]) == ("operation", name)]
            assert plan.offered is not None
            numbers = sorted(row["arrival"] for row in mine)
            assert len(set(numbers)) == len(numbers) == plan.offered, name
            assert ragged or numbers == list(range(plan.offered)), name
            outcomes.update(row["outcome"] for row in mine)
        assert outcomes.total() == sum(plan.offered or 0 for plan in info.traffic.values())
        assert outcomes.keys() <= (OUTCOMES | {"lost"} if lost else OUTCOMES)
        return outcomes


def runs_in(reports: Path) -> list[RunDirectory]:
    """Return the runs below a directory, oldest first."""
    found = [path.parent for path in reports.glob("*/run.json") if not path.parent.is_symlink()]
    return [RunDirectory(path) for path in sorted(found, key=lambda path: run_directory.load(path).started)]
