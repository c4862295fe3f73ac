"""The file of a history, in JSON lines. Only one process at a time can append to it.

Damage is always reported. If a crash truncated the last line, the next append moves it to ``<file>.damaged``. Any other
unreadable line is an error, because a history with a gap could give a wrong verdict.
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
    """The content of a file. ``cut_off`` has the bytes of a truncated last line; it is normally empty."""

    history: History
    cut_off: bytes
    path: Path

    @property
    def warnings(self) -> list[str]:
        found = [f"{self.path} has a decision on {run}, but not the run itself." for run in self.history.orphans]
        if self.cut_off:
            found.append(
                f"{self.path}: the last line is truncated ({len(self.cut_off)} bytes{_whose(self.cut_off)}) and "
                f"ignored; the next check moves it to {self.path.name}{DAMAGED}."
            )
        return found


def path_for(place: Path, scenario: str) -> Path:
    """Return the path of a scenario's history: ``place`` if it ends in .jsonl, else a file in that folder."""
    return place if place.suffix == ENDING else place / f"{scenario}{ENDING}"


def read(path: Path) -> Contents:
    """Wait until no process writes, then read a history. A missing file is an empty history. Raises ``InputError``."""
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
    """Check that lines can be appended, so that no run is made in vain. This may create an empty file."""
    with _locked(path):
        pass


def append(path: Path, *lines: HistoryLine) -> list[str]:
    """Append all lines or none, and flush them to disk. Return messages about repairs. Raises ``InputError``."""
    with _locked(path) as file:
        data = _all(file)
        _, cut_off = _parse(data, path)
        repaired = [_move_away(file, path, data, cut_off)] if cut_off else []
        size = len(data) - len(cut_off)
        # A complete last line may lack its newline if an editor saved the file.
        begin = b"\n" if size and data[size - 1 : size] != b"\n" else b""
        try:
            _write(file, begin + b"".join(map(_encode, lines)), size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise InputError(f"cannot write {path}: {error.strerror}; the file is unchanged") from error
    return repaired


def _all(file: int) -> bytes:
    # One read may return only a part of the file. The next write would then overwrite the rest.
    os.lseek(file, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(file, 1 << 20), b""))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open or create the file, and lock it against other writers."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "Use another --history.") from error
    try:
        yield file
    finally:
        os.close(file)  # also releases the lock


def _open_locked(path: Path) -> int:
    while True:
        new = not path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if new:
                _sync_folder(path.parent)
            # Git may have replaced the file meanwhile. Writes to the old file would be lost.
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass  # the file was deleted meanwhile
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
    """Move a truncated line to another file. Copy it first and cut it off later, so that it is never lost."""
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
        f"{path}: the last line was truncated ({len(cut_off)} bytes{_whose(cut_off)}) and was moved to {damaged}. "
        "If the run's directory still exists, `accept` records the run again."
    )


def _whose(cut_off: bytes) -> str:
    found = _RUN_ID.search(cut_off)
    return "" if found is None else f" of run {found[1].decode(errors='replace')}"


def _sync_folder(folder: Path) -> None:
    # A new file survives a power failure only if its folder was flushed, too.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Schemas(msgspec.Struct):
    """The schema version of a line. ``run`` has the measurements' version in a run's line, else it is a run's id."""

    schema: int
    run: "_Schemas | str"


def _parse(data: bytes, path: Path) -> tuple[list[HistoryLine], bytes]:
    """Return the lines of a file, and separately a truncated last line."""
    *whole, last = data.split(b"\n")
    cut_off = b""
    if last.strip():
        try:
            msgspec.json.decode(last)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            cut_off = last
    lines = whole if cut_off else [*whole, last]
    return [_line(text, path, number) for number, text in enumerate(lines, 1) if text.strip()], cut_off


def _encode(line: HistoryLine) -> bytes:
    """Encode a line with the CRC-32 of its content, so that a flipped bit cannot become another verdict."""
    text = msgspec.json.encode(line)[:-1]
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def _line(text: bytes, path: Path, number: int) -> HistoryLine:
    where = f"{path}, line {number}"
    if text.startswith(_CONFLICT):
        raise InputError(
            f"{where} is a marker of an unresolved merge",
            "Delete the lines with markers and keep all other lines. With `*.jsonl merge=union` in .gitattributes Git "
            "merges histories itself.",
        )
    # A manually written line may lack its checksum.
    crc = _CRC.search(text)
    if crc is not None and zlib.crc32(text[: crc.start()]) != int(crc[1], 16):
        raise InputError(
            f"{where} is damaged: its checksum does not match",
            "Restore the file from version control or a backup. If the change was deliberate, delete the line's crc.",
        )
    try:
        schemas = msgspec.json.decode(text, type=_Schemas)
        newer = isinstance(schemas.run, _Schemas) and schemas.run.schema > measurements.SCHEMA_VERSION
        if newer or schemas.schema > history.SCHEMA_VERSION:
            raise InputError(f"{where} was written by a newer loadtest", "Update loadtest. Nothing was changed.")
        line = msgspec.json.decode(text, type=RunLine | DecisionLine)
        history.moment(line.recorded)
        if isinstance(line, RunLine):
            history.moment(line.run.started)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(
            f"{where} is damaged: {error}",
            "Restore the file from version control or a backup. Or delete the line to ignore its run or decision.",
        ) from error
    return line
