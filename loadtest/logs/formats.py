"""Formats of access logs. Lines are JSON objects, or a regular expression (RE2) finds their fields.

A format turns a block of lines into a column for each role. The roles are ``time``, ``request`` (or ``method`` and
``path``), ``status``, ``duration``, ``bytes``, ``address``, ``key``, ``host`` and ``retry_after``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
from pyarrow import compute

from loadtest.errors import InputError
from loadtest.record.run_info import StampPlace
from loadtest.words import suggestion

Fields = Mapping[str, pa.Array]
"""A column of bytes for each role. A line in another format is null in every column."""


@dataclass(frozen=True)
class Format:
    """A format of access logs.

    Attributes:
        parse: returns the fields of an array of lines. Lines are bytes.
        stamp: whether a line's time is the start or the end of its request.
    """

    name: str
    parse: Callable[[pa.Array], Fields]
    stamp: StampPlace


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
                own = texts(list(map(attrgetter(name.replace("@", "at_")), found)))
                columns[role] = compute.coalesce(columns[role], own) if role in columns else own
    return {role: column for role, column in columns.items() if column.null_count < len(column)}


def _decoded(line: bytes) -> Any:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Line()


def texts(values: list[Any]) -> pa.Array:
    """Return values as a column of bytes."""
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
    """Return a named format, or make one from a text like nginx's ``log_format``.

    An example of such a text is ``$msec "$request" $status $request_time``. Variables without a role are skipped.

    Raises:
        InputError: if the text lacks a time, a status, or a request.
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
    """Return the known format that matches most of the lines, or None if no format matches a line."""
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
