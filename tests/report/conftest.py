"""What tests of reports share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loadtest.report import write
from loadtest.report.report import Report


@pytest.fixture(scope="session")
def toured(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The tour's run directory with its report, and the report: to be read only."""
    directory: Path = maker.tour(tmp_path_factory.mktemp("toured") / "run")
    return directory, write.make(directory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, offline. Of a module: while Playwright is on, no other test of the process can run an event loop."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed, and browser tests must run in CI")
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - slow to import, and for these tests only

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[*quiet, "--disable-component-update", "--disable-sync"]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    import axe_playwright_python  # noqa: PLC0415 - for these tests only

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
