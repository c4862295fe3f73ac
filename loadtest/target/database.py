"""The jobs of a server in one SQLite file: opened and checked, read once at the start, then only written.

Everything is in the write-ahead log with ``synchronous = FULL``: each commit is on the disk itself, not only with the
operating system, before it returns. It costs one flush per group of jobs, and makes a 202 survive a power cut as well
as a killed process. The file is locked for as long as it is open, so that one server has it; the lock dies with its
process.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest.errors import InputError

FILE: Final = "jobs.sqlite3"

APPLICATION: Final = 0x574A4F42
"""SQLite's ``application_id`` of our files: "WJOB"."""

VERSION: Final = 1
"""SQLite's ``user_version`` of our files: it grows with every change of the tables."""

_TABLES: Final = (
    "CREATE TABLE salt (salt BLOB NOT NULL) STRICT",
    """CREATE TABLE jobs (
        row INTEGER PRIMARY KEY,        -- in the order of their submits
        id TEXT NOT NULL,
        owner BLOB NOT NULL,            -- a keyed hash of the API key, which itself is nowhere
        workflow TEXT NOT NULL,
        parameters BLOB,                -- JSON as it was submitted; null when it has ended
        state TEXT NOT NULL DEFAULT 'queued',
        answer BLOB,                    -- what retrievals get from its end on
        ended REAL                      -- Unix time
    ) STRICT""",
)

INSERT: Final = "INSERT INTO jobs (row, id, owner, workflow, parameters) VALUES (?, ?, ?, ?, ?)"
FINISH: Final = "UPDATE jobs SET state = ?, answer = ?, ended = ?, parameters = NULL WHERE row = ?"
DELETE: Final = "DELETE FROM jobs WHERE row = ?"

_PENDING: Final = "SELECT row, id, owner, workflow, parameters FROM jobs WHERE state = 'queued' ORDER BY row"
_ENDED: Final = "SELECT row, id, owner, state, answer, ended FROM jobs WHERE state <> 'queued' ORDER BY ended, row"
_UNCHANGED: Final = f"PRAGMA user_version = {VERSION}"
"""Written though it says what is there already."""

_SOME_EXPIRED: Final = "DELETE FROM jobs WHERE row IN (SELECT row FROM jobs WHERE ended <= ? LIMIT 10000)"


class Pending(NamedTuple):
    """A job on disk that has not ended."""

    row: int
    id: str
    owner: bytes
    workflow: str
    parameters: bytes


class Ended(NamedTuple):
    """A job on disk that has ended."""

    row: int
    id: str
    owner: bytes
    state: str
    answer: bytes
    ended: float


class Database:
    """The file in a directory, which is made where it is missing.

    Args:
        directory: where the file is, or is to be.

    Raises:
        InputError: if it can't be had: the directory or file can't be made or written, another server has it, or it
            isn't a file of ours, is damaged, or comes from a newer version.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            problem = f"--data {directory}: cannot be made: {error.strerror or error}"
            raise InputError(problem, "Name a directory that can be written.") from None
        try:
            # The thread that opens it hands it on to the one that writes; they never use it at the same time.
            self._connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _explain(self.path, error) from None
        try:
            self._open()
            self.salt: bytes = self._connection.execute("SELECT salt FROM salt").fetchone()[0]
        except sqlite3.Error as error:
            self._connection.close()
            raise _explain(self.path, error) from None
        except InputError:
            self._connection.close()
            raise

    def expire(self, before: float) -> None:
        """Delete jobs that ended at or before ``before``, Unix time.

        Raises:
            InputError: if the file can't be read or written.
        """
        try:
            while self._connection.execute(_SOME_EXPIRED, (before,)).rowcount > 0:
                pass
        except sqlite3.Error as error:
            raise _explain(self.path, error) from None

    def pending(self) -> Iterator[Pending]:
        """Jobs that have not ended, in the order of their submits.

        Raises:
            InputError: if the file can't be read.
        """
        return map(Pending._make, self._rows(_PENDING))

    def ended(self) -> Iterator[Ended]:
        """Jobs that have ended, in the order in which they did.

        Raises:
            InputError: if the file can't be read.
        """
        return map(Ended._make, self._rows(_ENDED))

    def write(self, statements: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """Carry out statements, each with many rows of values, in one transaction: all of it is on disk, or nothing.

        Without any statement it tries whether the file can be written.

        Raises:
            sqlite3.Error: if it can't be done; nothing was changed.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            tried = False
            for statement, rows in statements:
                self._connection.executemany(statement, rows)
                tried = True
            if not tried:
                execute(_UNCHANGED)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Bring all into the one file, and let go of it."""
        self._connection.close()

    def _rows(self, query: str) -> Iterator[Any]:
        try:
            yield from self._connection.execute(query)
        except sqlite3.Error as error:
            raise _explain(self.path, error) from None

    def _open(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        self._check(execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0])
        for (problem,) in execute("PRAGMA quick_check(1)"):
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN EXCLUSIVE")
        if not execute("SELECT 1 FROM sqlite_schema").fetchone():
            for table in _TABLES:
                execute(table)
            execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(32),))
            execute(f"PRAGMA application_id = {APPLICATION}")
        execute(_UNCHANGED)  # each time: a file that can't be written shows it now
        execute("COMMIT")

    def _check(self, application: int, version: int) -> None:
        empty = not self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        if application != APPLICATION and not (empty and application == 0):
            raise InputError(
                f"--data: {self.path} is a database of something else", "Name another directory, or an empty one."
            )
        if version > VERSION:
            raise InputError(
                f"--data: {self.path} has format {version}, of a newer version of loadtest; this one knows {VERSION}",
                "Use that version, or name another directory.",
            )


def _explain(path: Path, error: sqlite3.Error) -> InputError:
    """What the user is told of an error on opening, by SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InputError(f"--data: {path} is in use", "Stop the server that has it open, or name another directory.")
    if code == sqlite3.SQLITE_NOTADB:
        return InputError(f"--data: {path} is not a database", "Name another directory, or an empty one.")
    if code == sqlite3.SQLITE_CORRUPT:
        remedy = "Move the file away to begin anew, or name another directory."
        return InputError(f"--data: {path} is damaged: {error}", remedy)
    remedy = "See that the file and its directory can be written, and have room."
    return InputError(f"--data: {path} cannot be opened and written: {error}", remedy)
