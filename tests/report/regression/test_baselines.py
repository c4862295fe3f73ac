"""`loadtest report RUN --baseline RUN`: differences beside the figures, offline."""

from pathlib import Path

import pytest
from plugins import made_comparisons as made
from plugins import record_maker as maker
from plugins.edge_records import records

from loadtest.cli import main
from loadtest.compare.measurements import FILE_NAME
from loadtest.errors import ExitCode, InputError
from loadtest.report.run import differences, load_measurements, make

RUN = made.a_run(made.SLOWER, 100)


def test_few_baselines_are_learning() -> None:
    """Values stand side by side, and nothing is judged."""
    found = differences(RUN, [made.a_run(made.PLAIN, k) for k in range(2)])
    assert found.title == "Against 2 baselines"
    assert found.text.startswith("Learning: 3 of 5")
    assert found.tone == "unsure"
    assert len(found.tables[0].rows) == 24


def test_five_baselines_are_judged_whatever_their_order() -> None:
    """The rule's own words; a run given twice counts once."""
    baselines = [made.a_run(made.PLAIN, k) for k in range(6)]
    found = differences(RUN, [*reversed(baselines), baselines[0]])
    assert found.title == "Against 6 baselines"
    assert found.text.startswith("greetings: response time p50 +")
    assert found.tone == "unsure"  # suspected, as of a first check
    assert found == differences(RUN, baselines)


def test_other_limits_are_named() -> None:
    """What is not comparable says in which field."""
    found = differences(RUN, [made.a_run(made.PLAIN, k, target=made.OTHER_LIMITS) for k in range(5)])
    assert "limits" in found.text
    assert found.tone == "bad"
    assert not found.tables


def test_a_run_is_not_its_own_baseline() -> None:
    """It would agree with itself."""
    with pytest.raises(InputError, match="its own baseline"):
        differences(RUN, [RUN])


def test_a_report_with_a_baseline(tmp_path: Path) -> None:
    """Of two real records: it is on the page and in Markdown; the verdict is as it is without."""
    info, rows = records()["one operation"]
    run = maker.save(tmp_path / "run", info, rows)
    verdict = make(run, plots=False).verdict
    info.id = "20250101T000000Z-earlier-000000"
    baseline = maker.save(tmp_path / "baseline", info, rows)
    page = make(run, plots=False, baselines=[baseline])
    assert page.verdict == verdict
    assert "Against 1 baseline" in (run / "report.html").read_text(encoding="utf-8")
    assert "Against 1 baseline" in (run / "report.md").read_text(encoding="utf-8")
    # It was measured from the record, and what the report writes is the same.
    assert not (baseline / FILE_NAME).exists()
    measured = load_measurements(baseline)
    make(baseline, plots=False)
    assert load_measurements(baseline) == measured


def test_a_baseline_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answered before anything is read."""
    run = maker.save(tmp_path / "run", *records()["one operation"])
    assert main(["report", str(run), "--baseline", "no-such-run"]) == ExitCode.USAGE
    assert "'no-such-run' is not a run" in capsys.readouterr().err
