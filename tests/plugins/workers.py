"""Which tests may run beside each other where several workers share them, as in `make test`.

A test goes to whichever worker is free, except that

- tests of a file with a fixture of its module stay together, so that it is made once, and those of files that look at
  the report of the tour, which takes longest;
- files with tests marked `judged` stay together, one after the other: no two real runs that have to be valid, or whose
  times are looked at, are ever made side by side.

xdist's own groups (`--dist loadgroup`) would need no code, but are lost on pytest 9.2: it no longer reads the attribute
in which they are noted (xdist 3.8).
"""

import functools
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class _Sharing(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _group(self.config.rootpath / file) or nodeid


@functools.cache
def _group(path: Path) -> str | None:
    """What a file's tests stay together with; None where each is on its own."""
    text = path.read_text(encoding="utf-8")
    if "pytest.mark.judged" in text:
        return "judged"
    if "toured: " in text:
        return "toured"
    return str(path) if 'scope="module"' in text else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Share tests in this way, unless another one was asked for by --dist."""
    return _Sharing(config, log) if config.getvalue("dist") == "load" else None
