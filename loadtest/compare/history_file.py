"""The file of a history: JSON lines that are only ever appended to, by one process at a time, and flushed to the disk.

What is damaged is never passed over in silence. A last line that a crash cut off is moved to ``<file>.damaged``; any
other line that cannot be read is an error that names it, since a history with a hole could give a wrong verdict.
"""

import contextlib
import fcntl
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from loadtest.compare import history, measurements
from loadtest.compare.history import DecisionLine, History, HistoryLine, RunLine
from loadtest.errors import InputError

ENDING: Final = ".jsonl"
DAMAGED: Final = ".damaged"
_CONFLICT: Final = (b"<<<<<<< ", b"=======", b">>>>>>> ", b"||||||| ")
_CRC: Final = re.compile(rb',"crc":"([0-9a-f]{8})"}\s*\Z')
_RUN_ID: Final = re.compile(rb'"run":"([^"\\]{1,200})"')


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        cut_off: the bytes of a last line that was not written to its end; empty normally.
    """

    history: History
    cut_off: bytes
    path: Path

    @property
    def warnings(self) -> list[str]:
        found = [f"{self.path} holds a decision about {run}, and not the run itself." for run in self.history.orphans]
        if self.cut_off:
            found.append(
                f"{self.path}: the last line is cut off ({len(self.cut_off)} bytes{_whose(self.cut_off)}): it is left "
                f"out, and the next check moves it to {self.path.name}{DAMAGED}."
            )
        return found


def path_for(place: Path, scenario: str) -> Path:
    """The file of a scenario's history: ``place`` itself if it ends in .jsonl, else one in that folder."""
    return place if place.suffix == ENDING else place / f"{scenario}{ENDING}"


def read(path: Path) -> Contents:
    """Read a history; one that is not there is empty. A writer that is at work is waited for.

    Raises:
        InputError: if it cannot be read, or a line is damaged or of a newer version.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            data = file.read()
    except FileNotFoundError:
        return Contents(History(), b"", path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    lines, cut_off = _parse(data, path)
    return Contents(history.fold(lines), cut_off, path)


def check_writable(path: Path) -> None:
    """Check that lines could be appended, before a run is made for them. An empty file may be left behind.

    Raises:
        InputError: if not.
    """
    with _locked(path):
        pass


def append(path: Path, *lines: HistoryLine) -> list[str]:
    """Append lines: all or none of them, and on the disk when this returns.

    Returns:
        What was repaired before, in sentences.

    Raises:
        InputError: if the file cannot be written, or what it holds cannot be read.
    """
    with _locked(path) as file:
        data = _all(file)
        _, cut_off = _parse(data, path)
        repaired = [_move_away(file, path, data, cut_off)] if cut_off else []
        size = len(data) - len(cut_off)
        # A whole last line may lack its newline, where an editor saved the file.
        begin = b"\n" if size and data[size - 1 : size] != b"\n" else b""
        try:
            _write(file, begin + b"".join(map(_encode, lines)), size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise InputError(f"cannot write {path}: {error.strerror}; it is as it was before") from error
    return repaired


def _all(file: int) -> bytes:
    # One read may give less than is there, and what is behind it would be written over.
    os.lseek(file, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(file, 1 << 20), b""))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the file, made if it is not there, for one writer at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "Name another --history.") from error
    try:
        yield file
    finally:
        os.close(file)  # and with it the lock


def _open_locked(path: Path) -> int:
    while True:
        new = not path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if new:
                _sync_folder(path.parent)
            # While we waited, Git may have put another file there: what is written to this one would be lost.
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass  # it was deleted meanwhile
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _write(file: int, data: bytes, at: int) -> None:
    os.lseek(file, at, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _move_away(file: int, path: Path, data: bytes, cut_off: bytes) -> str:
    """Move a line that was cut off beside the file: first written there, then cut here, so that it is never lost."""
    damaged = path.with_name(path.name + DAMAGED)
    try:
        with damaged.open("ab") as beside:
            beside.write(cut_off + b"\n")
            beside.flush()
            os.fsync(beside.fileno())
        _sync_folder(path.parent)
        os.ftruncate(file, len(data) - len(cut_off))
        os.fsync(file)
    except OSError as error:
        raise InputError(f"cannot repair {path}: {error.strerror}; nothing was lost") from error
    return (
        f"{path}: the last line was cut off ({len(cut_off)} bytes{_whose(cut_off)}) and is now in {damaged}. "
        "`loadtest regression accept RUN` records a run again that still has its directory."
    )


def _whose(cut_off: bytes) -> str:
    found = _RUN_ID.search(cut_off)
    return "" if found is None else f" of run {found[1].decode(errors='replace')}"


def _sync_folder(folder: Path) -> None:
    # So that a new file is still there after a power failure.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _RunSchema(msgspec.Struct):
    schema: int


class _Schemas(msgspec.Struct):
    """Versions of a line's form, and of the measurements in it."""

    schema: int
    run: _RunSchema | str


def _parse(data: bytes, path: Path) -> tuple[list[HistoryLine], bytes]:
    """The lines of a file, and the rest without a newline if it is no whole line."""
    *whole, last = data.split(b"\n")
    cut_off = last if last.strip() and not _is_json(last) else b""
    lines = whole if cut_off else [*whole, last]
    return [_line(text, path, number) for number, text in enumerate(lines, 1) if text.strip()], cut_off


def _encode(line: HistoryLine) -> bytes:
    """A line with the CRC-32 of all before it, so that a flipped bit cannot become another verdict."""
    text = msgspec.json.encode(line)[:-1]
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def _check_crc(text: bytes, where: str) -> None:
    # A line without one was written by hand, which is allowed.
    found = _CRC.search(text)
    if found is not None and zlib.crc32(text[: found.start()]) != int(found[1], 16):
        raise InputError(
            f"{where} is damaged: its checksum does not fit",
            "Restore the file from version control or a backup. Or, if it was changed on purpose, delete its key crc.",
        )


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _line(text: bytes, path: Path, number: int) -> HistoryLine:
    where = f"{path}, line {number}"
    if text.startswith(_CONFLICT):
        raise InputError(
            f"{where} is a mark of an unresolved merge",
            "Delete the lines with the marks and keep all others. With `*.jsonl merge=union` in .gitattributes Git "
            "does it by itself.",
        )
    _check_crc(text, where)
    try:
        _check_version(text, where)
        line = msgspec.json.decode(text, type=RunLine | DecisionLine)
        history.moment(line.recorded)
        if isinstance(line, RunLine):
            history.moment(line.run.started)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(
            f"{where} is damaged: {error}",
            "Restore the file from version control or a backup. Or delete the line: its run is then in no comparison.",
        ) from error
    return line


def _check_version(text: bytes, where: str) -> None:
    found = msgspec.json.decode(text, type=_Schemas)
    newer = isinstance(found.run, _RunSchema) and found.run.schema > measurements.SCHEMA_VERSION
    if newer or found.schema > history.SCHEMA_VERSION:
        raise InputError(f"{where} was written by a newer loadtest", "Update loadtest: nothing was changed here.")
