"""What tests of reports share."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from loadtest.analysis.findings import find
from loadtest.analysis.record import load_record
from loadtest.report.report import Report, build


@pytest.fixture(scope="session")
def toured(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The tour's run directory with the report that a process of its own made, and the report: to be read only."""
    directory: Path = maker.tour(tmp_path_factory.mktemp("toured") / "run")
    subprocess.run([sys.executable, "-m", "loadtest.report", str(directory)], capture_output=True, check=True)
    return directory, build(find(load_record(directory)))
