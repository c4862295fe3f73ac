"""A page as one HTML file, with the terms of reports explained where they stand.

The file works offline, light and dark, and is readable without JavaScript: a few plots that carry the answer, then
chapters that unfold by a click, by a link, by the browser's search, and on paper. Its one script sorts tables, and
unfolds what a browser does not by itself; the page allows it by its hash, and no other.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from loadtest.foreign_text import visible_text
from loadtest.report.page import MOST_ROWS, Page

TERMS: Final[Mapping[str, str]] = {
    "429": "The answer “rate limit exceeded”. A 429 rate is the share of requests that got it.",
    "95 % interval": "It holds the true value in 95 of 100 runs like this one, as far as the note beside it says.",
    "accepted": "Sent, and let through by the rate limiter: answered with anything but 429.",
    "amplification": "Requests sent for each operation, retries included and polls left out.",
    "binding constraint": "What kept the run from doing more: the generator, a limit or the target’s capacity.",
    "dispatch lag": "How long after its time a request was handed to the network, with no wait for a free user in it.",
    "evenness": "How regular the sends were: sd ÷ mean of their number in bins of 100 ms, beside that of the schedule.",
    "executionTime": "How long the work took, as the server says.",
    "expected": "What the assumed rate limiter does with exactly the requests that were sent.",
    "fixed window": "A rate limiter that counts requests in windows of the clock, and begins at zero in each.",
    "goodput": "Operations per second that ended ok.",
    "inconclusive": "The run can’t show whether it holds: there are too few samples, or only bounds are known.",
    "marginal": "It holds, or fails, by its value; in a part of its 95 % interval it is the other way round.",
    "offered": "What the schedule asked for, whether it was sent or not.",
    "overhead": "What the client waited beyond executionTime: transport; of a job queueing and polling, too.",
    "p50": "The median: half of the times are at most this long.",
    "p95": "95 of 100 times are at most this long.",
    "p99": "99 of 100 times are at most this long.",
    "poll lag": "How long a finished job waited for the poll that saw its end.",
    "queue wait": "Of a job: from acceptance to the begin of its execution.",
    "response time": "From an operation’s intended start until its result is there, with waiting, retries and polls.",
    "saturated": "Of a window of the server: it refused something, and so was full.",
    "service time": "Of a single request, from its first byte sent to the end of its answer.",
    "sliding log": "A rate limiter that counts what it let pass in the window just before each request.",
    "start lag": "How long after its intended time an operation started.",
    "time to result": "Of a job: from its intended start until its result was seen.",
    "token bucket": "A rate limiter whose tokens return at a constant rate; each request takes one.",
    "warm-up": "The time before the first stage. It is in no figure.",
}
"""Each term, in the spelling of the report, and what it means."""


def anchor(term: str) -> str:
    """Of a term's explanation in a page."""
    return f"term-{re.sub(r'[^a-z0-9]+', '-', term.lower())}"


def _found(text: str, terms: Mapping[str, str]) -> Iterator[tuple[re.Match[str], str]]:
    """Each term that a text mentions, where it first does; spaces, capitals and a plural s may differ."""
    names = {term.lower(): term for term in sorted(terms, key=len, reverse=True)}
    if not names:
        return
    words = "|".join(re.escape(name).replace(r"\ ", r"\s") for name in names)
    seen = set()
    for match in re.finditer(rf"(?<![\w.-])({words})s?(?![\w-])", text, re.IGNORECASE):
        term = names[" ".join(match[1].lower().split())]
        if term not in seen:
            seen.add(term)
            yield match, term


def linked(text: str, terms: Mapping[str, str] = TERMS) -> Markup:
    """The text, escaped, the first mention of each term a link to its explanation, which a pointer shows."""
    parts, end = [], 0
    for match, term in _found(text, terms):
        link = Markup('<a class="term" href="#{}" title="{}">{}</a>').format(anchor(term), terms[term], match[0])
        parts += [escape(text[end : match.start()]), link]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def explained(label: str, terms: Mapping[str, str] = TERMS) -> str:
    """What the terms of a short label mean, as plain text; empty if it has none."""
    return " ".join(f"{term}: {terms[term]}" for _, term in _found(label, terms))


def render_html(page: Page) -> str:
    """The whole file: every value is escaped; only our own drawings and script are not."""
    folder = Path(__file__).parent
    script = (folder / "sorting.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    terms = TERMS if page.explains else {}
    # A drawing is made by matplotlib, which escapes the names in it.
    environment.filters |= {
        "drawing": Markup, "script": Markup, "linked": partial(linked, terms=terms),
        "explained": cache(partial(explained, terms=terms)),
    }  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.get_template("page.html.j2").render(
        page=page, terms=terms, anchor=anchor, script=script, script_hash=f"sha256-{digest}", most_rows=MOST_ROWS
    )
    return visible_text(text)
