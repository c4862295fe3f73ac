"""What the first screen says about the target, whatever the verdict is."""

import random
from pathlib import Path
from typing import Any

from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.report import run as pages
from loadtest.report.plots import limits
from loadtest.report.plots.style import styled
from loadtest.report.run import Report, build, without_plots


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


def made(directory: Path, fates: list[dict[str, Any]], keys: int = 1, **stage: Any) -> Report:
    """The report of that."""
    return build(found(directory, fates, keys, **stage))


def plain(text: str) -> str:
    """Without the spaces that hold numbers together."""
    return text.replace("\u00a0", " ")


def test_429s_without_need_are_not_blamed_on_the_limit(tmp_path: Path) -> None:
    """At 60 % of the limit every third is refused: no limit is the constraint, and each place says so."""
    draw = random.Random(3)
    refused = {"status": 429, "outcome": "throttled", "reason": "throttled"}
    findings = found(tmp_path, [refused if draw.random() < 0.3 else {} for _ in range(60)])
    report = build(findings)
    assert report.bottleneck.kind == "unexplained 429s"
    assert "though the sync_run limit (100 per minute) had room for them" in report.bottleneck.words
    assert "though a fixed window of 100 per minute predicts none; none of 60 operations failed" in report.headline
    assert any("429s of the sync_run limit came though it had room" in one for one in report.target)
    with styled("rates"):
        title = limits.draw_rates(findings).title
    assert "bound the run" not in title
    assert title.endswith("though it had room")


def test_429s_of_a_limit_are_explained(toured: tuple[Path, Report]) -> None:
    """Where the assumed limiter predicts them, there is nothing to say of the target."""
    assert toured[1].target == ()
    assert toured[1].bottleneck.kind == "poll budget"


def test_impossible_values_are_on_the_first_screen(tmp_path: Path) -> None:
    """executionTimes, results and shapes that cannot be: a sentence each, in the page's first part and in Markdown."""
    fates: list[dict[str, Any]] = [
        {"execution_time_ms": 4.0}, {"execution_time_ms": -3.0}, {"execution_time_ms": 900.0},
        {"execution_time_ms": 4.0, "result_matched": False, "outcome": "failed", "reason": "wrong_result"},
        {"outcome": "failed", "reason": "wrong_shape", "error_code": "without executionTime"},
    ]  # fmt: skip
    report = made(tmp_path, fates)
    said = plain(" ".join(report.target))
    assert "1 of 5 runs were answered in another shape than the documented one: without executionTime (1)" in said
    assert "1 of 3 answers gave an executionTime below zero, which is in no percentile, at worst -3.00 ms." in said
    assert "1 of 3 answers gave an executionTime longer than the client waited, at worst 900 ms." in said
    assert "1 of 1 answers held a result that is not that of what was asked." in said
    assert report.verdict.word == "pass"
    assert "**About the target**" in pages.render_markdown(without_plots(report))


def test_a_slow_key_is_named_by_its_index(tmp_path: Path) -> None:
    """Key 2 takes five times as long as the others."""
    fates = [{"took": 100 if k % 3 == 2 else 20} for k in range(60)]
    report = made(tmp_path, fates, keys=3)
    (said,) = map(plain, report.target)
    assert said.startswith(
        "Key 2 is slower than the others: half of its 20 operations of t took 100 ms or more, 5 times"
    )
