"""Terms in a report's texts, and what they mean."""

import html
import re

from loadtest.report.formats import TERMS, anchor, explained, linked


def test_the_first_mention_of_a_term_is_a_link() -> None:
    """In capitals, in the plural and with other spaces, too; the longest term wins, and the text stays as it is."""
    text = "Goodput & 429s: the 95\u00a0% interval of goodput, response times <p95>; time-4290"
    made = linked(text)
    assert re.findall('href="#([^"]*)"', made) == [
        "term-goodput", "term-429", "term-95-interval", "term-response-time", "term-p95",
    ]  # fmt: skip
    assert html.unescape(re.sub("<[^>]*>", "", made)) == text
    assert linked("a <b> goodput", {}) == "a &lt;b&gt; goodput"


def test_a_label_is_explained() -> None:
    """As plain text, for a table's head; nothing where nothing needs it."""
    assert explained("Goodput") == f"goodput: {TERMS['goodput']}"
    assert explained("Stage") == explained("goodput", {}) == ""


def test_each_term_has_a_place_of_its_own() -> None:
    """Links would lead astray otherwise."""
    assert len({anchor(term) for term in TERMS}) == len(TERMS)
