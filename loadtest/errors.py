"""Errors that the harness raises, and the exit codes that a run can end with.

The tree::

    LoadtestError                 anything that we say to the user in one sentence
    ├── InputError          (2)   a file, key, flag or value that we cannot use
    │   └── WrongValueError       the value of a key or an option, wherever it was written
    ├── TargetError         (5)   unreachable, not this API, or key refused
    └── RecordError         (3)   a run directory that cannot be read as a record

A request that failed is data, not an exception; any *other* exception means that we broke (70).
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every ``loadtest`` verb."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INVALID = 3
    REGRESSED = 4
    TARGET = 5
    INCONCLUSIVE = 6
    ABORTED = 7
    BUG = 70
    INTERRUPTED = 130


class LoadtestError(Exception):
    """Base of the errors that end a verb with one clear sentence and no traceback.

    Args:
        message: what is wrong, naming the file and key where there is one.
        remedy: what to do about it, if there is something to do.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class InputError(LoadtestError):
    """Bad input or usage: the message names file and key, the remedy what to write instead."""

    exit_code = ExitCode.USAGE


class WrongValueError(InputError, ValueError):
    """A value that cannot be used. A ValueError, so that all of a file are found together (``loadtest.strict``).

    Args:
        message: what is wrong with it, wherever it was written.
        remedy: what to write instead.
        key: of the value, below the place that is being checked; empty if that is the value.
        value: as an option takes it, where that helps to find it.
    """

    def __init__(self, message: str, remedy: str, *, key: str = "", value: str = "") -> None:
        super().__init__(message, remedy)
        self.key = key
        self.value = value


class TargetError(LoadtestError):
    """The target cannot be loaded: unreachable, not this API, or it refused the key."""

    exit_code = ExitCode.TARGET


class RecordError(LoadtestError):
    """A run directory whose record cannot be read."""

    exit_code = ExitCode.INVALID
