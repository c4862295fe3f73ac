import csv as builtin_csv
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins import record_maker as maker
from plugins.verbs import Said

from loadtest.contract import Outcome, Reason
from loadtest.errors import ExitCode
from loadtest.foreign_text import visible_text

FORMULA = '=HYPERLINK("http://x")'


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose service sent words that act: escape sequences, a turned direction, formulas."""
    traffic = {"runs": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)])}
    rows = maker.Simulation(traffic).run()
    for row in rows:
        row.outcome, row.status, row.reason = Outcome.FAILED, 500, Reason.UNEXPECTED_STATUS
        row.error_code, row.job_id, row.job_state = f"{FORMULA}\x1b[2J\u202e", FORMULA, f"st\x07\n{FORMULA}"
    return Path(maker.save(tmp_path / "run", maker.info(traffic), rows))


def test_cells_of_a_csv_are_text(hostile: Path, loadtest: Callable[..., Said]) -> None:
    """No cell begins as a formula does, and nothing unseen is in one."""
    assert loadtest("export", str(hostile), "--to", "csv").code == ExitCode.PASS
    text = (hostile / "requests.csv").read_text(encoding="utf-8")
    assert visible_text(text) == text
    rows = list(builtin_csv.DictReader(text.splitlines()))
    assert {row["job_id"] for row in rows} == {f"'{FORMULA}"}
    assert {row["error_code"] for row in rows} == {rf"'{FORMULA}\x1b[2J\u202e"}
    assert {row["job_state"] for row in rows} == {rf"st\x07\n{FORMULA}"}


def test_a_report_shows_what_is_unseen(hostile: Path, loadtest: Callable[..., Said]) -> None:
    """In the page, Markdown, JUnit, the plots' CSVs, the metrics and on the terminal."""
    said = loadtest("report", str(hostile), LOADTEST_PLOTS="1")
    assert said.code == ExitCode.FAIL
    files = [path for path in hostile.rglob("*") if path.suffix in {".html", ".md", ".xml", ".csv", ".json"}]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files} | {"terminal": said.out + said.err}
    assert {name for name, text in texts.items() if visible_text(text) != text} == set()
    assert r"\x1b" in texts["report.md"].replace("\\\\", "\\")
    assert r"\x1b" in texts["report.html"]
