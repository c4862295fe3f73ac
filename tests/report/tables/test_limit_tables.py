import random
import re
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.record.run_info import TargetInfo
from loadtest.report.facts import not_tested
from loadtest.report.formats import render_markdown
from loadtest.report.page import Point, Table
from loadtest.report.plots import finished, limits
from loadtest.report.run import build
from loadtest.report.tables.limits import chance, observed_429_tables
from loadtest.units import Limit


def findings(directory: Path, rows: list[Any], traffic: dict[str, Any], **changes: Any) -> Findings:
    """Of a record of these rows."""
    return maker.findings(directory, maker.info(traffic, **changes), rows)


def above(**more: Any) -> tuple[list[Any], dict[str, Any]]:
    """Runs at two and a half times their limit."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, 150, 250 / 60)])}
    return maker.Simulation(traffic, **more).run(), traffic


def tables(found: Findings) -> dict[str, Table]:
    """Those that have rows, by title."""
    return {table.title: table for table in observed_429_tables(found) if table.rows}


def text(table: Table) -> str:
    """All cells of a table."""
    return " | ".join(f"{cell.text} {cell.detail}" for row in table.rows for cell in row)


def test_the_limiter_is_named_in_plain_words(tmp_path: Path) -> None:
    """Cell and sentence name it, with n and how sure that is; the tables beside it have the numbers."""
    found = findings(tmp_path / "run", *above())
    made, missing = tables(found), {point.text: point.detail for point in not_tested(found)}
    said = text(made["Inferred limiter"])
    assert made["Inferred limiter"].rows[0][1].text == "a fixed window, aligned with the wall clock"
    assert said.endswith("wall clock  |  ")
    decisions = made["Decisions compared with limiters"]
    assert [(row[1].detail, row[2].text, row[2].detail) for row in decisions.rows][:2] == [
        ("assumed", "625", "of 625"), ("best fit", "625", "of 625"),
    ]  # fmt: skip
    assert "p < 10⁻" in text(decisions)
    assert numbers(made["Decisions compared with limiters"], "Wrongly rejected", "Wrongly accepted") == ["0", "0"]
    assert numbers(made["Accepted requests per window"], "N", "Accepted, least", "most") == ["100", "100", "100"]
    assert numbers(made["Error codes of 429s"], "By error code") == ["none: 300"]
    assert "carried it" in missing["Retry-After"]
    assert missing["retries"] == "no operation was tried more than once"


def test_another_count_than_documented_is_said(tmp_path: Path) -> None:
    """What it seems to be, and that what was assumed is contradicted."""
    rows, traffic = above(limits={**maker.DOCUMENTED, "sync_run": (80, 60.0)})
    found = findings(tmp_path / "run", rows, traffic)
    said = text(tables(found)["Inferred limiter"])
    assert re.search(r"The limit’s count seems to be 7\d to 80 instead of 100\.", said)
    assert "decisions contradict the assumed limiter, a fixed window, aligned with the wall clock." in said
    drawn = limits.draw_windows(found)
    assert drawn.title == "Accepted in full windows: sync_run 80 of 100"


def numbers(table: Table, *labels: str) -> list[str]:
    """The cells of a table's first row in these columns."""
    places = [[label for label, _ in table.columns].index(label) for label in labels]
    return [table.rows[0][place].text for place in places]


def cases() -> dict[str, tuple[list[Any], dict[str, Any], dict[str, Any], str]]:
    """Records at the edges: rows, traffic, changes to the run, and what the page has to say."""
    quiet = {"t": maker.plan("sync_run", [maker.stage("within", 0, 30, 1)])}
    busy = {"t": maker.plan("sync_run", [maker.stage("within", 0, 30, 2)])}
    rows, traffic = above()
    refused = [
        maker.request("t", k, k * 500, k * 500 + 1, status=429, outcome="throttled", reason="throttled")
        for k in range(50)
    ]
    chance, shedding = random.Random(3), {"status": 429, "outcome": "throttled", "reason": "throttled"}
    shed = [
        maker.request("t", k, k * 240, k * 240 + 1, **(shedding if chance.random() < 0.4 else {})) for k in range(600)
    ]
    limits = {name: Limit(n, w) for name, (n, w) in maker.DOCUMENTED.items()}
    at_once = TargetInfo(url="http://127.0.0.1:1", embedded=True, limits=limits, limiter="concurrency")
    oracle = TargetInfo(url="http://127.0.0.1:1", embedded=True, limits=limits, limiter="oracle")
    killed = {"end": "running", "elapsed_s": None, "ended": None}
    return {
        "nothing": ([], quiet, {}, "no request was sent"),
        "no epoch": (rows, traffic, {"epoch_unix_ns": None}, "the run never reached its epoch"),
        "no 429": (
            maker.Simulation(quiet).run(),
            quiet,
            {},
            "None of 30 responses was a 429, so every algorithm fits.",
        ),
        "all 429": (refused, busy, {}, "All 50 responses were 429s, so every algorithm fits."),
        "shed": (shed, traffic, {}, "none fits"),
        "one request": (refused[:1], quiet, {}, "All 1 responses were 429s"),
        "concurrency": (maker.Simulation(quiet).run(), quiet, {"target": at_once}, "does not count in windows"),
        "unknown limiter": (rows, traffic, {"target": oracle}, "'oracle' is not a rate limiter"),
        "killed": (rows[:700], traffic, killed, "a fixed window, aligned with the wall clock"),
    }


NAMES = ("nothing", "no epoch", "no 429", "all 429", "shed", "one request", "concurrency", "unknown limiter", "killed")


@pytest.mark.parametrize("case", NAMES)
def test_whatever_is_missing_is_said_in_a_sentence(tmp_path: Path, case: str) -> None:
    """Each of them has a page, in words, with no empty table; and a plot, or the reason why there is none."""
    rows, traffic, changes, expected = cases()[case]
    found = findings(tmp_path / "run", rows, traffic, **changes)
    made = tables(found)
    assert expected in " ".join([*map(text, made.values()), *(point.detail for point in not_tested(found))])
    assert all(row[0].text and row[1].text for table in made.values() for row in table.rows)
    drawn = limits.draw_windows(found)
    assert isinstance(drawn, Point) == (case not in ("all 429", "shed", "one request", "unknown limiter", "killed"))


def test_the_report_has_it_all(tmp_path: Path) -> None:
    """The tables are in the page and in Markdown, and the plot is drawn."""
    found = findings(tmp_path / "run", *above())
    page = build(found)
    assert {"Inferred limiter", "Accepted requests per window"} <= {table.title for table in page.tables}
    assert "| a fixed window, aligned with the wall clock |" in render_markdown(page)
    plot = finished("windows", limits.draw_windows(found), png=False)
    assert "full window" in plot.title
    assert plot.svg


def test_a_chance_is_written_as_people_read_it() -> None:
    """Small ones as a bound by a power of ten."""
    assert chance(-26.7) == "p < 10⁻²⁶"
    assert chance(-2.0) == "p = 0.01"
    assert chance(0.0) == "p = 1"
