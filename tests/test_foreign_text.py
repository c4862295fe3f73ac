"""Words of a service, shown: they act on no terminal, spreadsheet or reader, and hold no key of ours."""

import unicodedata

import pytest

from loadtest.foreign_text import BLANK, KeyFilter, csv_text, visible, visible_text

KEY = "s3cret/Key-0123456789"


def test_everything_unseen_is_escaped_and_nothing_else() -> None:
    """By Unicode's own categories; letters of every script, and spaces of every width, stay as they are.

    Seven became marks with Unicode 15, and are escaped whether or not this Python knows them.
    """
    for number in (*range(0x20000), *range(0xE0000, 0xE1000)):
        character = chr(number)
        unseen = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} or 0x13439 <= number <= 0x1343F
        assert (visible(character) != character) == unseen, hex(number)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("two\nlines\r", r"two\nlines\r"),
        ("naïve 例 1\u2009000", "naïve 例 1\u2009000"),
    ],
)
def test_words_are_shown_escaped(raw: str, shown: str) -> None:
    """As Python writes them."""
    assert visible(raw) == shown


def test_a_whole_text_keeps_its_lines() -> None:
    """Tabs and line feeds are its own."""
    assert visible_text("a\n\tb\x9b") == "a\n\tb\\x9b"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", '=HYPERLINK("http://x")'])
def test_a_formula_becomes_text(cell: str) -> None:
    """By the quote that spreadsheets take for the mark of a text."""
    assert csv_text(cell) == visible(f"'{cell}")


@pytest.mark.parametrize("cell", ["", "ok", "a=b", "rate_limit", "x-y"])
def test_other_cells_stay(cell: str) -> None:
    """Most are plain words."""
    assert csv_text(cell) == cell


@pytest.mark.parametrize(
    ("word", "left"),
    [
        (KEY, BLANK),
        (f"bad_{KEY}_key", f"bad_{BLANK}_key"),
        (KEY.upper(), BLANK),
        ("s3cret%2FKey-0123456789", BLANK),
        ("abc is wrong", f"{BLANK} is wrong"),
        ("abcd-1", "abcd-1"),
        ("", ""),
    ],
)
def test_keys_are_blanked(word: str, left: str) -> None:
    """As they were sent, in another case, and as a URL writes them; a short one only where it stands alone."""
    assert KeyFilter([KEY, "abc"]).blank(word) == left


def test_without_keys_nothing_is_blanked() -> None:
    """An empty list is no pattern that fits everywhere."""
    assert KeyFilter([]).blank("word") == "word"
