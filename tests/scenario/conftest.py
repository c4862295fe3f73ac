"""Scenarios as tests write them: a whole one, and a way to load it changed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.scenario_maker import WHOLE, document

from loadtest.scenario.parse import LoadedScenario, load_scenario


@pytest.fixture
def whole() -> dict[str, Any]:
    """A valid scenario with nearly every key, to be changed at will."""
    return copy.deepcopy(WHOLE)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedScenario]:
    """Load a scenario that is given as a table or as text."""

    def write_and_load(content: dict[str, Any] | str | bytes, *overrides: str, seed: int | None = None) -> Any:
        path = tmp_path / "mine.toml"
        text = document(content) if isinstance(content, dict) else content
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_scenario(path, overrides, seed)

    return write_and_load
