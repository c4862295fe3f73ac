"""What the first screen says about the target, whatever the verdict is."""

import random
from pathlib import Path
from typing import Any

from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.report.formats import render_markdown
from loadtest.report.limits import bottleneck
from loadtest.report.page import Page
from loadtest.report.plots import limits
from loadtest.report.plots.style import styled
from loadtest.report.run import build
from loadtest.report.tables.target import about_target


def found(directory: Path, fates: list[dict[str, Any]], keys: int = 1, **stage: Any) -> Findings:
    """What a minute of sync runs shows, one a second, with these fates; each takes 5 ms or what it says."""
    rows = []
    for k, fate in enumerate(fates):
        at, end = k * 1000.0, k * 1000.0 + fate.get("took", 5)
        both = {"key_index": k % keys, **{name: value for name, value in fate.items() if name != "took"}}
        asked = {name: value for name, value in both.items() if name != "result_matched"}
        rows += [maker.request("t", k, at, end, **asked), maker.operation("t", k, at, end, **both)]
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 0.01, **stage)], offered=len(fates))
    return maker.findings(directory / "run", maker.info({"t": entry}, keys=keys), rows)


def said_of(findings: Findings) -> list[str]:
    """What is said of the target, with the examples."""
    return [plain(f"{point.text} {point.detail}") for point in about_target(findings)]


def plain(text: str) -> str:
    """Without the spaces that hold numbers together."""
    return text.replace("\u00a0", " ")


def test_429s_without_need_are_not_blamed_on_the_limit(tmp_path: Path) -> None:
    """At 60 % of the limit every third is refused: no limit is the constraint, and each place says so."""
    draw = random.Random(3)
    refused = {"status": 429, "outcome": "throttled", "reason": "throttled"}
    findings = found(tmp_path, [refused if draw.random() < 0.3 else {} for _ in range(60)])
    binds = bottleneck(findings)
    assert binds.startswith("429s that no limit explains")
    assert "mostly while the sync_run limit (100 per minute) was not exhausted" in binds
    assert "though no 429 was expected" in build(findings).statements[0]
    assert any("rejections (429) on the sync_run limit came before it was reached" in one for one in said_of(findings))
    with styled("rates"):
        title = limits.draw_rates(findings).title
    assert title == f"Bottleneck: {binds.rstrip('.')}"


def test_429s_of_a_limit_are_explained(toured: tuple[Path, Page]) -> None:
    """Where the assumed limiter predicts them, there is nothing to say of the target."""
    sections = {section.title: section for section in toured[1].sections}
    assert "About the target" not in sections
    assert sections["Bottleneck"].text.startswith("The poll budget")


def test_impossible_values_are_on_the_first_screen(tmp_path: Path) -> None:
    """executionTimes, results and shapes that cannot be: a sentence each, in the page's first part and in Markdown."""
    fates: list[dict[str, Any]] = [
        {"execution_time_ms": 4.0}, {"execution_time_ms": -3.0}, {"execution_time_ms": 900.0},
        {"execution_time_ms": 4.0, "result_matched": False, "outcome": "failed", "reason": "wrong_result"},
        {"outcome": "failed", "reason": "wrong_shape", "error_code": "without executionTime"},
    ]  # fmt: skip
    findings = found(tmp_path, fates)
    said, page = " ".join(said_of(findings)), build(findings)
    assert "1 of 5 run requests got a response in another shape than documented." in said
    assert "without executionTime (1)" in said
    assert "1 of 3 responses gave an executionTime below zero, which is in no percentile (-3.00 ms at worst)." in said
    assert "1 of 3 responses gave an executionTime longer than the client waited (900 ms at worst)." in said
    assert "1 of 1 responses gave a result of another request." in said
    assert page.word == "pass"
    assert "## About the target" in render_markdown(page)


def test_a_slow_key_is_named_by_its_index(tmp_path: Path) -> None:
    """Key 2 takes five times as long as the others."""
    fates = [{"took": 100 if k % 3 == 2 else 20} for k in range(60)]
    (said,) = said_of(found(tmp_path, fates, keys=3))
    assert said.startswith("Key 2 is slow: p50 of t is 100 ms, 5 times that of the other keys.")
