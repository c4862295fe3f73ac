"""Readers of log files and HAR files. Log files may be gzipped, and are read in blocks of whole lines."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from loadtest.errors import InputError
from loadtest.logs.formats import Fields, texts

_BLOCK: Final = 8 << 20
_HEAD: Final = 1 << 16
_HAR_MOST: Final = 200_000_000
_LIMIT: Final = re.compile("rate-?limit", re.IGNORECASE)
_GZIP: Final = b"\x1f\x8b"
STDIN: Final = "-"
CUT: Final = b"\n"
"""Stands for a last line that was probably cut: it has no newline, and it ends differently from the line before."""


class Source(NamedTuple):
    """A log file."""

    name: str
    head: bytes
    """The file's first block."""
    read: Callable[[int], bytes]
    """Reads at most the given number of bytes after ``head``."""

    @property
    def is_har(self) -> bool:
        start = self.head[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n")
        return re.match(rb'{\s*"log"\s*:\s*{', start) is not None


Opener = Callable[[str], IO[bytes]]


@contextmanager
def opened(name: str, opener: Opener) -> Iterator[Source]:
    """Open a log file, or standard input if ``name`` is ``-``.

    Raises:
        InputError: if the log cannot be read, or its compression is damaged.
    """
    try:
        with sys.stdin.buffer if name == STDIN else opener(name) as raw:
            file: Any = io.BufferedReader(raw, _BLOCK)
            if file.peek(2)[:2] == _GZIP:
                file = pa.CompressedInputStream(file, "gzip")
            yield Source(name, file.read(_BLOCK), file.read)
    except OSError as error:
        if error.strerror is None:  # Arrow's errors have no number
            raise InputError(f"{name}: its compression is damaged or cut off", f"Check it: gzip -t {name}") from None
        raise InputError(f"cannot read {name}: {error.strerror}", "Give log files, or - for standard input.") from error


def blocks(source: Source) -> Iterator[pa.Array]:
    """Yield a log's lines in blocks of about 8 MiB. Empty lines are skipped, and a cut last line becomes ``CUT``."""
    rest, before, data = b"", b"", source.head
    while data:
        data = rest + data
        end = data.rfind(b"\n") + 1
        if len(data) - end > 4 * _BLOCK:
            raise InputError(f"{source.name} has a line of over 32 MB", 'Is it a log? A HAR file begins with {"log":.')
        rest = data[end:]
        if end:
            before = data[data.rfind(b"\n", 0, end - 1) + 1 : end]
            yield _lines(data[:end])
        data = source.read(_BLOCK)
    if rest.strip():
        whole = not before.strip() or _ending(rest) == _ending(before)
        yield _lines(rest + b"\n") if whole else pa.array([CUT], pa.binary())


def _ending(line: bytes) -> bytes | int:
    """Return how a line ends: its last character if that is punctuation, and otherwise the length of its last word."""
    word = line.split()[-1]
    return len(word) if word[-1:].isalnum() else word[-1:]


def _lines(data: bytes) -> pa.Array:
    """Split bytes into lines without copying the bytes."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    lines = pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    full = np.diff(offsets) > 2
    return lines if full.all() else lines.filter(pa.array(full))


class _Named(msgspec.Struct):
    name: str
    value: str


class _HarRequest(msgspec.Struct):
    method: str
    url: str
    headers: list[_Named] = []


class _HarResponse(msgspec.Struct):
    status: int
    headers: list[_Named] = []
    bodySize: int = -1  # noqa: N815 - as in the file


class _HarEntry(msgspec.Struct):
    startedDateTime: str  # noqa: N815 - as in the file
    time: float
    request: _HarRequest
    response: _HarResponse


class _HarLog(msgspec.Struct):
    entries: list[_HarEntry]


class _Har(msgspec.Struct):
    log: _HarLog


def har_fields(source: Source) -> Fields:
    """Return the columns of a HAR file. The only headers read are the API key, Retry-After and rate limits.

    Raises:
        InputError: if the file is too large, or not a HAR file.
    """
    data = source.head + source.read(_HAR_MOST)
    if len(data) > _HAR_MOST:
        raise InputError(f"{source.name} has over 200 MB", "Save it in parts, or without content.")
    try:
        entries = msgspec.json.decode(data, type=_Har).log.entries
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = error if isinstance(error, msgspec.ValidationError) else "it is cut off or damaged"
        raise InputError(
            f"{source.name} is not a HAR file: {what}", "Save it again from the browser or client."
        ) from None
    if not entries:
        raise InputError(f"{source.name} has no entries", "Record some requests, and save it again.")
    requests = [entry.request for entry in entries]
    urls = [_split(request.url) for request in requests]
    return {
        "time": texts([entry.startedDateTime for entry in entries]),
        "duration_ms": texts([entry.time for entry in entries]),
        "status": texts([entry.response.status for entry in entries]),
        "bytes": texts([entry.response.bodySize for entry in entries]),
        "method": texts([request.method for request in requests]),
        "path": texts([url and url.path for url in urls]),
        "host": texts([url and url.netloc.rpartition("@")[2] for url in urls]),
        "key": texts([_value(request.headers, "x-api-key") for request in requests]),
        "retry_after": texts([_value(entry.response.headers, "retry-after") for entry in entries]),
        "rate_limit": texts([_limits(entry.response.headers) for entry in entries]),
    }


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if the text is not a URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _value(headers: list[_Named], name: str) -> str | None:
    return next((header.value for header in headers if header.name.lower() == name), None)


def _limits(headers: list[_Named]) -> str | None:
    found = [f"{header.name.lower()}: {header.value}" for header in headers if _LIMIT.search(header.name)]
    return "\n".join(found) or None
