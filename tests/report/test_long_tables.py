"""A page lists the rows that decide, and counts the others."""

from pathlib import Path

from plugins import record_maker as maker

from loadtest.report import run as run_page
from loadtest.report.page import MOST_LISTED, TableColumns, table_of


def test_a_table_that_is_too_long_for_a_page_keeps_the_rows_that_decide() -> None:
    rows = [("first", "0"), *(("", str(k)) for k in range(1, MOST_LISTED + 4))]
    columns: TableColumns[tuple[str, str]] = {"Traffic": lambda row: row[0], "#n": lambda row: row[1]}
    table = table_of("Figures", columns, rows, "A note.").listed()
    assert len(table.rows) == MOST_LISTED
    assert table.note == "A note. 4 further rows left out; the files beside this page have all numbers."
    assert table.listed() is table


def test_the_entry_of_a_broken_threshold_is_listed_though_it_comes_last(tmp_path: Path) -> None:
    stages = [maker.stage(f"stage {k}", 2 * k, 2, 1) for k in range(10)]
    traffic = {f"entry {k}": maker.plan("sync_run", stages) for k in range(18)}
    rows = maker.Simulation(traffic, limits={**maker.DOCUMENTED, "sync_run": (1000, 60.0)}).run()
    run = maker.info(traffic, thresholds=[{"require": "response_time.p50 < 1ms", "traffic": "entry 17"}])
    page = run_page.build(maker.findings(tmp_path / "run", run, rows))
    tables = {table.title: table for table in page.tables}
    summary, times = tables["Summary"], [title for title in tables if title.startswith("Times of ")]
    assert len(summary.rows) == MOST_LISTED
    assert "30 further rows left out (entry 14, entry 15, entry 16);" in summary.note
    assert summary.rows[-10][0].text == "entry 17"
    assert times == [f"Times of entry {k}" for k in (*range(11), 17)]
    further = "Times of 6 further entries (entry 11, entry 12, entry 13, entry 14, entry 15, entry 16)"
    assert further in tables["Times of entry 17"].note
