"""What tests of reports share."""

from pathlib import Path
from types import ModuleType

import pytest

from loadtest.report import write
from loadtest.report.report import Report


@pytest.fixture(scope="session")
def toured(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The tour's run directory with its report, and the report: to be read only."""
    directory = maker.tour(tmp_path_factory.mktemp("toured") / "run")
    return directory, write.make(directory)
