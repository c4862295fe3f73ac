"""Time stamps of log lines, of any common form, as nanoseconds since 1970."""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

import pyarrow as pa
from pyarrow import compute

_FORM: Final = (
    r"^(?P<second>[0-9]+|[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8})"
    r"(?:[.,](?P<fraction>[0-9]+))?(?P<zone> ?(?:Z|UTC|GMT|[-+][0-9]{2}:?[0-9]{2}))?$"
)
"""Seconds since 1970, ``10/Oct/2025:13:55:36 +0200``, or ISO 8601, each with or without a fraction and a zone."""
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MILLISECONDS: Final = 10**11
"""Minimum number that counts as milliseconds; as seconds, it would be in the year 5138."""
_LATEST_S: Final = 4 * 10**9
_DIGITS: Final = 9


class Stamps(NamedTuple):
    """Time stamps.

    Attributes:
        ns: nanoseconds since 1970 as integers; null without a stamp.
        digits: maximum number of digits in a second's fraction, up to 9.
        zoneless: whether any stamp has no time zone; such stamps count as UTC.
    """

    ns: pa.Array
    digits: int
    zoneless: bool


def parse_stamps(column: pa.Array) -> Stamps:
    """Parse a column of bytes."""
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
    return Stamps(ns, min(digits, _DIGITS), any(zoneless for _, _, zoneless in found))


def _seconds(text: bytes) -> tuple[int | None, int, bool]:
    """Return a stamp in ns without its fraction, 3 digits if it is in ms (else 0), and whether it has no time zone."""
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
