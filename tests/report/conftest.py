"""What tests of reports share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker
from plugins.browser import chromium

from loadtest.report.page import Page
from loadtest.report.run import make


@pytest.fixture(scope="session")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """The tour's run directory with its report, and the report: to be read only."""
    directory: Path = maker.tour(tmp_path_factory.mktemp("toured") / "run")
    return directory, make(directory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of a module."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    import axe_playwright_python  # noqa: PLC0415 - for these tests only

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
