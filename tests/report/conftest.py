"""Gives tests the record maker, which lies with the tests of the analysis (no package: it cannot be imported)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """The record maker, as a module."""
    if "record_maker" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "record_maker", Path(__file__).parents[1] / "analysis" / "record_maker.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["record_maker"] = module
        spec.loader.exec_module(module)
    return sys.modules["record_maker"]
