"""Numbers, lists and suggestions as people read them, written once.

Numbers have few digits, commas between thousands, and a dash where there is none.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from loadtest.contract import ALL
from loadtest.units import Unit

NOTHING: Final = "–"
_NBSP: Final = "\u00a0"
"""Between a number and its unit, which belong on one line."""


def grouped(value: float, form: str = ".0f") -> str:
    """A number, grouped by thousands."""
    return f"{value:,{form}}"


def count(value: float | None) -> str:
    """A whole number, grouped by thousands."""
    return NOTHING if value is None else grouped(value)


def milliseconds(value: float | None) -> str:
    """A time in ms without its unit: three significant digits below 1000."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 99.95:
        return count(value)
    if 0 < size < 0.095:
        return f"{value:.2g}" if size >= 0.0001 else f"{value:.1e}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def duration_ms(value: float | None) -> str:
    """A time given in ms, with the unit that suits its size."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f}{_NBSP}s" if abs(value) >= 1000 else f"{milliseconds(value)}{_NBSP}ms"


def quantity(value: float, unit: Unit) -> str:
    """A threshold's value with its unit: three significant digits or all of its whole ones; seconds from 1000 ms on."""
    if unit == "share":
        return f"{value * 100:.3g}{_NBSP}%"
    if unit == "ms":
        return f"{value / 1000:.2f}{_NBSP}s" if abs(value) >= 1000 else f"{_digits(value)}{_NBSP}ms"
    return f"{_digits(value)}{_NBSP}/s" if unit == "per_s" else _digits(value)


def signed(amount: float, unit: Unit) -> str:
    """A difference with its sign and unit: ``+12 ms``, ``−3 points``."""
    points = f"{abs(amount) * 100:.3g}{_NBSP}points"
    return f"{sign(amount)}{points if unit == 'share' else quantity(abs(amount), unit)}"


def sign(amount: float) -> str:
    """The sign of a difference: ``+``, ``−``, or ``±`` of none."""
    return "−" if amount < 0 else "+" if amount > 0 else "±"


def _digits(value: float) -> str:
    return grouped(value) if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A length of time given in seconds: ``45 s``, ``3 min 5 s``."""
    if value < 60:
        return f"{value:.1f} s" if value != int(value) else f"{value:.0f} s"
    whole = round(value)
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


def share(value: float | None) -> str:
    """A share from 0 to 1 in percent: never rounded to 0 or to 100 % when it isn't."""
    if value is None:
        return NOTHING
    percent = value * 100
    if percent in (0, 100):
        return f"{percent:.0f}{_NBSP}%"
    if percent < 0.1:
        return f"<{_NBSP}0.1{_NBSP}%"
    return f">{_NBSP}99.9{_NBSP}%" if percent > 99.95 else f"{percent:.1f}{_NBSP}%"


def rate(per_second: float | None) -> str:
    """A rate, by the minute as the documented limits are; by the second from 100 /s on."""
    if per_second is None:
        return NOTHING
    if per_second >= 100:
        return f"{count(per_second)}{_NBSP}/s"
    per_minute = per_second * 60
    return f"{count(per_minute) if per_minute >= 100 else f'{per_minute:.3g}'}{_NBSP}/min"


def measured(value: float | None, unit: Unit) -> str:
    """A measured value of a metric: times in the unit that suits their size, rates as the documented limits are."""
    if unit == "number":
        return NOTHING if value is None else f"{value:.3g}"
    return {"ms": duration_ms, "per_s": rate, "share": share}[unit](value)


def limit(count_: int, window_s: float) -> str:
    """A limit in words: ``100 per minute``, ``50 per 5 s``."""
    unit = {1.0: "second", 60.0: "minute", 3600.0: "hour"}.get(window_s)
    return f"{count(count_)} per {unit}" if unit else f"{count(count_)} per {window_s:g} s"


def limit_name(name: str) -> str:
    """A limit as a sentence calls it: ``sync_run limit``, ``limit of all requests``."""
    return "limit of all requests" if name == ALL else f"{name} limit"


def times(factor: float) -> str:
    """A factor, where one may be passed: ``80 %`` up to one, ``2.5 times`` above."""
    return share(factor).replace(f".0{_NBSP}%", f"{_NBSP}%") if factor <= 1 else f"{times_as(factor)} times"


def times_as(factor: float) -> str:
    """A factor as a number: three digits, or all of its whole ones."""
    return f"{factor:.3g}" if abs(factor) < 1000 else count(factor)


def times_what(factor: float) -> str:
    """A factor before what it is one of: ``80 % of``, ``2.5 times``."""
    return times(factor) + (" of" if factor <= 1 else "")


def listed(values: dict[str, float], say: Callable[[float], str], *, most: int = 3) -> str:
    """``a 1 ms, b 2 ms``; of more than ``most`` the least and the greatest: ``1 ms (a) to 9 ms (d)``, ``1 ms each``."""
    if len(values) <= most:
        return ", ".join(f"{name} {say(value)}" for name, value in values.items())
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    ends = say(values[low]), say(values[high])
    return f"{ends[0]} each" if ends[0] == ends[1] else f"{ends[0]} ({low}) to {ends[1]} ({high})"


def counted(number: float, one: str, several: str = "") -> str:
    """A number of things: ``1 worker``, ``2,400 workers``; ``several`` where an s does not make the plural."""
    return f"{count(number)} {one if number == 1 else several or f'{one}s'}"


def joined(texts: Sequence[str], last: str = "and") -> str:
    """A list in a sentence: ``a, b and c``."""
    return f" {last} ".join(part for part in (", ".join(texts[:-1]), *texts[-1:]) if part)


def capital(text: str) -> str:
    """A text that begins a sentence; unlike ``str.capitalize`` it leaves the rest as it is."""
    return text[:1].upper() + text[1:]


def quoted(names: Iterable[str]) -> str:
    """Names in a sentence: ``“a”, “b” and “c”``."""
    return joined([f"“{name}”" for name in names])


def percent(share_: float, digits: int = 1) -> str:
    """Return a share with a fixed number of digits: ``47.8 %``."""
    return f"{share_:.{digits}%}".replace("%", f"{_NBSP}%")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like another, or None where none is.

    Args:
        word: as somebody wrote it.
        known: what could have been meant.
        cutoff: the least similarity, from 0 to 1 (``difflib``).
    """
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def suggestion(word: str, known: Collection[str]) -> str:
    """Return the end of a sentence about an unknown word: ``; did you mean 'x'?``, or ``; known here: x, y``."""
    if near := nearest(word, known):
        return f"; did you mean {near!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown word: ``Did you mean 'x'?``, or ``There is: x, y.``."""
    near = nearest(word, known)
    return f"Did you mean {near!r}?" if near else f"There is: {', '.join(known) or 'none'}."
