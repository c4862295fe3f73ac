"""Selection of the API's requests from log lines, in compact columns. Texts such as keys are dictionary-encoded."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from loadtest.arrays import Bools
from loadtest.contract import FIRST_KIND, REQUESTS, Operation
from loadtest.errors import InputError
from loadtest.logs.formats import ROLES, Fields, Format
from loadtest.record.run_info import StampPlace
from loadtest.words import did_you_mean

OPERATIONS: Final = tuple(Operation)
_MAP: Final = re.compile(r"([A-Z]+) (/\S*)=(\w+)")
_STATUSES: Final = 1_000
_SIZES: Final = 1e15
_TEXTS: Final = ("key", "address", "host", "retry_after", "rate_limit")
_REQUEST: Final = "^(?P<method>[A-Z]+) (?P<path>[^ ]+)"
_FORM: Final = (
    r"^(?P<second>[0-9]+|[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8})"
    r"(?:[.,](?P<fraction>[0-9]+))?(?P<zone> ?(?:Z|UTC|GMT|[-+][0-9]{2}:?[0-9]{2}))?$"
)
"""Seconds or ms since 1970, ``10/Oct/2025:13:55:36``, or ISO 8601. A fraction may follow; dates may have a zone."""
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MILLISECONDS: Final = 10**11
"""Stamps from this number on are in milliseconds. In seconds, this number is a time in the year 5138."""
_LATEST_S: Final = 4 * 10**9
_DIGITS: Final = 9


def patterns(maps: Iterable[str]) -> dict[Operation, str]:
    """Return a pattern (RE2) for each operation. It matches ``METHOD PATH`` of documented paths and paths of ``--map``.

    Raises ``InputError`` if a ``--map`` is not ``METHOD /PATH=OPERATION``.
    """
    ends: dict[Operation, list[str]] = {operation: [] for operation in OPERATIONS}
    for operation, kind in FIRST_KIND.items():
        request = REQUESTS[kind]
        ends[operation].append(_end(request.method, request.path + "*" * request.path.endswith("/")))
    for text in maps:
        if (found := _MAP.fullmatch(text)) is None:
            raise InputError(f"--map {text!r} is not METHOD /PATH=OPERATION", "Example: --map 'POST /run=sync_run'.")
        method, path, name = found.groups()
        if name not in ends:
            raise InputError(f"--map {text!r}: {name!r} is not an operation", did_you_mean(name, [*OPERATIONS]))
        ends[Operation(name)].append(_end(method, path))
    return {operation: f"^(?:{'|'.join(own)})/?(?:[?#].*)?$" for operation, own in ends.items()}


def _end(method: str, path: str) -> str:
    """Return a pattern for all paths that end in ``path``, where ``*`` stands for one path segment."""
    return rf"{method} [^?#]*{re.escape(path).replace(re.escape('*'), '[^/?#]+')}"


@dataclass
class LogRequests:
    """The requests found in logs so far, and counts of the other lines.

    Attributes:
        stamp: whether a line's time is the start or the end of its request. None: the format decides.
        unknown: number of lines that do not match the format, or lack a time, a status or a request.
        others: number of lines with requests that do not belong to the API.
        digits: number of fractional digits in the stamps of the least precise block.
    """

    patterns: dict[Operation, str]
    stamp: StampPlace | None = None
    lines: int = 0
    unknown: int = 0
    others: int = 0
    digits: int = 9
    zoneless: bool = False
    formats: Counter[str] = field(default_factory=Counter)
    stamps: set[StampPlace] = field(default_factory=set)
    example: bytes = b""
    """The first line that counts as ``unknown``."""
    other_example: bytes = b""
    """Method and path of the first line that counts in ``others``."""
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, form: Format, fields: Fields, lines: pa.Array | None = None) -> None:
        """Add the requests of a block of lines, or of a HAR file, which has no ``lines``."""
        n = len(fields["time"] if lines is None else lines)
        fields = {**dict.fromkeys((*ROLES, "rate_limit"), pa.nulls(n, pa.binary())), **fields}
        stamps, digits, zoneless = _parse_stamps(fields["time"])
        status = _numbers(fields["status"])
        request = _request(fields)
        valid = (column.is_valid().to_numpy(zero_copy_only=False) for column in (stamps, status, request))
        known: Bools = np.logical_and.reduce([*valid])
        self.lines += n
        self.unknown += int(n - known.sum())
        if lines is not None and not self.example and not known.all():
            self.example = lines[int(np.argmin(known))].as_py()
        operation = self._operations(request)
        other = known & (operation < 0)
        self.others += int(other.sum())
        if not self.other_example and other.any():
            self.other_example = request[int(np.argmax(other))].as_py()
        known &= operation >= 0
        if not known.any():
            return
        self.digits = min(self.digits, digits)
        self.zoneless = self.zoneless or zoneless
        self.formats[form.name] += int(known.sum())
        at = self.stamp or form.stamp
        self.stamps.add(at)
        took = _took(fields)
        columns = {
            "start": compute.subtract(stamps, took.fill_null(0)) if at == "end" else stamps,
            "took": took,
            "operation": pa.array(operation),
            "status": _whole(status, _STATUSES),
            "size": _whole(_numbers(fields["bytes"]), _SIZES),
        }
        # Keys, addresses and hosts of all other lines are dropped.
        found = pa.record_batch({**columns, **{role: fields[role] for role in _TEXTS}}).filter(pa.array(known))
        for role in _TEXTS:
            column = found[role]
            column = compute.if_else(compute.is_in(column, pa.array([b"", b"-"], pa.binary())), None, column)
            found = found.set_column(found.schema.get_field_index(role), role, column.dictionary_encode())
        self.parts.append(found)

    def _operations(self, request: pa.Array) -> NDArray[np.int8]:
        found = np.full(len(request), -1, np.int8)
        for operation, pattern in self.patterns.items():
            matches = compute.match_substring_regex(request, pattern).fill_null(False)
            found[matches.to_numpy(zero_copy_only=False)] = OPERATIONS.index(operation)
        return found

    def whole(self) -> pa.Table:
        """Return all requests in order of their start. Values that the log lacks are null.

        Columns: ``start`` in ns since 1970 (the stamp if there is no duration), ``took`` in ns, ``operation`` (an index
        in ``OPERATIONS``), ``status``, ``size`` in bytes, and the dictionary-encoded ``key``, ``address``, ``host``,
        ``retry_after`` and ``rate_limit``. A dictionary has its values in the order of their first occurrence.
        """
        return pa.Table.from_batches(self.parts).unify_dictionaries().combine_chunks().sort_by("start")


def _request(fields: Fields) -> pa.Array:
    """Return method and path of each line, or null for a line that lacks them."""
    found = compute.extract_regex(fields["request"], _REQUEST)
    parts = (compute.if_else(found.is_valid(), part, None) for part in found.flatten())
    method, path = map(compute.coalesce, (fields["method"], fields["path"]), parts)
    return compute.binary_join_element_wise(method, path, b" ")


def _numbers(column: pa.Array) -> pa.Array:
    """Return the numbers in a column of bytes; null for other texts."""
    digits = compute.extract_regex(column, r"^(?P<number>-?[0-9]{1,15}(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,2})?)$")
    return compute.if_else(digits.is_valid(), digits.field(0), None).cast(pa.string()).cast(pa.float64())


def _whole(numbers: pa.Array, most: float) -> pa.Array:
    """Return whole numbers. Zero and impossible values become null. A status of zero means that there was no answer."""
    possible = compute.and_(compute.greater(numbers, 0), compute.less(numbers, most))
    return compute.if_else(possible, numbers, None).cast(pa.int64(), safe=False)


def _took(fields: Fields) -> pa.Array:
    """Return each request's duration in ns. Unknown and negative durations are null."""
    seconds = compute.coalesce(_numbers(fields["duration"]), compute.divide(_numbers(fields["duration_ms"]), 1e3))
    took = compute.round(compute.multiply(seconds, 1e9))
    possible = compute.and_(compute.greater_equal(took, 0), compute.less(took, 1e15))
    return compute.if_else(possible, took, None).cast(pa.int64())


def _parse_stamps(column: pa.Array) -> tuple[pa.Array, int, bool]:
    """Parse time stamps as integers, in ns since 1970; null if the text is not a time stamp.

    Also return the number of fractional digits of the most precise stamp, at most 9, and whether any date has no time
    zone. Such dates count as UTC.
    """
    parts = compute.extract_regex(column, _FORM)
    second, fraction, zone = (compute.if_else(parts.is_valid(), part, None) for part in parts.flatten())
    whole = compute.binary_join_element_wise(second, compute.fill_null(zone, b""), b"").dictionary_encode()
    found = [_seconds(text) for text in whole.dictionary.to_pylist()]
    ns = pa.array([ns for ns, _, _ in found], pa.int64()).take(whole.indices)
    in_ms = pa.array([digits > 0 for _, digits, _ in found], pa.bool_()).take(whole.indices)
    longest = compute.max(compute.binary_length(fraction)).as_py() or 0
    digits = longest + 3 * any(digits for _, digits, _ in found)
    if longest:
        padded = compute.binary_join_element_wise(compute.fill_null(fraction, b""), b"000000000", b"")
        parsed = compute.binary_slice(padded, 0, _DIGITS).cast(pa.string()).cast(pa.int64())
        ns = compute.add(ns, compute.if_else(in_ms, compute.divide(parsed, 1000), parsed))
    return ns, min(digits, _DIGITS), any(zoneless for _, _, zoneless in found)


def _seconds(text: bytes) -> tuple[int | None, int, bool]:
    """Convert a stamp without fraction to ns. Also return 3 if it is in ms, else 0, and whether a date has no zone."""
    form = text.decode()
    if form.isdecimal():
        number = int(form[:18])
        if number >= _MILLISECONDS:
            return (number * 10**6, 3, False) if number < _LATEST_S * 1000 else (None, 0, False)
        return (number * 10**9, 0, False) if number < _LATEST_S else (None, 0, False)
    if form[2] == "/":
        month = form[3:6].capitalize()
        number = _MONTHS.index(month) + 1 if month in _MONTHS else 0
        form = f"{form[7:11]}-{number:02}-{form[:2]}T{form[12:]}"
    form = re.sub(r" ?(Z|UTC|GMT)$", "+00:00", form).replace(" +", "+").replace(" -", "-")
    try:
        moment = datetime.fromisoformat(form)
    except ValueError:
        return None, 0, False
    zoneless = moment.tzinfo is None
    seconds = (moment.replace(tzinfo=UTC) if zoneless else moment).timestamp()
    return (int(seconds) * 10**9, 0, zoneless) if 0 <= seconds < _LATEST_S else (None, 0, False)
