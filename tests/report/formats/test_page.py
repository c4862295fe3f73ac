"""The page in a real browser: nothing that axe calls serious, tables that sort, all of it there without JavaScript."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import made_comparisons as made

from loadtest.report import regression
from loadtest.report.page import Page

pytestmark = pytest.mark.browser
WIDER = """[...document.querySelectorAll(".cards")].filter((one) => one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.ariaLabel)"""
"""The tables that are wider than the page; those of plots' numbers may be."""
FIGURES = """[...document.querySelectorAll("figure:has(svg)")].map((one) => [one.querySelector("h3").innerText,
    one.querySelector("[role=img]").ariaLabel, one.querySelectorAll("details table tbody tr").length])"""
"""Title, text and rows of numbers of each drawing."""


@pytest.fixture(scope="module")
def address(toured: tuple[Path, Page]) -> str:
    """Of a report of the tour."""
    return str((toured[0] / "report.html").as_uri())


@pytest.mark.parametrize(
    "views",
    [[("dark", 390)], pytest.param([("light", 1200), ("light", 390), ("dark", 1200)], marks=pytest.mark.heavy)],
    ids=["dark-390", "others"],
)
def test_axe_finds_nothing_serious(browser: Any, address: str, axe: str, views: list[tuple[str, int]]) -> None:
    """On a phone and on a wide screen, light and dark; nothing overflows the page; the script has no errors.

    A drawing is one image to axe, whatever is in it. Contrast, which takes long, depends on the colours alone: it is
    looked at on a phone, once in the dark and once, in a heavy test, in the light.
    """
    for scheme, width in views:
        look_with_axe(browser, address, axe, scheme, width)


def look_with_axe(browser: Any, address: str, axe: str, scheme: str, width: int) -> None:
    """Open the page with all sections, and have axe look at it: of each table at its first row, as all are alike."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.evaluate("document.querySelectorAll('details.section').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    page.evaluate("document.querySelectorAll('tbody tr:nth-child(n+2)').forEach((one) => one.remove())")
    page.evaluate("document.querySelectorAll('svg').forEach((one) => one.replaceChildren())")
    page.evaluate(axe)
    contrast = "true" if width == 390 else "false"
    options = f"{{rules: {{'color-contrast': {{enabled: {contrast}}}}}, resultTypes: ['violations']}}"
    found = page.evaluate(f"axe.run({options})")["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}]
    assert serious == []
    assert problems == []
    page.close()


def test_tables_sort_by_their_numbers(browser: Any, address: str) -> None:
    """A click on a head sorts up, another down, a third as it was; names that were left out are filled in."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(address)
    table = page.locator("table", has=page.locator("caption", has_text="Summary"))
    before = table.locator("tbody tr").all_inner_texts()
    head = table.get_by_role("columnheader", name="Offered")

    def offered() -> list[int]:
        texts = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        return [int("".join(filter(str.isdigit, text))) for text in texts]

    head.get_by_role("button").click()
    assert offered() == sorted(offered())
    assert head.get_attribute("aria-sort") == "ascending"
    assert all(table.locator("tbody th").all_inner_texts())
    head.get_by_role("button").click()
    assert offered() == sorted(offered(), reverse=True)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    after = table.locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[1:] for row in after] == [row.split("\t")[1:] for row in before]
    page.close()


def test_the_page_is_whole_without_javascript(browser: Any, address: str) -> None:
    """The same text, whether the script runs or not."""
    texts = []
    for javascript in (True, False):
        context = browser.new_context(java_script_enabled=javascript)
        page = context.new_page()
        page.goto(address)
        texts.append(" ".join(page.locator("body").inner_text().split()))
        context.close()
    assert texts[0] == texts[1]
    assert "Bottleneck" in texts[0]


def test_folded_sections_open_where_they_are_linked(browser: Any, address: str) -> None:
    """Without JavaScript: on paper, from the list of contents, which counts them right, and from a term."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    tables = page.locator("#outcomes table").first
    page.emulate_media(media="print")
    assert "Outcomes of all operations" in page.locator("#outcomes").inner_text()
    page.emulate_media(media="screen")
    assert not tables.is_visible()
    entries = page.locator("nav li").all()
    for entry in entries:
        section = page.locator(str(entry.locator("a").get_attribute("href")))
        if entry in (entries[0], entries[-1]):  # all are links of one kind
            entry.locator("a").click()
            section.wait_for(state="visible")
        counted = dict(reversed(part.split(" ")) for part in entry.locator("small").inner_text().split(", "))
        for noun, selector in (("table", ":scope > .block table"), ("plot", ":scope > figure")):
            shown = int(counted.get(noun, 0)) or int(counted.get(f"{noun}s", 0))
            assert shown == section.locator(selector).count()
    page.goto("about:blank")
    page.goto(address)
    term = page.locator("dl.figures a.term").first
    meaning = page.locator(str(term.get_attribute("href")))
    assert not meaning.is_visible()
    term.click()
    meaning.wait_for(state="visible")
    assert term.get_attribute("title") == meaning.locator("xpath=following-sibling::dd[1]").inner_text()
    context.close()


def test_a_phone_shows_verdict_answer_and_figures_first(browser: Any, address: str) -> None:
    """Nobody scrolls for what the run has found; two plots stand open below it."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    for seen in (page.locator(".verdict .lead"), page.locator("dl.figures > div").nth(2)):
        box = seen.bounding_box()
        assert box["y"] + box["height"] <= 844
    assert page.locator("main > figure").count() == 2
    page.close()


def test_every_plot_says_what_it_shows(browser: Any, address: str) -> None:
    """Each drawing is an image with the finding as its text, and its numbers are a table that unfolds."""
    page = browser.new_page()
    page.goto(address)
    page.evaluate("document.querySelectorAll('details.section').forEach((one) => { one.open = true; })")
    drawings = page.locator("figure [role=img]")
    assert drawings.count() == page.locator("svg").count() > 5
    for title, label, rows in page.evaluate(FIGURES):
        assert label == title
        assert rows > 0, title
    page.close()


def test_the_page_of_a_comparison_is_as_good(browser: Any, axe: str, tmp_path: Path) -> None:
    """Tables of forty metrics with long names scroll by themselves, in the dark; the script has no errors."""
    (tmp_path / "comparison.json").write_bytes(msgspec.json.encode(made.CASES["crowded"]()))
    regression.make(tmp_path, tmp_path, plots=False)
    look_with_axe(browser, (tmp_path / "comparison.html").as_uri(), axe, "dark", 390)
