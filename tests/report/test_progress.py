"""The bar of a long report: shown on a terminal, for long records, and never in an output."""

import io
from pathlib import Path

import pytest
from plugins import record_maker as maker
from rich.console import Console

from loadtest.report.run import LONG, reading


@pytest.mark.parametrize(("samples", "terminal", "shown"), [(LONG, True, True), (LONG, False, False), (9, True, False)])
def test_a_bar_where_someone_waits(tmp_path: Path, samples: int, terminal: bool, shown: bool) -> None:
    """Long and on a terminal; else there is nothing to tell and nothing is written."""
    run = maker.info({}, samples=samples)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    with reading(maker.save(tmp_path / "run", run, []), console) as told:
        assert (told is not None) == shown
        if told is not None:
            told(samples // 2)
            told(samples)
    assert ("Reading the record" in out.getvalue() or "drawing" in out.getvalue()) == shown
