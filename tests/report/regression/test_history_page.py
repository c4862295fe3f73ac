"""The page of a history: runs, verdicts, decisions, segments."""

import re
from pathlib import Path

import pytest
from plugins import made_comparisons as made

from loadtest.compare import history, history_file
from loadtest.errors import ExitCode
from loadtest.report import history as history_page
from loadtest.report.regression import main

FAST, SLOW = (made.Service(execution_ms={"greetings": median}) for median in (96.0, 162.0))


def record(path: Path) -> None:
    """Six runs, an accepted change, an invalid run, and a regressed one that waits."""
    for number in range(6):
        run = made.a_run(FAST if number < 4 else SLOW, number)
        history_file.append(path, history.run_line(run, "pass", sentence="No <b>regression</b> found."))
        if number == 4:
            reason = "the <new> model"
            history_file.append(path, history.decision_line(run.run, "accepted", reason, new_segment=True))
    invalid = made.a_run(FAST, 6, valid=False)
    history_file.append(path, history.run_line(invalid, "invalid"))
    history_file.append(path, history.run_line(made.a_run(SLOW, 7), "regressed", sentence="Slower."))


def test_the_page_shows_runs_decisions_and_segments(tmp_path: Path) -> None:
    """What waits comes with its command; the accepted change has its reason; nothing in it is markup."""
    file, page = tmp_path / "regression.jsonl", tmp_path / "history.html"
    record(file)
    assert main(["--history", str(file), "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "8 runs since 2026-01-01: 6 accepted, 1 waiting, 1 invalid; 1 regressed." in text
    assert "the &lt;new&gt; model" in text
    assert "<b>regression" not in text
    assert f"loadtest regression accept {made.a_run(SLOW, 7).run}" in text
    assert text.count("<svg") == 7  # response times open, six other metrics folded
    assert re.search(r"\b(None|nan)\b", re.sub(r"<(style|script|svg).*?</\1>", "", text, flags=re.DOTALL)) is None


def test_an_empty_history_says_so(tmp_path: Path) -> None:
    """A file without a line is a page without pictures."""
    page = history_page.build(history.History(), tmp_path / "regression.jsonl")
    assert page.statements == ("No run has been checked yet.",)
    assert not [*page.plots, *page.tables]


def test_a_history_that_is_not_there_or_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence with the file and the remedy; no page is written."""
    page = tmp_path / "history.html"
    assert main(["--history", str(tmp_path / "none.jsonl"), "--output", str(page)]) == ExitCode.USAGE
    (tmp_path / "bad.jsonl").write_text("{}\n", encoding="utf-8")
    assert main(["--history", str(tmp_path / "bad.jsonl"), "--output", str(page)]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "there is no history" in said
    assert "bad.jsonl, line 1" in said
    assert not page.exists()
