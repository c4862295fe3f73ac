"""Log files and their formats. Log files may be gzipped, and are read in blocks of whole lines.

A format turns a block of lines into columns by role (``ROLES``). Lines are JSON objects, or a regular expression (RE2)
finds their fields. A HAR file is read as a whole.
"""

import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import IO, Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import compute

from loadtest.errors import InputError
from loadtest.record.run_info import StampPlace
from loadtest.words import suggestion

_BLOCK: Final = 8 << 20
_HEAD: Final = 1 << 16
_HAR_MOST: Final = 200_000_000
_LIMIT: Final = re.compile("rate-?limit", re.IGNORECASE)
_GZIP: Final = b"\x1f\x8b"
STDIN: Final = "-"
CUT: Final = b"\n"
"""Stands for a last line that was probably cut: the line has no newline and ends differently from the line before."""
Fields = Mapping[str, pa.Array]
"""A column of bytes for each role that the log has. A line that does not match the format is null in every column."""


class Format(NamedTuple):
    """A format of access logs. ``parse`` takes an array of lines (bytes) and returns their fields."""

    name: str
    parse: Callable[[pa.Array], Fields]
    stamp: StampPlace
    """Whether a line's time is the start or the end of its request."""


def _by_pattern(pattern: str) -> Callable[[pa.Array], Fields]:
    def parse(lines: pa.Array) -> Fields:
        found = compute.extract_regex(lines, pattern)
        valid = found.is_valid()
        return {
            field.name: compute.if_else(valid, column, None)
            for field, column in zip(found.type, found.flatten(), strict=True)
        }

    return parse


_COMBINED: Final = (
    r'^(?P<address>[^ ]+) [^ ]+ [^\[]*\[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>[0-9]{3}) '
    r"(?P<bytes>[0-9]+|-)(?:[ \r\n]|$)"
)
"""NCSA's common format, with or without the fields that Apache and nginx add."""
_HAPROXY: Final = (
    r"^(?:.*\]: )?(?P<address>[^ ]+):[0-9]+ \[(?P<time>[^\]]+)\] [^ ]+ [^ ]+ "
    r"(?:[-+0-9]+/){4}\+?(?P<duration_ms>-?[0-9]+) "
    r"(?P<status>-?[0-9]+) \+?(?P<bytes>[0-9]+) [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ (?:\{(?P<key>[^|}]*)[^}]*\} )?"
    r'(?:\{[^}]*\} )?"(?P<request>[^"]*)"'
)
"""HAProxy's ``option httplog``. The time is the request's start, durations are in ms, and the first captured header is
the key."""

ROLES: Final = {
    "time": ("msec", "ts", "time_iso8601", "time_local", "time", "timestamp", "@timestamp"),
    "request": ("request",),
    "method": ("request_method", "method"),
    "path": ("request_uri", "uri", "path", "url"),
    "status": ("status",),
    "duration": ("request_time", "duration", "duration_s"),
    "duration_ms": ("duration_ms",),
    "bytes": ("body_bytes_sent", "bytes_sent", "size", "bytes"),
    "key": ("http_x_api_key", "key"),
    "address": ("remote_addr", "client_ip", "remote_ip", "address"),
    "host": ("host", "http_host"),
    "retry_after": ("sent_http_retry_after", "upstream_http_retry_after", "retry_after"),
}
"""Names of each role's fields: nginx's variables, Caddy's JSON keys and plain names. Earlier names take precedence."""
_ROLE_OF: Final = {name: role for role, names in ROLES.items() for name in names}


class _CaddyRequest(msgspec.Struct, gc=False):
    method: str = ""
    uri: str = ""
    host: str | None = None
    client_ip: str | None = None
    remote_ip: str | None = None
    headers: dict[str, list[str]] = {}


_Line: Any = msgspec.defstruct(
    "_Line",
    [
        ("request", _CaddyRequest | str | None, None),
        ("resp_headers", dict[str, list[str]], {}),
        *((name.replace("@", "at_"), Any, None) for name in _ROLE_OF if name != "request"),
    ],
    rename={"at_timestamp": "@timestamp"},
    gc=False,
)
_DECODER: Final = msgspec.json.Decoder(_Line)


def _json(lines: pa.Array) -> Fields:
    data: bytes = compute.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), b"")[0].as_py()
    try:
        found = _DECODER.decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = [_decoded(line) for line in lines.to_pylist()]
    caddy = [line.request for line in found] if b'"uri"' in data else []
    for line, request in zip(found, caddy, strict=False):
        if isinstance(request, _CaddyRequest):
            line.request, line.host = f"{request.method} {request.uri}", request.host
            line.remote_addr = request.client_ip or request.remote_ip
            (line.http_x_api_key,) = request.headers.get("X-Api-Key", [None])[:1]
            (line.sent_http_retry_after,) = line.resp_headers.get("Retry-After", [None])[:1]
    columns: dict[str, pa.Array] = {}
    for role, names in ROLES.items():
        for name in names:
            if caddy or f'"{name}"'.encode() in data:
                own = _texts(list(map(attrgetter(name.replace("@", "at_")), found)))
                columns[role] = compute.coalesce(columns[role], own) if role in columns else own
    return {role: column for role, column in columns.items() if column.null_count < len(column)}


def _decoded(line: bytes) -> Any:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Line()


def _texts(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string()).cast(pa.binary())
    except pa.ArrowException:  # numbers among the texts
        pass
    return pa.array([None if value is None else str(value).encode() for value in values], pa.binary())


COMBINED: Final = Format("combined", _by_pattern(_COMBINED), "end")
JSON: Final = Format("json", _json, "end")
HAPROXY: Final = Format("haproxy", _by_pattern(_HAPROXY), "start")
FORMATS: Final = {each.name: each for each in (HAPROXY, COMBINED, JSON)}

_VARIABLE: Final = re.compile(r"\$(\w+|\{\w+\})")


def of_variables(text: str) -> Format:
    """Return the format with the name ``text``, or make a format from a text like nginx's ``log_format``.

    An example of such a text is ``$msec "$request" $status $request_time``. Variables without a role are skipped.
    Raises ``InputError`` if the text lacks a time, a status, or a request.
    """
    if text in FORMATS:
        return FORMATS[text]
    parts, named = _VARIABLE.split(text), set[str]()
    pattern = "^" + re.escape(parts[0])
    for name, after in zip((part.strip("{}") for part in parts[1::2]), parts[2::2], strict=True):
        role = _ROLE_OF.get(name, "")
        group = f"?P<{role}>" if role and role not in named else "?:"
        named.add(role)
        until = re.escape(after[0]) if after else " \\r\\n"
        pattern += f"({group}[^{until}]*){re.escape(after)}"
    lacks = [role for role in ("time", "status") if role not in named]
    lacks += [] if named & {"request", "path"} else ["request"]
    if lacks:
        known = ", ".join(f"${name}" for role in lacks for name in ROLES[role] if name.isidentifier())
        raise InputError(
            f"--format {text!r} has no {' and no '.join(lacks)}{suggestion(text, FORMATS)}",
            f"Write it as nginx's log_format, with variables such as {known}.",
        )
    return Format("fields", _by_pattern(pattern), "end")


def detect(lines: pa.Array) -> Format | None:
    """Return the known format that matches the most lines, or None if no format matches any line."""
    counts = {name: _known(each.parse(lines)) for name, each in FORMATS.items()}
    best = max(counts, key=lambda name: counts[name])
    return FORMATS[best] if counts[best] else None


def _known(fields: Fields) -> int:
    if not {"time", "status"} <= fields.keys():
        return 0
    return int(compute.sum(compute.and_(fields["time"].is_valid(), fields["status"].is_valid())).as_py() or 0)


def masked(line: bytes) -> str:
    """Replace each word of a line with ``x`` and each number with ``9``. The result has at most 160 characters."""
    text = line[:4000].decode(errors="replace").strip()
    text = re.sub(r"[^\W\d_]+", "x", text)
    return re.sub(r"[^\x20-\x7e]", "?", re.sub(r"\d+", "9", text))[:160]


class Source(NamedTuple):
    """A log file."""

    name: str
    head: bytes
    """The file's first block."""
    read: Callable[[int], bytes]
    """Reads on after ``head``, at most the given number of bytes."""

    @property
    def is_har(self) -> bool:
        start = self.head[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n")
        return re.match(rb'{\s*"log"\s*:\s*{', start) is not None


Opener = Callable[[str], IO[bytes]]


@contextmanager
def opened(name: str, opener: Opener) -> Iterator[Source]:
    """Open a log file, or standard input if ``name`` is ``-``.

    Raises ``InputError`` if the log cannot be read, or its compression is damaged.
    """
    try:
        with sys.stdin.buffer if name == STDIN else opener(name) as raw:
            file: Any = io.BufferedReader(raw, _BLOCK)
            if file.peek(2)[:2] == _GZIP:
                file = pa.CompressedInputStream(file, "gzip")
            yield Source(name, file.read(_BLOCK), file.read)
    except OSError as error:
        if error.strerror is None:  # Arrow, which decompresses, gives no strerror
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
    """Return the last character of a line if it is punctuation, and otherwise the length of the last word."""
    word = line.split()[-1]
    return len(word) if word[-1:].isalnum() else word[-1:]


def _lines(data: bytes) -> pa.Array:
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

    Raises ``InputError`` if the file is too large, is not a HAR file, or has no entries.
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
        "time": _texts([entry.startedDateTime for entry in entries]),
        "duration_ms": _texts([entry.time for entry in entries]),
        "status": _texts([entry.response.status for entry in entries]),
        "bytes": _texts([entry.response.bodySize for entry in entries]),
        "method": _texts([request.method for request in requests]),
        "path": _texts([url and url.path for url in urls]),
        "host": _texts([url and url.netloc.rpartition("@")[2] for url in urls]),
        "key": _texts([_value(request.headers, "x-api-key") for request in requests]),
        "retry_after": _texts([_value(entry.response.headers, "retry-after") for entry in entries]),
        "rate_limit": _texts([_limits(entry.response.headers) for entry in entries]),
    }


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _value(headers: list[_Named], name: str) -> str | None:
    return next((header.value for header in headers if header.name.lower() == name), None)


def _limits(headers: list[_Named]) -> str | None:
    found = [f"{header.name.lower()}: {header.value}" for header in headers if _LIMIT.search(header.name)]
    return "\n".join(found) or None
