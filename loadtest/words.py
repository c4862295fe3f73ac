"""Numbers, lists and suggestions as text for display.

Numbers have few digits and commas between thousands. A missing value is a dash.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from enum import EnumType
from reprlib import Repr
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from loadtest.contract import ALL
from loadtest.units import Unit

NOTHING: Final = "–"
_NBSP: Final = "\u00a0"
"""A non-breaking space between a number and its unit."""


def count(value: float | None) -> str:
    """Format a whole number with commas between thousands."""
    return NOTHING if value is None else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """Format a time in ms without its unit: at most three significant digits below 1000."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 99.95:
        return count(value)
    if size >= 0.095:
        return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
    return f"{value:.2g}" if size >= 0.0001 else f"{value:.1e}" if size else "0"


def duration_ms(value: float | None) -> str:
    """Format a time given in ms. From 1000 ms on, it is shown in s."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f}{_NBSP}s" if abs(value) >= 1000 else f"{milliseconds(value)}{_NBSP}ms"


def quantity(value: float, unit: Unit) -> str:
    """Format a value with its unit: three significant digits, or a whole number from 100 on. Long times are in s."""
    if unit == "share":
        return f"{value * 100:.3g}{_NBSP}%"
    if unit == "ms":
        return f"{value / 1000:.2f}{_NBSP}s" if abs(value) >= 1000 else f"{_digits(value)}{_NBSP}ms"
    return f"{_digits(value)}{_NBSP}/s" if unit == "per_s" else _digits(value)


def signed(amount: float, unit: Unit) -> str:
    """Format a difference with its sign and unit: ``+12 ms``, ``−3 points``."""
    points = f"{abs(amount) * 100:.3g}{_NBSP}points"
    return f"{sign(amount)}{points if unit == 'share' else quantity(abs(amount), unit)}"


def sign(amount: float) -> str:
    """Return the sign of a difference: ``+``, ``−``, or ``±`` for zero."""
    return "−" if amount < 0 else "+" if amount > 0 else "±"


def _digits(value: float) -> str:
    return count(value) if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """Format a duration given in seconds: ``45 s``, ``3 min 5 s``."""
    if value < 60:
        return f"{value:.1f} s" if value != int(value) else f"{value:.0f} s"
    whole = round(value)
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


def share(value: float | None) -> str:
    """Format a share from 0 to 1 in percent. Only exact values become 0 % or 100 %."""
    if value is None:
        return NOTHING
    percent = value * 100
    if percent in (0, 100):
        return f"{percent:.0f}{_NBSP}%"
    if percent < 0.1:
        return f"<{_NBSP}0.1{_NBSP}%"
    return f">{_NBSP}99.9{_NBSP}%" if percent >= 99.95 else f"{percent:.1f}{_NBSP}%"


def rate(per_second: float | None) -> str:
    """Format a rate per minute, like the documented limits. From 100/s on, format it per second."""
    if per_second is None:
        return NOTHING
    if per_second >= 100:
        return f"{count(per_second)}{_NBSP}/s"
    per_minute = per_second * 60
    return f"{count(per_minute) if per_minute >= 100 else f'{per_minute:.3g}'}{_NBSP}/min"


def measured(value: float | None, unit: Unit) -> str:
    """Format a measured value. Times from 1000 ms on are in s, and rates below 100/s are per minute."""
    if unit == "number":
        return NOTHING if value is None else f"{value:.3g}"
    return {"ms": duration_ms, "per_s": rate, "share": share}[unit](value)


def limit(count_: int, window_s: float) -> str:
    """Format a limit: ``100 per minute``, ``50 per 5 s``."""
    unit = {1.0: "second", 60.0: "minute", 3600.0: "hour"}.get(window_s)
    return f"{count(count_)} per {unit}" if unit else f"{count(count_)} per {window_s:g} s"


def limited(name: str) -> str:
    """Return the words for the requests that a limit counts: the limit's name, or ``all requests``."""
    return "all requests" if name == ALL else name


def limit_name(name: str) -> str:
    """Return a limit's name in a sentence: ``sync_run limit``, ``limit of all requests``."""
    return "limit of all requests" if name == ALL else f"{name} limit"


def times(factor: float) -> str:
    """Format a factor: ``80 %`` up to 1, ``2.5 times`` above."""
    return share(factor).replace(f".0{_NBSP}%", f"{_NBSP}%") if factor <= 1 else f"{times_as(factor)} times"


def times_as(factor: float) -> str:
    """Format a factor as a number: three significant digits, or a whole number from 1000 on."""
    return f"{factor:.3g}" if abs(factor) < 999.5 else count(factor)


def times_what(factor: float) -> str:
    """Format a factor that a noun follows: ``80 % of``, ``2.5 times``."""
    return times(factor) + (" of" if factor <= 1 else "")


def listed(values: dict[str, float], say: Callable[[float], str]) -> str:
    """Format named values: ``a 1 ms, b 2 ms``. More than three become ``1 ms (a) to 9 ms (d)`` or ``1 ms each``."""
    if len(values) <= 3:
        return ", ".join(f"{name} {say(value)}" for name, value in values.items())
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    ends = say(values[low]), say(values[high])
    return f"{ends[0]} each" if ends[0] == ends[1] else f"{ends[0]} ({low}) to {ends[1]} ({high})"


def tally(counts: dict[str, int]) -> str:
    """Format counts by name: ``200: 80,  429: 20``."""
    return ",  ".join(f"{name}: {count(number)}" for name, number in counts.items()) or NOTHING


def counted(number: float, one: str, several: str = "") -> str:
    """Format a count with its noun: ``1 worker``, ``2,400 workers``. ``several`` is an irregular plural."""
    return f"{count(number)} {one if number == 1 else several or f'{one}s'}"


def joined(texts: Sequence[str], last: str = "and") -> str:
    """Join texts for a sentence: ``a, b and c``."""
    return f" {last} ".join(part for part in (", ".join(texts[:-1]), *texts[-1:]) if part)


def ordinal(number: int) -> str:
    """Format a place that is counted from 1: ``third``, ``21st``."""
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    if number <= len(words):
        return words[number - 1]
    return f"{number}{'th' if number % 100 in {11, 12, 13} else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def capital(text: str) -> str:
    """Capitalise the first letter. Unlike ``str.capitalize``, leave the rest unchanged."""
    return text[:1].upper() + text[1:]


def quoted(names: Iterable[str]) -> str:
    """Join quoted names for a sentence: ``“a”, “b” and “c”``."""
    return joined([f"“{name}”" for name in names])


def percent(share_: float, digits: int = 1) -> str:
    """Format a share in percent with a fixed number of decimals: ``47.8 %``."""
    return f"{share_:.{digits}%}".replace("%", f"{_NBSP}%")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word most similar to ``word``, or None if its similarity (``difflib``) is below ``cutoff``."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def suggestion(word: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown word: ``; did you mean 'x'?``, or ``; known here: x, y``."""
    if near := nearest(word, known):
        return f"; did you mean {near!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown word: ``Did you mean 'x'?``, or ``Valid values: x, y.``."""
    near = nearest(word, known)
    return f"Did you mean {near!r}?" if near else f"Valid values: {', '.join(known) or 'none'}."


_SHORT: Final = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_KINDS: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text in quotes",
    list: "a list",
    dict: "a table",
    dt.date: "a date, such as 2030-12-31",
}
_BOUNDS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length")


def not_valid(value: object, annotation: Any) -> str:
    """Return a sentence about a value that its type does not allow: ``0 is not a whole number from 1 to 9``.

    The type, ``annotation``, may have bounds that pydantic or msgspec attached.
    """
    kind, bounds = plain_type(annotation)
    known = list(kind) if isinstance(kind, EnumType) else get_args(kind) if get_origin(kind) is Literal else ()
    if known:
        return f"{_SHORT.repr(value)} is not valid here{suggestion(str(value), list(map(str, known)))}"
    kind = get_origin(kind) or kind
    low, high = bounds.get("ge"), bounds["lt"] - 1 if "lt" in bounds else bounds.get("le")
    span = "" if low is None else f"of at least {low:,}" if high is None else f"from {low:,} to {high:,}"
    if "gt" in bounds:
        span = f"above {bounds['gt']:,}" + ("" if high is None else f" and at most {high:,}")
    if "min_length" in bounds:
        low, high = bounds["min_length"], bounds.get("max_length")
        parts = ("character", "") if kind is str else ("entry", "entries")
        span = f"of {'at least' if high is None else f'{low} to'} {counted(high or low, *parts)}"
    return f"{_SHORT.repr(value)} is not {_KINDS.get(kind, 'a valid value')} {span}".rstrip()


def plain_type(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Return a type without Annotated and None, and its bounds, named as in pydantic and msgspec."""
    bounds: dict[str, Any] = {}
    while True:
        inner = get_args(annotation)
        if get_origin(annotation) is Annotated:
            for mark in inner[1:]:
                for each in getattr(mark, "metadata", [mark]):
                    found = {name: getattr(each, name, None) for name in _BOUNDS}
                    bounds |= {name: bound for name, bound in found.items() if bound is not None}
        elif type(None) not in inner:
            return annotation, bounds
        annotation = inner[0]
