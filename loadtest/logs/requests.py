"""Requests of the API's operations from a log's lines, in compact columns. Keys and addresses become numbers."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from loadtest.arrays import Bools
from loadtest.contract import FIRST_KIND, REQUESTS, Operation
from loadtest.errors import InputError
from loadtest.logs.formats import ROLES, Fields, Format
from loadtest.logs.stamps import parse_stamps
from loadtest.record.log_source import StampPlace
from loadtest.words import did_you_mean

OPERATIONS: Final = tuple(Operation)
_MAP: Final = re.compile(r"([A-Z]+) (/\S*)=(\w+)")
_STATUSES: Final = 1_000
_SIZES: Final = 1e15
_TEXTS: Final = ("key", "address", "host", "retry_after", "rate_limit")
_REQUEST: Final = "^(?P<method>[A-Z]+) (?P<path>[^ ]+)"


def patterns(maps: Iterable[str]) -> dict[Operation, str]:
    """Return a pattern (RE2) of ``METHOD PATH`` for each operation, from documented paths and those of ``--map``.

    Raises:
        InputError: if a ``--map`` is not ``METHOD /PATH=OPERATION``.
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
        stamp: whether lines are stamped at a request's start or end; None for the place that their format defines.
        unknown: number of lines that do not match the format, or have no time or status.
        others: number of lines with other paths.
        digits: minimum over all blocks of the digits of a second's fraction.
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
    """A line that does not match the format."""
    other_example: bytes = b""
    """Method and path of a line that is not a request of the API."""
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, form: Format, fields: Fields, lines: pa.Array | None = None) -> None:
        """Add the requests of a block of lines; ``lines`` are used only for examples."""
        n = len(fields["time"] if lines is None else lines)
        fields = {**dict.fromkeys((*ROLES, "rate_limit"), pa.nulls(n, pa.binary())), **fields}
        stamps, status, request = parse_stamps(fields["time"]), _numbers(fields["status"]), _request(fields)
        valid = (column.is_valid().to_numpy(zero_copy_only=False) for column in (stamps.ns, status, request))
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
        self.digits, self.zoneless = min(self.digits, stamps.digits), self.zoneless or stamps.zoneless
        self.formats[form.name] += int(known.sum())
        at = self.stamp or form.stamp
        self.stamps.add(at)
        took = _took(fields)
        columns = {
            "start": compute.subtract(stamps.ns, took.fill_null(0)) if at == "end" else stamps.ns,
            "took": took,
            "operation": pa.array(operation),
            "status": _whole(status, _STATUSES),
            "size": _whole(_numbers(fields["bytes"]), _SIZES),
        }
        # Keys, addresses and hosts of lines with other paths are dropped.
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
        """Return all requests in order of their start. A time, number or text that the log lacks is null.

        Columns: ``start`` in ns since 1970 (without durations, the stamp), ``took`` in ns, ``operation`` (its index in
        ``OPERATIONS``), ``status``, ``size`` in bytes, and the dictionaries ``key``, ``address``, ``host``,
        ``retry_after`` and ``rate_limit`` in the order of their first occurrence.
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
    """Return whole numbers; null for impossible values and for zero, which as a status means no answer."""
    possible = compute.and_(compute.greater(numbers, 0), compute.less(numbers, most))
    return compute.if_else(possible, numbers, None).cast(pa.int64(), safe=False)


def _took(fields: Fields) -> pa.Array:
    """Return each request's duration in ns; null where it is unknown or below zero."""
    seconds = compute.coalesce(_numbers(fields["duration"]), compute.divide(_numbers(fields["duration_ms"]), 1e3))
    took = compute.round(compute.multiply(seconds, 1e9))
    possible = compute.and_(compute.greater_equal(took, 0), compute.less(took, 1e15))
    return compute.if_else(possible, took, None).cast(pa.int64())
