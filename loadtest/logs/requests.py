"""Requests of the API's operations among a log's lines, in compact columns. Keys and addresses become numbers."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import FIRST_KIND, REQUESTS, Operation
from loadtest.errors import InputError
from loadtest.logs.formats import ROLES, Fields, Format
from loadtest.logs.stamps import UNKNOWN, parse_stamps
from loadtest.record.log_source import StampPlace
from loadtest.words import did_you_mean

OPERATIONS: Final = tuple(Operation)
_MAP: Final = re.compile(r"([A-Z]+) (/\S*)=(\w+)")
_STATUSES: Final = 1_000
_SIZES: Final = 1e15
_REQUEST: Final = "^(?P<method>[A-Z]+) (?P<path>[^ ]+)"


def patterns(maps: Iterable[str]) -> dict[Operation, str]:
    """Return a pattern (RE2) of ``METHOD PATH`` for each operation: the documented paths, and those of ``--map``.

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
    """Return the pattern of paths that end like this; ``*`` stands for a part without a slash."""
    return rf"{method} [^?#]*{re.escape(path).replace(re.escape('*'), '[^/?#]+')}"


class Numbers:
    """Numbers from 0 for texts in the order of their first occurrence; the texts themselves are never written."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def texts(self) -> list[str]:
        return [text.decode(errors="replace") for text in self._known]

    def of(self, column: pa.Array) -> NDArray[np.int32]:
        """Return the number of each text; -1 for null, an empty text and ``-``."""
        coded = column.dictionary_encode()
        known = self._known
        numbers = [
            -1 if text in (b"", b"-") else known.setdefault(text, len(known)) for text in coded.dictionary.to_pylist()
        ]
        places = coded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        found: NDArray[np.int32] = np.array([*numbers, -1], np.int32)[places]
        return found


class LogColumns(NamedTuple):
    """Requests of a log. A time or number that the log lacks is NaN or -1.

    Attributes:
        start: ns since 1970; without durations, the stamp.
        took: in ns.
        operation: place in ``OPERATIONS``.
        status: -1 without an answer.
        size: bytes of the response.
        key: number of the key, from a header.
        retry_after: number of the header's text.
        rate_limit: number of the texts of all rate-limit headers.
    """

    start: Ints
    took: Floats
    operation: NDArray[np.int8]
    status: Ints
    size: Ints
    key: NDArray[np.int32]
    address: NDArray[np.int32]
    host: NDArray[np.int32]
    retry_after: NDArray[np.int32]
    rate_limit: NDArray[np.int32]

    def where(self, condition: Any) -> "LogColumns":
        return LogColumns(*(column[condition] for column in self))


@dataclass
class LogRequests:
    """The requests found in logs so far, and counts of the other lines.

    Attributes:
        stamp: whether lines are stamped at a request's start or end; None for their format's place.
        unknown: lines that are not of the format, or have no time or status.
        others: lines with other paths.
        digits: fewest digits of a second's fraction in any file.
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
    """A line that is not of the format."""
    other_example: bytes = b""
    """A method and a path of another operation."""
    parts: list[LogColumns] = field(default_factory=list)
    keys: Numbers = field(default_factory=Numbers)
    addresses: Numbers = field(default_factory=Numbers)
    hosts: Numbers = field(default_factory=Numbers)
    waits: Numbers = field(default_factory=Numbers)
    headers: Numbers = field(default_factory=Numbers)

    def add(self, form: Format, fields: Fields, lines: pa.Array | None = None) -> None:
        """Take a block of lines; ``lines`` themselves serve for examples only."""
        n = len(fields["time"] if lines is None else lines)
        fields = {**dict.fromkeys((*ROLES, "rate_limit"), pa.nulls(n, pa.binary())), **fields}
        stamps, status, request = parse_stamps(fields["time"]), _numbers(fields["status"]), _request(fields)
        known = (stamps.ns != UNKNOWN) & ~np.isnan(status)
        known &= request.is_valid().to_numpy(zero_copy_only=False)
        self.lines += n
        self.unknown += int(n - known.sum())
        if lines is not None and not self.example and not known.all():
            self.example = lines[int(np.argmin(known))].as_py()
        operation = self._operations(request)
        self.others += int((known & (operation < 0)).sum())
        if not self.other_example and (other := known & (operation < 0)).any():
            self.other_example = request[int(np.argmax(other))].as_py()
        known &= operation >= 0
        if not known.any():
            return
        # Keys, addresses and hosts of other paths do not count.
        kept = pa.array(known)
        fields = {role: column.filter(kept) for role, column in fields.items()}
        stamped, status, operation = stamps.ns[known], status[known], operation[known]
        self.digits, self.zoneless = min(self.digits, stamps.digits), self.zoneless or stamps.zoneless
        self.formats[form.name] += len(status)
        at = self.stamp or form.stamp
        self.stamps.add(at)
        took = _took(fields)
        start = stamped - np.where(np.isnan(took), 0.0, took).astype(np.int64) if at == "end" else stamped
        columns = LogColumns(
            start, took, operation, _whole(status, _STATUSES), _whole(_numbers(fields["bytes"]), _SIZES),
            *(
                numbers.of(fields[role])
                for role, numbers in (
                    ("key", self.keys), ("address", self.addresses), ("host", self.hosts),
                    ("retry_after", self.waits), ("rate_limit", self.headers),
                )
            ),
        )  # fmt: skip
        self.parts.append(columns)

    def _operations(self, request: pa.Array) -> NDArray[np.int8]:
        found = np.full(len(request), -1, np.int8)
        for operation, pattern in self.patterns.items():
            matches = compute.match_substring_regex(request, pattern).fill_null(False)
            found[matches.to_numpy(zero_copy_only=False)] = OPERATIONS.index(operation)
        return found

    def whole(self) -> LogColumns:
        """Return all requests in order of their start."""
        columns = LogColumns(*map(np.concatenate, zip(*self.parts, strict=True)))
        return columns.where(np.argsort(columns.start, kind="stable"))


def _request(fields: Fields) -> pa.Array:
    """Return method and path of each line, null where it has none."""
    found = compute.extract_regex(fields["request"], _REQUEST)
    parts = (compute.if_else(found.is_valid(), part, None) for part in found.flatten())
    method, path = map(compute.coalesce, (fields["method"], fields["path"]), parts)
    return compute.binary_join_element_wise(method, path, b" ")


def _numbers(column: pa.Array) -> Floats:
    """Return the numbers of a column of bytes; NaN where there is none."""
    digits = compute.extract_regex(column, r"^(?P<number>-?[0-9]{1,15}(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,2})?)$")
    texts = compute.if_else(digits.is_valid(), digits.field(0), None)
    numbers = texts.cast(pa.string()).cast(pa.float64())
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)


def _whole(numbers: Floats, most: float) -> Ints:
    """Return whole numbers; -1 for NaN, zero of a status without an answer, and impossible values."""
    return np.where((numbers > 0) & (numbers < most), numbers, -1).astype(np.int64)


def _took(fields: Fields) -> Floats:
    """Return each request's duration in ns; NaN where it is unknown or below zero."""
    seconds = _numbers(fields["duration"])
    took = np.where(np.isnan(seconds), _numbers(fields["duration_ms"]) / 1e3, seconds) * 1e9
    possible: Bools = (took >= 0) & (took < 1e15)
    return np.where(possible, np.rint(took), np.nan)
