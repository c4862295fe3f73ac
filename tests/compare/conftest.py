"""Fixtures of the tests of comparisons."""

from pathlib import Path

import pytest
from plugins.history_parts import made_line

from loadtest.compare import history_file


@pytest.fixture(name="path")
def three_runs(tmp_path: Path) -> Path:
    """A history of three runs."""
    path = tmp_path / "regression.jsonl"
    history_file.append(path, *(made_line(day) for day in range(3)))
    return path
