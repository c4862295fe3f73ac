"""Words of others (a service's error codes, job ids, headers): shown so that they can neither act nor hide.

They may hold control characters that move a terminal's cursor, marks that turn the direction of text around, a cell
that a spreadsheet takes for a formula, or an API key that came back in an answer.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote

_UNSEEN: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
"""Unicode 16's categories Cc, Cf, Cs, Zl and Zp, but for tab and line feed."""
_IN_TEXT: Final = re.compile(f"[{_UNSEEN}]")
_IN_WORD: Final = re.compile(f"[{_UNSEEN}\t\n]")
_FORMULA: Final = re.compile(r"\s*[=+\-@]")
"""How a text begins that a spreadsheet would compute (OWASP, CSV injection)."""
ODD_CELL: Final = r"^\s*[=+\-@]|[^ -~]"
"""A pattern (of RE2, as Arrow has it) that is in every text which ``csv_text`` changes."""
BLANK: Final = "[secret]"
_SURE: Final = 8
"""Characters from which a key is blanked inside of a word, too; a shorter one may be part of many."""


def visible(text: str) -> str:
    r"""A word or sentence with what is not seen of it escaped: ``\x1b``, ``\u202e``, ``\n``."""
    return text if text.isprintable() else _IN_WORD.sub(_escape, text)


def visible_text(text: str) -> str:
    """A whole text of many lines; as ``visible``, but for its tabs and line ends."""
    return _IN_TEXT.sub(_escape, text)


def csv_text(text: str) -> str:
    """A cell of CSV that every spreadsheet takes for text."""
    return visible(f"'{text}" if _FORMULA.match(text) else text)


class KeyFilter:
    """Blanks our own API keys, and other secrets that we send, in words of a service.

    As they were sent, in another case, and as they stand in a URL; one of fewer than 8 characters only where it stands
    alone.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        forms = sorted({form for key in keys if key for form in (key, quote(key, safe=""))}, key=len, reverse=True)
        self._forms = [form.lower() for form in forms]
        self._search = re.compile("|".join(map(_pattern, forms)), re.IGNORECASE)
        # Most words come again and again: codes, states, and the id of a job with each of its polls.
        self.blank = lru_cache(4096)(self._blank)
        """The text without keys."""

    def _blank(self, text: str) -> str:
        low = text.lower()
        return self._search.sub(BLANK, text) if any(form in low for form in self._forms) else text


def _pattern(key: str) -> str:
    exact = re.escape(key)
    return exact if len(key) >= _SURE else rf"(?<!\w){exact}(?!\w)"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
