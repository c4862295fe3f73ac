"""Escaping of foreign text, such as error codes, job ids and headers of a service.

Such text may contain control characters that move a terminal's cursor, or marks that reverse the text direction. A
spreadsheet may evaluate it as a formula. It may also contain an API key that the service echoes.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any, Final, TextIO
from urllib.parse import quote

import msgspec

_UNSEEN: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
"""Unicode 16's categories Cc, Cf, Cs, Zl and Zp, except tab and line feed."""
_IN_TEXT: Final = re.compile(f"[{_UNSEEN}]")
_IN_WORD: Final = re.compile(f"[{_UNSEEN}\t\n]")
_FORMULA: Final = re.compile(r"\s*[=+\-@]")
"""A spreadsheet evaluates cells that begin like this (OWASP, CSV injection)."""
ODD_CELL: Final = r"^\s*[=+\-@]|[^ -~]"
"""A pattern in RE2, which Arrow uses. It matches every text that ``csv_text`` changes."""
BLANK: Final = "[secret]"
_SURE: Final = 8
"""Keys of at least this length are redacted even within words. Ordinary words may contain a shorter key."""


def visible(text: str) -> str:
    r"""Escape the invisible characters of a word or sentence: ``\x1b``, ``\u202e``, ``\n``."""
    return text if text.isprintable() else _IN_WORD.sub(_escape, text)


def visible_text(text: str) -> str:
    """Escape the invisible characters of a multi-line text, except tabs and line feeds."""
    return _IN_TEXT.sub(_escape, text)


class _VisibleStream:
    """A text stream that escapes invisible characters, except tabs and line feeds."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        """The wrapped stream. Rich writes to it directly, because `loadtest.console` has already escaped the text."""

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(visible_text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Escape invisible characters in everything that is written to standard output and standard error."""
    out: Any = _VisibleStream(sys.stdout)
    err: Any = _VisibleStream(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield


def csv_text(text: str) -> str:
    """Return the text as a CSV cell that no spreadsheet evaluates as a formula."""
    return visible(f"'{text}" if _FORMULA.match(text) else text)


class KeyFilter:
    """Redacts our API keys, and other secrets that we send, in a service's text.

    A secret is found in any letter case, plain or URL-encoded. A secret with fewer than 8 characters is redacted only
    where it stands alone.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        forms = sorted({form for key in keys if key for form in (key, quote(key, safe=""))}, key=len, reverse=True)
        self._forms = [form.lower() for form in forms]
        self._search = re.compile("|".join(map(_pattern, forms)), re.IGNORECASE)
        # The cache pays, because codes, states and job ids repeat: every poll returns its job's id.
        self.blank = lru_cache(4096)(self._blank)
        """Return the text with its secrets redacted."""

    def _blank(self, text: str) -> str:
        low = text.lower()
        return self._search.sub(BLANK, text) if any(form in low for form in self._forms) else text


def _pattern(key: str) -> str:
    exact = re.escape(key)
    return exact if len(key) >= _SURE else rf"(?<!\w){exact}(?!\w)"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def print_json(value: Any) -> None:
    """Print a value as indented JSON, in one write. A reader such as ``head`` could close the pipe between writes."""
    print(f"{msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()}\n", end="")
