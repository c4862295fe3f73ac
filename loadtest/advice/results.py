"""The results of a comparison of policies, and their file, the source of its page."""

from pathlib import Path
from typing import Final

import msgspec

from loadtest.contract import LimitName, Operation
from loadtest.record.run_directory import read_versioned

FILE_NAME: Final = "advice.json"
SCHEMA_VERSION: Final = 1


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """A policy under the limiter that is worst for it. Times are in seconds."""

    name: str
    words: str
    done: int | None
    """Jobs or runs whose result was seen; the rest were given up. None of a log: its work is of another size."""
    seconds: float | None = None
    """Time of the last result; None if the work was not finished, has no end, or is that of a log."""
    bound_ratio: float | None = None
    """``seconds`` ÷ the bound under the strictest limiter."""
    requests: int
    rejected: int
    """429s; of an imported log as recorded."""
    wait_p95_s: float | None = None
    """95th percentile of the time from a job's acceptance to its result; None without results."""
    polls_per_job: float | None = None
    """None for sync runs."""
    worst: str = ""
    """The limiter, and the limit that rejected most."""

    @property
    def rejected_per_1000(self) -> float:
        return 1000 * self.rejected / max(1, self.requests)


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that runs two policies for real, with the virtual time in s of each of its traffic entries."""

    file: str
    seconds: dict[str, float]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison of policies. Times are in seconds."""

    schema: int = SCHEMA_VERSION
    source: str
    """The origin of limits and execution times."""
    operation: Operation
    count: int
    rate: float | None
    """Arrivals/s of work without end; ``count`` is then the number that was simulated."""
    clients: int
    deadline_s: float | None
    execution_s: tuple[float, float, float]
    """Median, 95th percentile and maximum."""
    limits: dict[LimitName, tuple[str, ...]]
    """The limiters that may be in force."""
    spacing_s: dict[LimitName, float]
    """Safe time between two requests of each client if all share the limit."""
    poll_times_s: tuple[float, ...]
    """Times of polls since acceptance."""
    bound_s: float | None
    """The bound under the strictest limiter; None for work without end."""
    policies: tuple[PolicyResult, ...]
    sentence: str
    reasons: tuple[str, ...]
    exit_code: int
    confirmation: Confirmation | None = None

    @property
    def best(self) -> PolicyResult:
        return self.policies[0]


def load(directory: Path) -> Advice:
    """Read ``advice.json``.

    Raises:
        RecordError: if it is missing, damaged, or of another schema version.
    """
    return read_versioned(directory / FILE_NAME, Advice, SCHEMA_VERSION)
