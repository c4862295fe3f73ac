"""Exceptions of the harness, and the exit codes of its commands.

The tree::

    LoadtestError                 an error with a message for the user
    ├── InputError          (2)   an unusable file, key, option or value
    │   └── WrongValueError       an invalid value of a key or option
    ├── TargetError         (5)   unreachable, not this API, or key refused
    ├── AbortedError        (7)   a run that ended before its load began
    └── RecordError         (3)   a run directory without a readable record

A failed request is data, not an exception. Any *other* exception is a bug in the harness (exit code 70).
"""

from collections.abc import Sequence
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
    """Base of the errors that end a command with a clear message and no traceback.

    Args:
        message: the problem, with the file and key if there are any.
        remedy: the user's next step, if there is one.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class InputError(LoadtestError):
    """An unusable file, key, option or value."""

    exit_code = ExitCode.USAGE


class WrongValueError(InputError, ValueError):
    """An invalid value. It is a ValueError so that pydantic collects all errors of a file (``scenario.fields``).

    Args:
        problem: the problem without the key. ``message`` also names the key.
        remedy: a valid replacement.
        key: the value's key in the object that is checked. Empty if the value itself is checked.
        value: the text of an option, if the message should quote it.
    """

    def __init__(self, problem: str, remedy: str = "", *, key: str = "", value: str = "") -> None:
        super().__init__(f"{key}: {problem}" if key else problem, remedy)
        self.problem = problem
        self.key = key
        self.value = value


class WrongValuesError(ValueError):
    """A check found several invalid values. Each is a ``WrongValueError``."""

    def __init__(self, errors: Sequence[WrongValueError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


class TargetError(LoadtestError):
    """The target cannot be loaded: it is unreachable, is not this API, or refused the key."""

    exit_code = ExitCode.TARGET


class AbortedError(LoadtestError):
    """The run ended before its load began."""

    exit_code = ExitCode.ABORTED


class RecordError(LoadtestError):
    """The run directory has no readable record."""

    exit_code = ExitCode.INVALID
