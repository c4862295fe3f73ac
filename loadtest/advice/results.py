"""The results of a comparison of policies. The page is made from their file, ``advice.json``."""

from pathlib import Path
from typing import Final

import msgspec

from loadtest.contract import LimitName, Operation
from loadtest.record.run_directory import read_versioned

FILE_NAME: Final = "advice.json"
SCHEMA_VERSION: Final = 1


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a policy under the limiters that are worst for it; requests and 429s under those that reject most.

    Times are in seconds.
    """

    name: str
    words: str
    done: int | None
    """Jobs or runs with a result; None for a log, which had other work."""
    seconds: float | None = None
    """Time of the last result; None for a log, for work without end, and if the work was not finished."""
    bound_ratio: float | None = None
    """``seconds`` ÷ ``Advice.bound_s``."""
    requests: int
    rejected: int
    """Number of 429s; for an imported log, the recorded 429s."""
    wait_p95_s: float | None = None
    """95th percentile of the times from a job's acceptance to its result; None without results."""
    polls_per_job: float | None = None
    """None for sync runs and for a log."""
    worst: str = ""
    """The limit with the most 429s, or without 429s the most used limit. If several limiters may be in force, its
    algorithm is appended."""

    @property
    def rejected_per_1000(self) -> float:
        return 1000 * self.rejected / max(1, self.requests)


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that runs two policies for real."""

    file: str
    seconds: dict[str, float]
    """Virtual time of the last result of each traffic entry."""
    done: dict[str, int] = {}
    """Jobs or runs of each entry that get a result in the simulation."""
    options: dict[str, str] = {}
    """Options of ``run`` that choose the target; none for the embedded target."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison of policies. Times are in seconds."""

    schema: int = SCHEMA_VERSION
    source: str
    """The origin of limits and execution times."""
    operation: Operation
    count: int
    rate: float | None
    """Arrivals/s of work without end. In this case, ``count`` is the simulated number."""
    clients: int
    deadline_s: float | None
    execution_s: tuple[float, float, float]
    """Median, 95th percentile and maximum of the execution times."""
    limits: dict[LimitName, tuple[str, ...]]
    """The limiters that may be in force."""
    spacing_s: dict[LimitName, float]
    """Safe time between two requests of each client if all clients share the limit."""
    poll_times_s: tuple[float, ...]
    """Times from a job's acceptance to its polls."""
    bound_s: float | None
    """No client can finish the work before this time under the strictest limiter. None for work without end."""
    policies: tuple[PolicyResult, ...]
    sentence: str
    reasons: tuple[str, ...]
    exit_code: int
    confirmation: Confirmation | None = None

    @property
    def best(self) -> PolicyResult:
        return self.policies[0]


def load(directory: Path) -> Advice:
    """Read ``advice.json``. Raises ``RecordError`` if the file is missing, damaged, or of another schema version."""
    return read_versioned(directory / FILE_NAME, Advice, SCHEMA_VERSION)
