"""A comparison's page in a real browser, as narrow as a phone."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import made_comparisons as made

from loadtest.report import comparison as write

pytestmark = pytest.mark.browser


def test_axe_finds_nothing_serious_and_nothing_overflows(browser: Any, axe: str, tmp_path: Path) -> None:
    """Tables of forty metrics with long names scroll by themselves, in the dark; the script has no errors."""
    (tmp_path / "comparison.json").write_bytes(msgspec.json.encode(made.CASES["crowded"]()))
    write.make(tmp_path, tmp_path, plots=False)
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "comparison.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.querySelectorAll('tbody tr:nth-child(n+5)').forEach((one) => one.remove())")  # all alike
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []
    assert problems == []
    page.close()
